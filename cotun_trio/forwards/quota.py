"""The limit that all sessions of a server share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.counts import OwnCount

if TYPE_CHECKING:
    from cotun_trio.counts import Count


class Quota:
    """The limit for the connections of all sessions together; 0 is for no limit.

    `count` counts the present ones.
    """

    def __init__(self, limit: int, count: Count | None = None) -> None:
        self._limit = limit
        self.count = OwnCount() if count is None else count

    @property
    def used_up(self) -> bool:
        """Whether the limit is reached."""
        return 0 < self._limit <= self.count.total
