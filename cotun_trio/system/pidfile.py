"""The pid file: held by one process, gone when that ends.

A number in a file is no identity: after a power cut, it is some other program's.  So the process
keeps the file open and holds a lock on it (flock(2)), which ends with the process, however that
ends.  A file that nobody has locked is left over, whatever its number is.
"""

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
ATTEMPTS = 5
"""Others may make the file, and remove it, in the same moment."""


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold a file at `path` with our process number in it.

    One that nobody holds is replaced.  Raises `UsageError` where another process holds it, or the
    file cannot be made.
    """
    descriptor = _claim(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(descriptor, path):  # and not that of another process by now
                path.unlink()
        os.close(descriptor)


def _claim(path: Path) -> int:
    """Make the file and lock it; return its descriptor."""
    for _ in range(ATTEMPTS):
        try:
            descriptor = _create(path)
        except FileExistsError:
            _remove_stale(path)
        except OSError as error:
            raise UsageError(f"cannot make the pid file {path}: {error.strerror}") from None
        else:
            if descriptor is not None:
                return descriptor
    raise UsageError(f"cannot make the pid file {path}: {os.strerror(errno.EEXIST)}")


def _create(path: Path) -> int | None:
    """Make the file and lock it.

    Returns None where another process has found it before it was locked, and takes it for a stale
    one.  Raises `OSError`.
    """
    # O_EXCL: never through a symbolic link, never over a file that is there.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
        # From here on, no process removes it any more; but one may have done so before.
        if _lock(descriptor) and _is_at(descriptor, path):
            return descriptor
    except OSError:
        with contextlib.suppress(OSError):
            if _is_at(descriptor, path):
                path.unlink()
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    """Lock the file until the descriptor is closed; return whether it was not locked already."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Another kind of file in its place, such as a FIFO, must not make us wait.
    try:
        # NFS locks only what can be written.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str | None:
    """Return the number in the file as text, empty after a power cut; None if it is no pid file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    data = os.read(descriptor, MAX_SIZE)
    text = data.decode("ascii", errors="replace").strip()
    return text if not data or re.fullmatch("[1-9][0-9]{0,9}", text) else None


def _remove_stale(path: Path) -> None:
    """Remove the file of a process that has ended.  Raises `UsageError` where it is another."""
    try:
        with _opened(path) as descriptor:
            number = _read(descriptor)
            if number is None:
                raise UsageError(f"{path} is not a pid file: it is left alone")
            if not _lock(descriptor):
                holder = f"the process {number}" if number else "another process"
                raise UsageError(f"{holder} of the pid file {path} is running already")
            # Two may have found the same stale file: the slower one must not remove the new file of
            # the other.  So only the holder of the lock removes it, after another look.
            if _is_at(descriptor, path):
                path.unlink()
    except FileNotFoundError:
        pass  # another process has removed it
    except OSError as error:
        raise UsageError(f"cannot read the pid file {path}: {error.strerror}") from None
