"""The slow lane: turns that are taken one after the other, and not all in one pass of the loop.

Trio runs every task that can run before it looks at the network again.  A hundred connections that
each have a turn of half a millisecond waiting would make all others wait for fifty.  So a
connection that has not logged in, has more to process than fits a turn, or has overdrawn its
allowance (`cotun_trio.budget`) takes its turns in this lane: one turn in a pass, in the order of
arrival.

The lane is never idle while a connection waits in it, and costs nothing to the only one in it.
"""

from __future__ import annotations

import trio
from trio.lowlevel import ParkingLot, checkpoint

OVERTAKING = 3
"""Turns of others after which one that is late comes all the same: a login must not wait for ever
because of sessions that are busy."""


class Lane:
    """Gives one turn after the other.  `leave` has to follow on each `enter`, with no wait between.

    A turn that is `late` comes after the others, but is overtaken by `OVERTAKING` at most.
    """

    __slots__ = ("_late", "_latest", "_overtaken", "_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._latest: object = None  # the connection that had the last turn
        self._waiting = ParkingLot()
        self._late = ParkingLot()
        self._overtaken = 0

    async def enter(self, connection: object, *, late: bool) -> None:
        """Wait for a turn of `connection`.

        Not a checkpoint where it had the last turn, too: the caller has just come from one.  When
        cancelled, the turn goes to the next connection.
        """
        if self._taken:
            await (self._late if late else self._waiting).park()
        elif self._latest is not connection:
            self._taken = True  # the last turn may have been in this same pass
            try:
                await checkpoint()
            except BaseException:
                self.leave()
                raise
        self._taken = True
        self._latest = connection

    def enter_now(self, connection: object) -> bool:
        """Enter if nobody is here, and the last turn was one of `connection`, too, or one of an
        earlier round (`new_round`).

        Return whether that is so; `leave` has to follow then.
        """
        if self._taken or (self._latest is not connection and self._latest is not None):
            return False
        self._taken = True
        self._latest = connection
        return True

    def new_round(self) -> None:
        """Sockets are looked at anew: others have had their turns since the last one here."""
        self._latest = None

    def leave(self) -> None:
        """Give the lane to the next connection, whose turn is in the next pass."""
        if self._late and (not self._waiting or self._overtaken >= OVERTAKING):
            self._overtaken = 0
            self._late.unpark()
        elif self._waiting:
            self._overtaken += bool(self._late)
            self._waiting.unpark()
        else:
            self._taken = False


_lane: trio.lowlevel.RunVar[Lane] = trio.lowlevel.RunVar("lane")


def slow_lane() -> Lane:
    """Return the lane of this Trio run."""
    try:
        return _lane.get()
    except LookupError:
        lane = Lane()
        _lane.set(lane)
        return lane
