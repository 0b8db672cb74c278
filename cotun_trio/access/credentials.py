"""Credentials: a user name and a password, as a client gives them."""

from __future__ import annotations

import attrs

from cotun_trio.access.files import read_named
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

MAX_LINE = 64 * 1024
"""Bytes of a file with a password that are looked at."""


@attrs.frozen
class Credentials:
    """A user name and a password, which is never printed."""

    user: str
    password: str = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Read ``user:password``; the first colon separates them.  Raises `UsageError`."""
        user, colon, password = text.partition(":")
        if not colon:
            # The text may well be a password: it is not shown.
            raise UsageError("credentials are written user:password, and this has no colon")
        try:
            text.encode()
        except UnicodeEncodeError:  # bytes from the command line or the environment
            raise UsageError("a user name and a password have to be UTF-8") from None
        return cls(user, password)


def to_credentials(value: Credentials | tuple[str, str] | str | None) -> Credentials | None:
    """Return the credentials that `value` is, perhaps as ``user:password`` or a pair of both.

    Raises `UsageError`.
    """
    if isinstance(value, str):
        return Credentials.parse(value)
    if value is None or isinstance(value, Credentials):
        return value
    if not (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    ):
        raise UsageError("auth is 'user:password', or a tuple of both")
    return Credentials(*value)


def read_credentials(path: str) -> Credentials | None:
    """Read ``user:password`` from the first line of a file; None where that is empty.

    Raises `UsageError` that names the file, also where others than its owner could change it.
    """
    file = read_named("the password file", path, most=MAX_LINE, secret=True, first_line=True)
    try:
        text = file.data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise UsageError(f"the password file {escape(path)} is not UTF-8") from None
    try:
        return Credentials.parse(text) if text else None
    except UsageError as error:
        raise UsageError(f"the password file {escape(path)}: {error}") from None
