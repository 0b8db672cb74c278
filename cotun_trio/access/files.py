"""Files that people write: users, keys, passwords, certificates, options.

All are read here, for two things that they have in common.  Editors may put a byte order mark
(U+FEFF, RFC 3629 section 6) in front, which means nothing.  And a file that decides who comes in is
not used where others could change it: ssh's StrictModes is the model.

Others are everybody, and the file's group.  Left out is the group that a user alone is in, by the
custom that it has the user's name: many systems have it write by default.  The owner is believed,
whatever its number is: containers see the files of their host with the host's numbers.  The
directory counts, too, as a file in it can be replaced; with its sticky bit, only by the owner.
"""

from __future__ import annotations

import codecs
import grp
import os
import pwd
import stat
from pathlib import Path

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape


@attrs.frozen
class File:
    """The content of a file, and its mode."""

    data: bytes
    """Without a byte order mark."""
    marked: bool
    """Whether it has one."""
    mode: int


def read_file(path: str, *, most: int = -1, secret: bool = False, first_line: bool = False) -> File:
    """Read a file, or `most` bytes of it, or of its first line.

    Raises `OSError`; `ValueError` where that is no path; and `UsageError` where it is `secret` (a
    key, users, a password), and others could change it.
    """
    with Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        # A pipe or a terminal is whose it is: a shell's <(…) has nothing to check.
        if secret and stat.S_ISREG(status.st_mode):
            _check_writers(path, status)
        # Of a pipe, what comes after the line is not waited for.
        data = file.readline(most) if first_line else file.read(most)
    bare = data.removeprefix(codecs.BOM_UTF8)
    return File(bare, bare is not data, status.st_mode)


def read_named(
    name: str, path: str, *, most: int = -1, secret: bool = False, first_line: bool = False
) -> File:
    """Do as `read_file`; each error is a `UsageError` with `name`, such as “the users file”."""
    try:
        return read_file(path, most=most, secret=secret, first_line=first_line)
    except UsageError as error:
        raise UsageError(f"{name} {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read {name} {escape(path)}: {error.strerror}") from None
    except ValueError:  # a NUL in it
        raise UsageError(f"cannot read {name}: '{escape(path)}' is not a path") from None


def _check_writers(path: str, status: os.stat_result) -> None:
    """Raise `UsageError` where others than its owner could change a file."""
    if _others_write(status):
        shown = escape(path)
        raise UsageError(f"{shown} can be changed by others than its owner: chmod go-w {shown}")
    # That of the name, and that of the file itself where the name is a link.
    for directory in dict.fromkeys((Path(path).absolute().parent, Path(path).resolve().parent)):
        of_directory = directory.stat()
        if _others_write(of_directory) and not of_directory.st_mode & stat.S_ISVTX:
            shown = escape(str(directory))
            raise UsageError(
                f"{escape(path)} can be replaced by others than its owner, as they can write to "
                f"its directory: chmod go-w {shown}"
            )


def _others_write(status: os.stat_result) -> bool:
    """Return whether others than the owner may write."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private(status.st_gid, status.st_uid)


def _is_private(group: int, user: int) -> bool:
    """Return whether a group is that of a user alone: by the same name, and with no other in it."""
    try:
        owner, of = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:  # a number without a name
        return False
    return (
        owner.pw_gid == group and of.gr_name == owner.pw_name and set(of.gr_mem) <= {owner.pw_name}
    )
