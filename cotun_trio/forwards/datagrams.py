"""Datagrams on a channel, both ways: as gob, or in the form that two of our kind have agreed on.

**Outwards**, all that waits on a socket is sent as one message.  It is read to where it belongs in
that message, in memory that all channels of a Trio run share: nothing is awaited between `begin`
and `flush`.  Only the whole message is copied once more, to the packets that are encrypted, since
a datagram may end in another packet than it begins in; that is a hundredth of what a read costs.

**Inwards**, a read can bring tens of thousands of tiny datagrams, in one channel or in many, and to
pass one on is a system call.  So a few are passed on in the read itself, which is quickest.  The
rest waits in its channel, whose window stays closed as far, and is passed on in turns, one channel
after another, by the slow lane.  A session with many of them is busy, and is read after others.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import DATAGRAM
from cotun_trio.net.lane import slow_lane
from cotun_trio.protocol.datagram_codec import MAX_HEAD
from cotun_trio.protocol.datagram_runs import RunDecoder, RunEncoder
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from cotun_trio.ssh.scratch import MAX_PACKET, SLOTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from cotun_trio.protocol.datagram_codec import DatagramDecoder, DatagramEncoder, Run
    from cotun_trio.ssh.channel import Channel

TURN = 64
"""Datagrams that are passed on before other tasks have their turn: a few hundred µs' worth."""
BATCH = 64
"""Datagrams that are read from a socket before other tasks have their turn."""
MAX_DATAGRAM = 65_535
"""Bytes that are read at most: more than any datagram has."""

_memory: trio.lowlevel.RunVar[memoryview] = trio.lowlevel.RunVar("datagrams")


def _shared_memory() -> memoryview:
    """Return the memory for messages in this Trio run: half a megabyte."""
    try:
        return _memory.get()
    except LookupError:
        memory = memoryview(bytearray(SLOTS * MAX_PACKET + 2 * MAX_HEAD + MAX_DATAGRAM))
        _memory.set(memory)
        return memory


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
    """The datagrams of a channel, in both directions.  Gives all that come to `arrived`.

    `turns` are its session's; `in_runs` says whether the peer knows
    `cotun_trio.protocol.datagram_runs`.  `run` has to be called.
    """

    def __init__(
        self,
        channel: Channel,
        arrived: Callable[[Run], None],
        turns: Turns,
        *,
        in_runs: bool = False,
    ) -> None:
        self.over = False
        """Whether nothing more will come: all that came has been passed on."""
        self.encoder: DatagramEncoder = RunEncoder() if in_runs else Encoder()
        """Makes the message, from `begin` to `flush`."""
        self._channel = channel
        self._arrived = arrived
        self._turns = turns
        self._memory = _shared_memory()
        self._decoder: DatagramDecoder = RunDecoder() if in_runs else Decoder()
        self._news = trio.lowlevel.ParkingLot()
        self._owes_backlog = self._ended = False
        channel.attach(self)

    # ---- outwards

    def begin(self) -> memoryview:
        """Begin a message, and return the memory for it.

        Read each datagram to `encoder.place` in it, then have it added by the encoder, and by `add`
        where that does not.  `flush` has to follow, and nothing may be awaited before it.
        """
        self.encoder.begin(self._memory, self._channel.at_once)
        return self._memory

    def add(self, source: str, size: int) -> bool:
        """Have the datagram at `encoder.place` begin another message; return whether it does.

        It does not where the channel takes no more at present, and is dropped then.
        """
        memory, encoder = self._memory, self.encoder
        datagram = memory[encoder.place : encoder.place + size]
        self.flush()
        self.begin()
        memory[encoder.place : encoder.place + size] = datagram
        return encoder.add(source, size)

    def put(self, source: str, data: memoryview | bytes) -> bool:
        """Add a datagram from elsewhere; return whether the channel takes it."""
        encoder, size = self.encoder, len(data)
        self._memory[encoder.place : encoder.place + size] = data
        return encoder.add(source, size) or self.add(source, size)

    def flush(self) -> None:
        """Send the message, if there is anything in it."""
        if size := self.encoder.end():
            self._channel.send_now(self._memory[:size])

    def send_all(self, datagrams: Sequence[tuple[str, memoryview | bytes]]) -> int:
        """Send datagrams with their sources; return how many the channel does not take now."""
        self.begin()
        lost = sum(not self.put(source, data) for source, data in datagrams)
        self.flush()
        return lost

    # ---- inwards

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

    # (a channel's sink, `cotun_trio.ssh.protocols.Sink`)

    def write(self, views: Sequence[memoryview]) -> int:
        """Pass on the first datagrams, as many as the turn has left."""
        taken = 0
        before: Run | None = None
        try:
            for run, size in self._read(views):
                taken += size
                if run is None:
                    continue
                if before is None:
                    before = run
                elif run.size == before.size and run.source == before.source:
                    before.extend(run)  # a Go peer sends each datagram in a packet of its own
                else:
                    self._arrived(before)
                    before = run
        finally:
            if before is not None:
                self._arrived(before)
        return taken

    def _read(self, views: Sequence[memoryview]) -> Iterator[tuple[Run | None, int]]:
        """Give the datagrams in `views`, each run with the bytes that it takes, until the turn is
        over."""
        turns, budget, read = self._turns, self._channel.budget, self._decoder.read
        turns.note_batch(budget.turn)
        for view in views:
            rest = view
            while rest:
                if turns.left <= 0:
                    return
                run, size = read(rest, turns.left)
                rest = rest[size:]
                if run is not None or rest:  # to define something is work as well
                    units = 1 if run is None else run.count
                    turns.left -= units
                    budget.busy += DATAGRAM * units
                yield run, size

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
