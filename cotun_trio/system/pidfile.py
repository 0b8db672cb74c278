"""The pid file: made by this process alone, gone when it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "cotun.pid"
"""In the working directory, as the Go programs."""


MAX_SIZE = 64
"""Bytes that are read: a longer file is no pid file."""
ATTEMPTS = 3
"""Others may make the file, and remove it, in the same moment."""


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold a file at `path` with our process number in it.

    One that a dead process left behind is replaced.  Raises `UsageError` where the process in it
    lives, or the file cannot be made.
    """
    _claim(path)
    try:
        yield
    finally:
        if _content(path) == str(os.getpid()):  # and not that of another process by now
            path.unlink(missing_ok=True)


def _claim(path: Path) -> None:
    for _ in range(ATTEMPTS):
        try:
            _create(path)
        except FileExistsError:
            _remove_stale(path)
        except OSError as error:
            raise UsageError(f"cannot make the pid file {path}: {error.strerror}") from None
        else:
            return
    raise UsageError(f"cannot make the pid file {path}: {os.strerror(errno.EEXIST)}")


def _create(path: Path) -> None:
    # O_EXCL: never through a symbolic link, never over a file that is there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Another kind of file in its place, such as a FIFO, must not make us wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    """Return the content of the file; empty where it is no regular file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return ""
    return os.read(descriptor, MAX_SIZE).decode("ascii", errors="replace").strip()


def _content(path: Path) -> str:
    """Return the content of the file; empty where it cannot be read."""
    with contextlib.suppress(OSError), _opened(path) as descriptor:
        return _read(descriptor)
    return ""


def _remove_stale(path: Path) -> None:
    """Remove the file of a process that has ended.  Raises `UsageError` where it is another."""
    try:
        with _opened(path) as descriptor:
            text = _read(descriptor)
            if not re.fullmatch("[1-9][0-9]{0,9}", text):
                raise UsageError(f"{path} is not a pid file: it is left alone")
            if _lives(int(text)):
                raise UsageError(f"the process {text} of the pid file {path} is running already")
            # Two may have found the same stale file: the slower one must not remove the new file of
            # the other.  So only the holder of the lock removes it, after another look.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
    except FileNotFoundError:
        pass  # somebody else has removed it
    except BlockingIOError:
        raise UsageError(f"another process is about to replace the pid file {path}") from None
    except OSError as error:
        raise UsageError(f"cannot read the pid file {path}: {error.strerror}") from None


def _lives(number: int) -> bool:
    if number == os.getpid():  # in a container, the last run had the same number
        return False
    try:
        os.kill(number, 0)
    except PermissionError:
        return True  # and is somebody else's
    except (ProcessLookupError, OverflowError):
        return False
    return True
