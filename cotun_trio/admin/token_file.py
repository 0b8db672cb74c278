"""The file of the admin interface's token."""

from __future__ import annotations

import os
import re
import secrets
import stat

from cotun_trio.access.files import read_named
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

NAME = "the admin token's file"
_FORM = re.compile(rb"[A-Za-z0-9._~+/-]{16,512}=*")
"""Characters of a bearer token (RFC 6750 section 2.1), not so few that they can be guessed."""


def new_token() -> str:
    """Return a token that nobody can guess: 256 bits."""
    return secrets.token_urlsafe(32)


def read_or_make(path: str) -> tuple[str, bool]:
    """Return the token in a file, and whether the file was made for that, readable by us alone.

    Raises `UsageError` where it cannot be read or made, or others can read or change it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path), False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a path"
        raise UsageError(f"cannot make {NAME} {escape(path)}: {reason}") from None
    token = new_token()
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    return token, True


def _read(path: str) -> str:
    found = read_named(NAME, path, most=1024, secret=True, first_line=True)
    if found.mode & stat.S_IROTH:
        shown = escape(path)
        raise UsageError(f"{NAME} {shown} can be read by everybody: chmod 600 {shown}")
    data = found.data.strip()
    if not _FORM.fullmatch(data):
        raise UsageError(
            f"{NAME} {escape(path)} has no token: remove it, and it is made anew, or write 16 to "
            "512 letters, digits and -._~+/ on its first line"
        )
    return data.decode()
