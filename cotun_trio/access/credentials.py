"""Credentials: a user name and a password, as a client gives them."""

from __future__ import annotations

import attrs

from cotun_trio.errors import UsageError


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


def to_credentials(value: Credentials | tuple[str, str] | None) -> Credentials | None:
    """Return the credentials that `value` is, perhaps as a pair of user and password."""
    return Credentials(*value) if isinstance(value, tuple) else value
