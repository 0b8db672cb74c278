"""The pid file: made by this process alone, gone when it ends."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "cotun.pid"
"""In the working directory, as the Go programs."""


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold a file at `path` with our process number in it.

    One that a dead process left behind is replaced.  Raises `UsageError` where the process in it
    lives, or the file cannot be made.
    """
    try:
        _create(path)
    except FileExistsError:
        _remove_stale(path)
        try:
            _create(path)
        except OSError as error:
            raise UsageError(f"cannot make the pid file {path}: {error.strerror}") from None
    except OSError as error:
        raise UsageError(f"cannot make the pid file {path}: {error.strerror}") from None
    try:
        yield
    finally:
        if _content(path) == str(os.getpid()):  # and not somebody else's by now
            path.unlink(missing_ok=True)


def _create(path: Path) -> None:
    # O_EXCL: never through a symbolic link, never over a file that is there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def _content(path: Path) -> str:
    """Return what is in the file; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""


def _remove_stale(path: Path) -> None:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if not re.fullmatch("[1-9][0-9]{0,9}", text):
            raise UsageError(f"{path} is not a pid file: it is left alone")
        try:
            if int(text) == os.getpid():  # in a container, the last run had the same number
                raise ProcessLookupError
            os.kill(int(text), 0)
        except PermissionError:
            pass  # it lives, and is somebody else's
        except (ProcessLookupError, OverflowError):
            path.unlink(missing_ok=True)
            return
    except OSError as error:
        raise UsageError(f"cannot read the pid file {path}: {error.strerror}") from None
    raise UsageError(f"the process {text} of the pid file {path} is running already")
