"""How much a peer may send on a channel before some of it is taken: more on a long, fat link.

A fixed window limits one stream to a window for each round trip: 2 MiB in 200 ms are 10 MB/s,
however fast the link is.  So the window of a channel grows where it is the window that limits it:
when more than half of it was taken within one round trip, it doubles, much like TCP's on the
receiving side.  The round trip is the shortest that was ever measured in the session: bandwidth
times delay decides, and not how long bytes wait in queues.  So nothing grows on a short link, and
no queue becomes longer for others.

A stalled reader costs as much memory as its window is wide, so all windows of a session together
grow by `MAX_GROWTH` at the most.
"""

from __future__ import annotations

WINDOW = 2 * 1024 * 1024
"""Bytes that a peer may send at first: Go's figure."""
MAX_GROWTH = 64 * 1024 * 1024
"""Bytes by which the windows of one connection may grow, all together: 300 MB/s at 200 ms."""
STEPS = 4
"""A window is opened again in so many parts: few adjustments, and it never runs dry."""


class RoundTrip:
    """The round trip of a connection: the shortest one that was ever measured."""

    __slots__ = ("shortest",)

    def __init__(self) -> None:
        self.shortest: float | None = None
        """Seconds; None before the first measurement."""

    def measured(self, seconds: float) -> None:
        """Note a round trip, in seconds."""
        if self.shortest is None or seconds < self.shortest:
            self.shortest = seconds


class SharedGrowth:
    """The bytes by which the windows of one connection may still grow, all together."""

    __slots__ = ("left", "round_trip")

    def __init__(self, round_trip: RoundTrip) -> None:
        self.left = MAX_GROWTH
        self.round_trip = round_trip

    def take(self, wanted: int) -> int:
        """Take up to `wanted` bytes; return how many there were."""
        taken = min(wanted, self.left)
        self.left -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Leave `count` bytes to others again."""
        self.left += count


class Growth:
    """Makes the window of one channel grow, from `now` on, a time of a clock in seconds."""

    __slots__ = ("_shared", "_since", "_taken", "size")

    def __init__(self, shared: SharedGrowth, now: float) -> None:
        self.size = WINDOW
        """Bytes of the whole window."""
        self._shared = shared
        self._since = now
        self._taken = 0

    def taken(self, count: int, now: float) -> int:
        """Note that `count` bytes were taken; return by how many the window grows."""
        self._taken += count
        elapsed, round_trip = now - self._since, self._shared.round_trip.shortest
        if round_trip is None or elapsed < round_trip:
            return 0
        in_a_round_trip = self._taken * round_trip / elapsed if elapsed else 0
        self._since, self._taken = now, 0
        if in_a_round_trip <= self.size / 2:
            return 0
        more = self._shared.take(self.size)
        self.size += more
        return more

    def give_back(self) -> None:
        """Leave the growth of this window to others: the channel is closed.

        Can be called again.
        """
        self._shared.give_back(self.size - WINDOW)
        self.size = WINDOW
