"""How many sessions at a time a user may have that has logged in.

Each costs memory and a descriptor, and without a limit, one user could take those of all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotun_trio.access.startups import Tally


class UserSession:
    """The place of one session.  `leave` gives it back."""

    __slots__ = ("_tally", "_user")

    def __init__(self, tally: Tally, user: str) -> None:
        self._tally: Tally | None = tally
        self._user = user

    def leave(self) -> None:
        """Make room: the session has ended.  Can be called again."""
        if self._tally is not None:
            self._tally.change(self._user, -1)
            self._tally = None


class UserSessions:
    """Gives places: `limit` for each user, 0 for no limit.  `tally` is where they are counted."""

    def __init__(self, limit: int, tally: Tally) -> None:
        self._limit = limit
        self._tally = tally

    def enter(self, user: str) -> UserSession | None:
        """Return a place, or None where the user has as many sessions as there may be."""
        if 0 < self._limit <= self._tally.of(user):
            return None
        self._tally.change(user, 1)
        return UserSession(self._tally, user)
