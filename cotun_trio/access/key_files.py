"""Files with a host key in them: read with care, written for their owner only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cotun_trio.access.ck_keys import is_ck_key
from cotun_trio.access.files import read_file
from cotun_trio.access.host_keys import decode_host_key, without_base64
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.access.files import File
    from cotun_trio.access.host_keys import HostKey

MAX_SIZE = 64 * 1024
"""Octets of a key file: an RSA key of 16384 bits takes 13,000, a certificate beside it a few."""
OTHERS = stat.S_IRGRP | stat.S_IROTH
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def load_host_key(text: str, warn: Callable[[str], None]) -> HostKey:
    """Return the host key that `text` is, as a ``ck-`` key or base64, or names, as the path of a
    file.

    `warn` is called with a line where a file is open to others than its owner.  Raises
    `UsageError`, which shows nothing of the key, nor `text` unless there is a file of that name:
    it may be a key in the wrong form.
    """
    octets = text.encode("utf-8", "surrogateescape")
    if without_base64(octets) is not octets:
        return decode_host_key(octets)
    if is_ck_key(octets):
        try:
            return decode_host_key(octets)
        except UsageError as error:
            raise UsageError(f"{error}; a file whose name begins with ck- is ./ck-…") from None
    file = _read(text)
    if len(file.data) > MAX_SIZE:
        raise UsageError(f"the key file {escape(text)} has over {MAX_SIZE} bytes: it is no key")
    if file.mode & OTHERS:
        warn(f"the key file {escape(text)} can be read by others than its owner: chmod 600 it")
    try:
        return decode_host_key(file.data)
    except UsageError as error:
        raise UsageError(f"the key file {escape(text)}: {error}") from None


def _read(path: str) -> File:
    """Return the content of a file, up to a byte more than is allowed, and its mode."""
    number, reason = errno.ENOENT, ""
    try:
        return read_file(path, most=MAX_SIZE + 1, secret=True)
    except UsageError as error:
        raise UsageError(f"the key file {error}") from None
    except OSError as error:
        number, reason = error.errno or 0, error.strerror or ""
    except ValueError:
        pass  # a NUL in it: no path
    if number in _NO_FILE:
        raise UsageError("there is no such file: give the path of a PEM or ck- file, or a ck- key")
    raise UsageError(f"cannot read the key file {escape(path)}: {reason}")


def write_key_file(path: str, text: str, *, force: bool) -> None:
    """Make a file with `text` in it that only its owner can read.

    A symbolic link is never followed.  A file that exists is replaced, as a whole, with `force`
    only; and never one that is not a regular file.  Raises `UsageError` that says why there is no
    new file.
    """
    shown = escape(path)
    try:
        _create(path, text, replace=force and _is_file(path))
    except FileExistsError:
        way = "it is not a regular file" if force else "with --force it would be replaced"
        raise UsageError(f"{shown} exists already and is left as it is: {way}") from None
    except OSError as error:
        raise UsageError(f"cannot write the key file {shown}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{shown!r} is not a path") from None


def _is_file(path: str) -> bool:
    """Return whether there is a regular file at `path` itself."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _create(path: str, text: str, *, replace: bool) -> None:
    if replace:
        descriptor, made = tempfile.mkstemp(prefix=".", dir=Path(path).parent)  # with mode 0600
    else:
        # O_EXCL: never over a file that is there, nor through a symbolic link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor, made = os.open(path, flags, 0o600), path
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if replace:
            Path(made).replace(path)  # over a link too, never through it
    except BaseException:
        with contextlib.suppress(OSError):
            Path(made).unlink()
        raise
