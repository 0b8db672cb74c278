"""Who may log in."""

from __future__ import annotations

import hmac

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


class Users:
    """The users of a server.  Without any, everybody is let in, as by the Go programs."""

    def __init__(self, only: Credentials | None = None) -> None:
        self._only = only

    def verify(self, user: str, password: str) -> bool:
        """Return whether `password` is the password of `user`, in the same time for either no."""
        if self._only is None:
            return True
        same_user = hmac.compare_digest(user.encode(), self._only.user.encode())
        same_password = hmac.compare_digest(password.encode(), self._only.password.encode())
        return same_user and same_password
