"""Files that are noticed when they change, however that is done.

Editors write in place or rename over, orchestrators swap a symbolic link that stands somewhere in
the path (Kubernetes' ``users.json -> ..data/users.json``, ``..data -> ..2026_11_24``), others
delete and make anew; and whole directories come and go.  So it is not the file that is watched but
every directory in which a part of its path is looked up, links followed.  An event in one of them
says only that it is time to look.  A survey of the path decides: it holds the identity of each part
and, for the last one, all figures that change with its content or its mode.

The library behind it, watchfiles, waits in a thread and asks there ten times a second whether
there is news: its price for working on every system.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.errors import UsageError
from cotun_trio.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

STEP = 100
"""Milliseconds without news that end a burst of changes."""
MAX_BURST = 600
"""Milliseconds after which a burst that does not end is looked at in its midst."""
PAUSE = 10.0
"""Seconds before another try where the system has no more means to watch files, but had some."""
FAILURES = (OSError, RuntimeError)
"""Raised where the system has no means to watch; the library's own error is a `RuntimeError`."""
MAX_LINKS = 40
"""Symbolic links in a path: Linux's limit (path_resolution(7))."""


log = get_logger("watch")


@attrs.frozen
class Survey:
    """The files that some paths lead to at present."""

    directories: frozenset[str]
    """The directories in which their parts are looked up."""
    parts: tuple[object, ...]
    """The identities of the parts; equal as long as opening the paths has the same result."""


def survey(paths: Sequence[Path]) -> Survey:
    """Look at each part of `paths`, in the way the system finds a file.  May block."""
    directories: set[str] = set()
    parts: list[object] = []
    for path in paths:
        left = list(path.absolute().parts[1:])
        where, links = "/", 0
        while left:
            directories.add(where)
            name = left.pop(0)
            part = os.path.normpath(os.path.join(where, name))  # noqa: PTH118  Path has no ".."
            try:
                status = os.lstat(part)
                link = str(Path(part).readlink()) if stat.S_ISLNK(status.st_mode) else None
            except OSError as error:
                parts.append((part, error.errno))
                break
            identity = (part, link, status.st_dev, status.st_ino, status.st_mode, status.st_uid)
            if link is not None:
                parts.append(identity)
                links += 1
                if links > MAX_LINKS:
                    break
                target = Path(link)
                left[:0] = target.parts[1:] if target.is_absolute() else target.parts
                where = "/" if target.is_absolute() else where
            elif left:
                # A directory: other changes in it do not matter.
                parts.append(identity)
                where = part
            else:
                parts.append((identity, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return Survey(frozenset(directories), tuple(parts))


async def watch_files(
    paths: Sequence[Path],
    changed: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` whenever opening one of `paths` may have a new result, until cancelled.

    That is well within a second of the change; many changes in a row may give one call.  It is also
    called at the beginning, since the content that was read before may be old.  Started when
    nothing can be missed any more.

    Raises `UsageError` where the system or the installation has no means for it, before it has
    started; never later.
    """
    before: Survey | None = None
    while True:
        now = await trio.to_thread.run_sync(survey, paths, abandon_on_cancel=True)
        try:
            watcher = _arm(now.directories)
        except FileNotFoundError:
            continue  # one of them has gone meanwhile
        except FAILURES as error:
            if before is None:
                raise UsageError(f"cannot watch {paths[0]} for changes: {error}") from None
            await _pause(paths[0], error)
            continue
        armed_for = now.directories
        while True:
            # After arming, so that nothing falls in between.
            now = await trio.to_thread.run_sync(survey, paths, abandon_on_cancel=True)
            if now != before:
                before = now
                await changed()
            if now.directories != armed_for:
                break
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            try:
                events = await _wait(watcher)
            except FAILURES as error:
                await _pause(paths[0], error)
                break
            if not armed_for.isdisjoint(events):
                break  # the watched directory may have another name now, and another one its name


async def _pause(path: Path, error: Exception) -> None:
    log.warning("cannot watch %s for changes at present: %s", path, error)
    await trio.sleep(PAUSE)


def _arm(directories: Iterable[str]) -> Any:
    """Return a watcher of those of `directories` that we may read.  Raises `FAILURES`."""
    return _watcher_class()(
        sorted(filter(_may_be_watched, directories)),
        debug=False,
        force_polling=False,
        poll_delay_ms=0,
        recursive=False,
        # With this, the library would ignore every failure: also a directory that has gone, and
        # that the system watches no more of them.
        ignore_permission_denied=False,
    )


def _may_be_watched(directory: str) -> bool:
    """Return whether we may read a directory: of any other, there are no events (inotify(7))."""
    try:
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        return False
    except OSError:
        pass  # the watcher raises it, too
    return True


async def _wait(watcher: Any) -> set[str]:
    """Wait for an event, and for the end of the burst that it may be a part of.

    Returns the paths that the events are about.

    When cancelled, the thread that waits ends within STEP, and the watcher with it.
    """
    stop = threading.Event()
    try:
        events: set[tuple[int, str]] = await trio.to_thread.run_sync(
            watcher.watch, MAX_BURST, STEP, 0, stop, abandon_on_cancel=True
        )
    finally:
        stop.set()
    return {path for _, path in events}


def _watcher_class() -> Any:
    try:
        # The half of the library that waits; the other half would keep a cancellation waiting.
        from watchfiles._rust_notify import RustNotify
    except ImportError:
        raise UsageError(
            "to notice changes of files takes watchfiles, which is missing: pip install watchfiles"
        ) from None
    return RustNotify
