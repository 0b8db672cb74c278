"""How many bytes may wait for the network: as many as it takes in a moment, and no more.

Bytes that the kernel has been given cannot be overtaken.  On a fast link half a megabyte of them is
gone in no time, and keeps the link busy; on one of 1 Mbit/s all other senders would wait for four
seconds.  So senders of bulk take turns of a size that the link needs `DELAY` for, and as much may
lie in the kernel unsent (``TCP_NOTSENT_LOWAT``, tcp(7)).

Turns begin small.  A turn that the kernel takes at once lets the next be twice as long; where it
does not take all, the time until it has says how fast the link is.
"""

from __future__ import annotations

DELAY = 0.05
"""Seconds for which a turn keeps the link busy."""
BURST = 0.01
"""Seconds.  In less than this, a slow link takes a burst, for which its far end has made room at
last: that lets a turn be twice as long, and not more."""
MIN_TURN = 4 * 1024
START_TURN = 16 * 1024
MAX_TURN = 512 * 1024
"""Bytes.  More gains nothing on any link; less than the least is mostly headers."""


class Pace:
    """Follows one link."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = START_TURN
        """Bytes, a power of two, that one sender sends before others have their turn."""

    def taken_at_once(self, size: int) -> bool:
        """Note that the kernel took `size` bytes at once; return whether `turn` is another."""
        if size < self.turn or self.turn == MAX_TURN:
            return False
        self.turn *= 2
        return True

    def taken_in(self, seconds: float, size: int) -> bool:
        """Note that the network took `size` bytes in so many seconds; return as above."""
        room = max(size, 0) * DELAY / seconds if seconds > 0 else MAX_TURN
        before, self.turn = self.turn, MIN_TURN
        most = MAX_TURN if seconds >= BURST else min(2 * before, MAX_TURN)
        while 2 * self.turn <= min(room, most):
            self.turn *= 2
        return self.turn != before
