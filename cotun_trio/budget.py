"""Limits on the work that a peer causes: in one turn, before its login, and with empty messages.

The bytes of a peer are processed in turns.  A turn ends when all that was read is processed, or
when its budget is spent; then the rest waits, and other tasks run.  Work is counted in *units*,
which is exact and the same on every machine; a unit is about a microsecond of a server's processor.

Two allowances go beyond the turn.  A peer that is *busy* with more small messages or openings than
its allowance has takes its turns after others.  A peer that *wastes* more than its allowance, with
messages that carry nothing, is read later.

Bulk does not notice any of this: a read of 256 KiB is one frame and eight full packets.
"""

from __future__ import annotations

FRAME = 2
"""Units for a WebSocket frame, with any content."""
PACKET = 4
"""Units for an SSH packet, its decryption and a plain handler included."""
REQUEST = 32
"""Units for a message that has to be answered."""
DATAGRAM = 8
"""Units for a datagram that is passed on."""
OPEN = 64
"""Units for the opening of a channel: a target to look at, a task to start, a line to log."""
DIAL = 64
"""Units more of a turn, and not of an allowance, for the task that dials an opening's target.  It
begins after the turn, in one pass with those of all other sessions."""
REFUSAL = 256
"""Units for an opening that is refused, once it is: a target has been dialled in vain, perhaps."""
KEY_EXCHANGE = 256
"""Units for each of the two messages of a key exchange that make us compute: together they take
half a millisecond or more."""

TURN = 512
"""Units of one turn: 256 empty frames, 128 small packets, or 4 openings; half a millisecond or so.
Of 100 connections that all have something to say, each waits for 99 such turns at the most."""
BEFORE_LOGIN = 4 * TURN
"""Units in all for a peer that has not logged in: a few hundred frames and packets.  A login takes
some 700 of them."""
TINY = 16
"""Bytes of channel data, or of a window adjustment, below which a message is mostly work."""
REFILL = 2400
"""Units of an allowance that a peer gets back each second.  A hundred peers that use up theirs take
a quarter of a processor."""
REFILL_OF_ALL = 100 * REFILL
"""Units that all peers together get back each second which have wasted more than their allowances,
if there are fewer than a hundred.  A single one has that quarter of a processor for itself: what it
sends is useless, but behind it in the same session there may be connections of others."""
BURST = 4 * TURN
"""Units of an allowance that a peer can save up."""


class Budget:
    """The work of one connection: in the present turn, and in all.

    The code that processes frames, packets and datagrams counts their work here in place: a call
    for each would cost as much as some of them.
    """

    __slots__ = ("before", "busy", "left", "turn", "wasted")

    def __init__(self) -> None:
        self.left = TURN
        """Units that are left in this turn.  Below zero, the last message has cost more.  The loops
        over frames and packets take from it directly: a call each would cost as much as a frame."""
        self.busy = 0
        """Units that went into small messages, or into openings, since `take` was called last."""
        self.wasted = 0
        """Units that went into messages that carry nothing, since `take` was called last."""
        self.before = 0
        """Units of all turns before this one."""
        self.turn = 0
        """The number of this turn."""

    def begin(self) -> None:
        """Begin a turn."""
        self.before += TURN - self.left
        self.left = TURN
        self.turn += 1

    @property
    def spent(self) -> int:
        """Units of all turns, with this one."""
        return self.before + TURN - self.left

    def spend(self, units: int) -> None:
        """Note work of an ordinary kind."""
        self.left -= units

    def be_busy(self, units: int) -> None:
        """Note work that is ordinary in its kind, and a burden in its number."""
        self.left -= units
        self.busy += units

    def waste(self, units: int) -> None:
        """Note work for a message that carries nothing."""
        self.left -= units
        self.wasted += units

    def note_waste(self, units: int) -> None:
        """Note that work which is counted already was for a message that carries nothing."""
        self.wasted += units

    def note_tiny(self, size: int) -> None:
        """Note that a packet, which is counted already, carried only `size` bytes of its kind.

        None at all are waste.  A few are a person who types, or a program that sends many short
        commands.
        """
        if size:
            self.busy += PACKET
        else:
            self.wasted += PACKET

    def take(self) -> tuple[int, int]:
        """Return `busy` and `wasted`, and count them from zero again."""
        taken = self.busy, self.wasted
        self.busy = self.wasted = 0
        return taken


class Allowance:
    """A bucket of units that fills up again.

    Times are seconds of a clock that does not go backwards.
    """

    __slots__ = ("_at", "_refill", "_units")

    def __init__(self, now: float) -> None:
        self._units = float(BURST)
        self._refill = float(REFILL)
        self._at = now

    def take(self, units: int, now: float, sharers: int = 100) -> float:
        """Take `units`; return the seconds until there is something in the bucket again.

        `sharers` is how many peers share `REFILL_OF_ALL` while this bucket is empty.
        """
        self._units = min(self._units + (now - self._at) * self._refill, BURST) - units
        self._at = now
        self._refill = max(REFILL, REFILL_OF_ALL / sharers) if self._units < 0 else REFILL
        return max(-self._units / self._refill, 0.0)
