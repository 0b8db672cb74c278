"""SSH connections in memory: two of them joined, or one and a peer that says anything."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel import copier
from cotun_trio.ssh.connection import Connection
from cotun_trio.ssh.scratch import READ
from tests.support.ssh import (
    OTHER,
    PASSWORD,
    USER,
    EnginePair,
    feed,
    make_engine,
    take_out,
    tap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.engine import Engine
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.openings import IncomingOpen
    from cotun_trio.ssh.packetizer import RekeyLimit
    from tests.support.ssh import Side

MAX_CHANNELS = 16_384
KERNEL = 4 * 1024 * 1024
"""Bytes that a carrier takes without being busy."""


class MemoryCarrier:
    """A `Carrier`: a bounded buffer like the kernel's, and a backlog behind it."""

    def __init__(self, capacity: int = KERNEL) -> None:
        self.capacity = capacity
        self.sent = 0
        """Bytes that were ever sent."""
        self.sizes: list[int] = []
        """The size of each piece that was sent."""
        self.kernel = bytearray()
        self.backlog = bytearray()
        self.broken = False
        self.clogged = False
        """Whether to be busy in any case."""
        self.news = trio.Event()
        """Set by every piece sent."""
        self._idle = trio.lowlevel.ParkingLot()

    @property
    def busy(self) -> bool:
        """See `Carrier`."""
        return self.clogged or bool(self.backlog)

    turn = 512 * 1024
    """See `Carrier`."""

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """See `Carrier`."""
        while self.busy:
            if self.broken:
                raise trio.BrokenResourceError
            await self._idle.park()

    def send(self, data: memoryview | bytearray) -> None:
        """See `Carrier`."""
        assert len(data), "an empty piece"
        self.sent += len(data)
        self.sizes.append(len(data))
        self.backlog += data
        self._fill()
        self.news.set()

    def take(self, size: int = READ) -> bytes:
        """Remove and return up to `size` bytes from the kernel's buffer."""
        data = bytes(self.kernel[:size])
        del self.kernel[:size]
        self._fill()
        self._wake()
        return data

    def unclog(self) -> None:
        """Be as busy as it really is."""
        self.clogged = False
        self._wake()

    def break_off(self) -> None:
        """Never take anything again."""
        self.broken = True
        self._idle.unpark_all()

    def _fill(self) -> None:
        room = self.capacity - len(self.kernel)
        self.kernel += self.backlog[:room]
        del self.backlog[:room]

    def _wake(self) -> None:
        if not self.busy:
            self._idle.unpark_all()


class Recorder:
    """A `Handler` that remembers what it was told, and does nothing about it."""

    def __init__(self) -> None:
        self.logins: list[tuple[str, str]] = []
        self.openings: list[IncomingOpen] = []
        self.requests: list[GlobalRequest] = []
        self.failures: list[CotunError] = []

    def login_requested(self, user: str, password: str) -> None:
        """See `Handler`."""
        self.logins.append((user, password))

    def channel_requested(self, opening: IncomingOpen) -> None:
        """See `Handler`."""
        self.openings.append(opening)

    def fail(self, failure: CotunError) -> None:
        """See `Handler.fail`."""
        self.failures.append(failure)

    def request_received(self, request: GlobalRequest) -> None:
        """See `Handler`."""
        self.requests.append(request)


class RecordingSink:
    """A `Sink` that takes up to `room` bytes."""

    def __init__(self, room: int = 2**62) -> None:
        self.room = room
        self.data = bytearray()
        self.told: list[str] = []
        """What it was told, in order: ``"waits"``, ``"end"``, ``"closed"``."""
        self.views: list[int] = []
        """How many views it was given, each time."""

    def write(self, views: Sequence[memoryview]) -> int:
        """See `Sink`."""
        self.views.append(len(views))
        data = b"".join(views)[: self.room]
        self.room -= len(data)
        self.data += data
        return len(data)

    def backlog_waits(self) -> None:
        """See `Sink`."""
        self.told.append("waits")

    def end(self) -> None:
        """See `Sink`."""
        self.told.append("end")

    def closed(self) -> None:
        """See `Sink`."""
        self.told.append("closed")


def send(channel: Channel, data: bytes) -> int:
    """Send as much of `data` as the channel takes now; return how much."""
    done = 0
    while done < len(data) and channel.sendable:
        done += channel.send_from(copier(memoryview(data)[done:]), len(data) - done)
    return done


def finish(connection: Connection) -> None:
    """Let `connection` have all the turns that it needs for what it has received."""
    while connection.unfinished and not connection.paused:
        connection.start_batch()
        connection.receive(memoryview(b""))
        connection.end_batch()


class ConnectionPair:
    """A client and a server connection that have logged in; `pump` carries bytes between them."""

    def __init__(
        self,
        *,
        capacity: int = KERNEL,
        rekey_limit: RekeyLimit | None = None,
        log_in: bool = True,
        max_channels: int = MAX_CHANNELS,
    ) -> None:
        self.carriers: dict[Side, MemoryCarrier] = {}
        self.handlers: dict[Side, Recorder] = {}
        self.connections: dict[Side, Connection] = {}
        sides: tuple[Side, Side] = ("client", "server")
        for side in sides:
            self.carriers[side] = MemoryCarrier(capacity)
            self.handlers[side] = Recorder()
            self.connections[side] = Connection(
                make_engine(side, rekey_limit=rekey_limit),
                self.carriers[side],
                self.handlers[side],
                channel_type=b"chisel",
                max_channels=max_channels,
            )
            self.connections[side].start()
        self.client, self.server = self.connections["client"], self.connections["server"]
        if log_in:
            self.pump()
            self.client.engine.log_in(USER, PASSWORD)
            self.client.start()  # sends what is waiting
            self.pump()
            self.server.answer_login(accepted=True)
            self.pump()
            assert self.client.logged_in.is_set()
            assert self.server.logged_in.is_set()

    def move(self, receiver: Side, size: int = READ, pieces: int = 1) -> bool:
        """Carry one batch of up to `pieces` pieces to one side; return whether there was any.

        It is processed to its end, in as many turns as that takes.

        What the connection raises also ends it, as the wire would.
        """
        connection, carrier = self.connections[receiver], self.carriers[OTHER[receiver]]
        if connection.paused or connection.failure is not None or not carrier.kernel:
            return False
        try:
            connection.start_batch()
            for _ in range(pieces):
                connection.receive(memoryview(carrier.take(size)))
            connection.end_batch()
            finish(connection)
        except CotunError as error:
            connection.on_lost(error)
            raise
        return True

    def pump(self, size: int = READ) -> None:
        """Carry bytes both ways until there are none."""
        while self.move("server", size) | self.move("client", size):
            pass

    async def pump_forever(self, size: int = READ) -> None:
        """Carry bytes whenever there are any, as the network does."""
        while True:
            news = trio.Event()
            for carrier in self.carriers.values():
                carrier.news = news
            if self.move("server", size) | self.move("client", size):
                await trio.lowlevel.checkpoint()
            else:
                await news.wait()

    async def open(self, opener: Side = "client", extra: bytes = b"") -> tuple[Channel, Channel]:
        """Return both ends of a new channel, the one that asked for it first."""
        opened: list[Channel] = []

        async def ask() -> None:
            opened.append(await self.connections[opener].open_channel(extra))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            self.pump()
            accepted = self.handlers[OTHER[opener]].openings.pop().confirm()
            self.pump()
        return opened[0], accepted

    def lose(self, failure: CotunError) -> None:
        """End both connections."""
        for carrier in self.carriers.values():
            carrier.break_off()
        for connection in self.connections.values():
            connection.on_lost(failure)


class Dialogue:
    """A connection under test, and at its other end a bare engine that says what it is told to."""

    def __init__(
        self,
        side: Side = "client",
        *,
        rekey_limit: RekeyLimit | None = None,
        log_in: bool = True,
        max_channels: int = MAX_CHANNELS,
    ) -> None:
        limits: dict[Side, RekeyLimit | None] = {side: rekey_limit, OTHER[side]: None}
        pair = EnginePair(
            make_engine("client", rekey_limit=limits["client"]),
            make_engine("server", rekey_limit=limits["server"]),
            user=USER if log_in else None,
        ).run()
        self.peer: Engine = pair.engines[OTHER[side]]
        self.carrier = MemoryCarrier()
        self.handler = Recorder()
        self.connection = Connection(
            pair.engines[side],
            self.carrier,
            self.handler,
            channel_type=b"chisel",
            max_channels=max_channels,
        )
        self._heard = tap(self.peer)

    def say(self, *payloads: bytes) -> None:
        """Have the peer send `payloads`, which arrive in one read, after what it has to say."""
        for payload in payloads:
            self.peer.packetizer.send_payload(payload)
        self.connection.start_batch()
        self.connection.receive(memoryview(take_out(self.peer)))
        self.connection.end_batch()
        finish(self.connection)

    def heard(self) -> list[bytes]:
        """Return the payloads that the connection sent since the last time, a DISCONNECT too."""
        with contextlib.suppress(ConnectionLost):
            while self.carrier.kernel:
                feed(self.peer, self.carrier.take())
        heard = self._heard[:]
        self._heard.clear()
        return heard

    async def open(
        self, *, window: int = 2**21, max_packet: int = 2**15, number: int = 7
    ) -> Channel:
        """Return a channel that the connection opened, and the peer confirmed as its `number`."""
        opened: list[Channel] = []

        async def ask() -> None:
            opened.append(await self.connection.open_channel(b"target"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            own = messages.Reader(memoryview(self.heard()[-1]))
            own.string()
            self.say(messages.open_confirmation(own.u32(), number, window, max_packet))
        return opened[0]

    def accept(self, *, window: int = 2**21, max_packet: int = 2**15, number: int = 7) -> Channel:
        """Return a channel that the peer opened as its `number`, and the connection confirmed."""
        self.say(messages.channel_open(b"chisel", number, window, max_packet, b"target"))
        channel = self.handler.openings.pop().confirm()
        self.heard()
        return channel
