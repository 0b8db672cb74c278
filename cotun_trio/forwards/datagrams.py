"""Datagrams on a channel, both ways: a stream of gob values, each with its source.

A read can bring tens of thousands of tiny ones, in one channel or in many, and to pass one on is a
system call.  So a few are passed on in the read itself, which is quickest.  The rest waits in its
channel, whose window stays closed as far, and is passed on in turns, one channel after another, by
the slow lane.  A session with many of them is busy, and is read after others.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import DATAGRAM
from cotun_trio.net.lane import slow_lane
from cotun_trio.protocol.gob import Decoder, Encoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from cotun_trio.ssh.channel import Channel

TURN = 64
"""Datagrams that are passed on before other tasks have their turn: a few hundred µs' worth."""
OVERHEAD = 512
"""Bytes that a gob value has beside its payload, source and type definition included."""


class Turns:
    """How many datagrams a session may pass on before other tasks have their turn."""

    def __init__(self) -> None:
        self.left = TURN
        """Units that are left in this turn.  Below 0 where the last one cost more."""
        self._batch = 0

    def note_batch(self, batch: int) -> None:
        """Begin a new turn, unless `batch` is the one that it began with."""
        if batch != self._batch:
            self._batch = batch
            self.left = TURN

    def spend(self, units: int) -> None:
        """Take units of this turn, where there are as many or not."""
        self.left -= units

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn of the slow lane."""
        lane = slow_lane()
        await lane.enter(object(), late=True)  # not even a channel of the same session is "alone"
        try:
            self.left = TURN
            yield
        finally:
            lane.leave()


class Datagrams:
    """The datagrams of a channel, in both directions.  Gives each that comes to `arrived`.

    `turns` are its session's.  `run` has to be called.
    """

    def __init__(
        self, channel: Channel, arrived: Callable[[str, bytes], None], turns: Turns
    ) -> None:
        self.over = False
        """Whether nothing more will come: all that came has been passed on."""
        self._channel = channel
        self._arrived = arrived
        self._turns = turns
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._news = trio.lowlevel.ParkingLot()
        self._owes_backlog = self._ended = False
        channel.attach(self)

    def send(self, source: str, data: bytes) -> bool:
        """Send a datagram, if the channel takes it now; return whether it does."""
        # First the room, then the encoding: the first value changes the form of the later ones.
        if not self._channel.room(len(data) + OVERHEAD):
            return False
        self._channel.send_now(self._encoder.encode(source, data))
        return True

    async def run(self) -> None:
        """Pass on datagrams that were left over by a read, until the channel has ended.

        Raises `ProtocolError`.
        """
        while not self.over:
            if self._owes_backlog:
                async with self._turns.turn():
                    self._owes_backlog = not self._channel.flush_backlog()
            elif self._ended:
                self.over = True
            else:
                await self._news.park()

    # ---- a channel's sink (`cotun_trio.ssh.protocols.Sink`)

    def write(self, views: Sequence[memoryview]) -> int:
        """Pass on the first datagrams, as many as the turn has left."""
        turns, budget = self._turns, self._channel.budget
        turns.note_batch(budget.turn)
        taken = 0
        for view in views:
            rest = view
            while rest:
                if turns.left <= 0:
                    return taken
                datagram, size = self._decoder.read(rest)
                rest = rest[size:]
                taken += size
                if datagram is not None:
                    turns.spend(1)
                    budget.count_busy(DATAGRAM)
                    self._arrived(datagram.source, datagram.payload)
        return taken

    def backlog_waits(self) -> None:
        """Have `run` pass on the rest."""
        self._owes_backlog = True
        self._news.unpark_all()

    def end(self) -> None:
        """The peer sends no more: it does not listen any more either."""
        self._ended = True
        self._news.unpark_all()

    def closed(self) -> None:
        """The channel is closed; datagrams that it has brought are still passed on."""
        self._ended = True
        self._news.unpark_all()
