"""Limits on the sessions of one user at a time.

Each costs memory and a descriptor, and without a limit, one user could take those of all others.
Where there are no users, all clients are the same user, and there is no limit.  But the last
descriptors, which are kept for logins, are for one session of each user, or of each source where
there are no users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotun_trio.access.startups import SourceCounts


class UserSession:
    """The place of one session.  `leave` gives it back."""

    __slots__ = ("_counts", "_owner")

    def __init__(self, counts: SourceCounts, owner: str) -> None:
        self._counts: SourceCounts | None = counts
        self._owner = owner

    def leave(self) -> None:
        """Make room: the session has ended.  Can be called again."""
        if self._counts is not None:
            self._counts.change(self._owner, -1)
            self._counts = None


class UserSessions:
    """Gives places: `limit` for each user, 0 for no limit.  `counts` is where they are counted."""

    def __init__(self, limit: int, counts: SourceCounts) -> None:
        self._limit = limit
        self._counts = counts

    def enter(
        self, owner: str, *, limited: bool = True, scarce: bool = False
    ) -> UserSession | None:
        """Return a place for a session of `owner`, or None where there is no room.

        `limited` says that the owner is a user, not a source; `scarce` that only an owner without
        a session can have one.
        """
        present = self._counts.of(owner)
        if (limited and 0 < self._limit <= present) or (scarce and present):
            return None
        self._counts.change(owner, 1)
        return UserSession(self._counts, owner)
