"""How much a peer may send on a channel before some of it is taken: more on a long, fat link.

A fixed window limits one stream to a window for each round trip: 2 MiB in 200 ms are 10 MB/s,
however fast the link is.  So the window of a channel grows where it is the window that limits it:
when more than half of it was taken within one round trip, it doubles, much like TCP's on the
receiving side.  The round trip is the shortest that was ever measured in the session: bandwidth
times delay decides, and not how long bytes wait in queues.  So nothing grows on a short link, and
no queue becomes longer for others.

What windows have grown by is memory that stalled readers could cost, so all of a session together
grow by `MAX_GROWTH` at the most.
"""

from __future__ import annotations

WINDOW = 2 * 1024 * 1024
"""Bytes that a peer may send at first: Go's figure."""
MAX_GROWTH = 64 * 1024 * 1024
"""Bytes by which the windows of one connection may grow, all together: 300 MB/s at 200 ms."""
STEPS = 4
"""Into how many parts the opening of a window again is divided: few adjustments, and it never runs
dry."""


class Link:
    """What is known of a connection's link, and what its windows may still grow by."""

    __slots__ = ("growth_left", "round_trip")

    def __init__(self) -> None:
        self.round_trip: float | None = None
        """Seconds: the shortest that was measured."""
        self.growth_left = MAX_GROWTH

    def measured(self, round_trip: float) -> None:
        """Note a round trip, in seconds."""
        if self.round_trip is None or round_trip < self.round_trip:
            self.round_trip = round_trip


class Growth:
    """Makes the window of one channel grow, from `now` on, a time of a clock in seconds."""

    __slots__ = ("_link", "_since", "_taken", "size")

    def __init__(self, link: Link, now: float) -> None:
        self.size = WINDOW
        """Bytes of the whole window."""
        self._link = link
        self._since = now
        self._taken = 0

    def taken(self, count: int, now: float) -> int:
        """Note that `count` bytes were taken; return by how many the window grows."""
        self._taken += count
        elapsed, round_trip = now - self._since, self._link.round_trip
        if round_trip is None or elapsed < round_trip:
            return 0
        in_a_round_trip = self._taken * round_trip / elapsed if elapsed else 0
        self._since, self._taken = now, 0
        if in_a_round_trip <= self.size / 2:
            return 0
        more = min(self.size, self._link.growth_left)
        self._link.growth_left -= more
        self.size += more
        return more

    def give_back(self) -> None:
        """The channel is closed: others may grow instead.  Can be called again."""
        self._link.growth_left += self.size - WINDOW
        self.size = WINDOW
