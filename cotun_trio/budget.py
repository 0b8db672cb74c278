"""How much work a peer may cause: in one turn, before its login, and with empty messages.

Whatever a peer sends is processed in turns.  A turn ends when what was read is processed, or when
its budget is spent; then the rest waits, and other tasks run.  Work is counted in *units*, which
is exact and the same on every machine; a unit is about a microsecond of a server's processor.

Bulk does not notice any of this: a read of 256 KiB is one frame and eight full packets.
"""

from __future__ import annotations

FRAME = 2
"""Units for a WebSocket frame, whatever is in it."""
PACKET = 4
"""Units for an SSH packet, its decryption and a plain handler included."""
REQUEST = 32
"""Units for a message that has to be answered."""
OPEN = 64
"""Units for the opening of a channel: a target to look at, a task to start, a line to log."""
KEY_EXCHANGE = 128
"""Units for a message of a key exchange, on the average of its three: the one with the public
value takes a millisecond."""

TURN = 512
"""Units of one turn: 256 empty frames, 128 small packets, or 8 openings; half a millisecond or so.
Of 100 connections that all have something to say, each waits for 99 such turns at the most."""
BEFORE_LOGIN = 3 * TURN
"""Units in all for a peer that has not logged in: a few hundred frames and packets.  A login takes
some 600 of them."""
TINY = 16
"""Bytes of channel data below which a message counts as one that carries nothing: an attack can be
made of single bytes.  People who type do not get near their allowance."""
REFILL = 2400
"""Units for messages that carry nothing, which a peer gets each second.  Even 100 such peers use a
quarter of a processor with them."""
BURST = 4 * TURN
"""Units of that kind that a peer can save up."""


class Budget:
    """The work of one connection: in the present turn, and in all."""

    __slots__ = ("before", "for_nothing", "left")

    def __init__(self) -> None:
        self.left = TURN
        """Units that are left in this turn.  Below zero, the last message has cost more."""
        self.for_nothing = 0
        """Units of this turn that went into messages that carry nothing."""
        self.before = 0
        """Units of all turns before this one."""

    def begin(self) -> None:
        """Begin a turn."""
        self.before += TURN - self.left
        self.left = TURN
        self.for_nothing = 0

    @property
    def spent(self) -> int:
        """Units of all turns, with this one."""
        return self.before + TURN - self.left

    def spend(self, units: int) -> None:
        """Note work that a good peer causes, too."""
        self.left -= units

    def waste(self, units: int, *, paid: int = 0) -> None:
        """Note work that serves nobody; `paid` units of the same message are spent already."""
        self.left -= units
        self.for_nothing += units + paid


class Allowance:
    """What a peer may spend on messages that carry nothing: a bucket that fills up again.

    Times are seconds of a clock that does not go backwards.
    """

    __slots__ = ("_at", "_units")

    def __init__(self, now: float) -> None:
        self._units = float(BURST)
        self._at = now

    def take(self, units: int, now: float) -> None:
        """Take `units`; there may be less than nothing afterwards."""
        self._fill(now)
        self._units -= units

    def overdrawn(self, now: float) -> bool:
        """Return whether the peer has to come after others."""
        self._fill(now)
        return self._units < 0

    def _fill(self, now: float) -> None:
        self._units = min(self._units + (now - self._at) * REFILL, BURST)
        self._at = now
