"""UDP remotes: datagrams of many sources through one channel, as a stream of gob values.

The listening end has one socket, and one channel for each session that it lives to see; the
dialling end has one connected socket for each source, a *flow*, which is forgotten when nothing
has passed for a while.  Each value names its source, so that answers find their way back.

Datagrams are never queued beyond a handful: where there is no session, no room in the window or no
descriptor left, they are dropped, as UDP allows, and whoever sent them tries again.  An error that
the network reports about one flow (a port that is closed) is nobody else's business.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.running import Counted
from cotun_trio.net.dial import address_family, resolve
from cotun_trio.net.sockets import close
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.gob import Decoder, Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.forwards.link import Link
    from cotun_trio.forwards.running import Forward
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import Opening

MAX_FLOWS = 65_536
"""Sources of one channel at a time: as many as one address has ports."""
MAX_WAITING = 64
"""Datagrams that wait for a channel or a flow to open: a moment's worth."""
MAX_WAITING_BYTES = 1024 * 1024
"""Bytes of those, for all flows of a channel together: a target's name can be slow to resolve."""
BATCH = 64
"""Datagrams read before other tasks have their turn."""
RESOLVED_FOR = 60.0
"""Seconds for which the address of a target's name is used for new flows."""
OVERHEAD = 512
"""Bytes that a gob value has beside its payload, source and type definition included."""


class Datagrams:
    """Datagrams on a channel, both ways: a channel's sink, and what sends on it."""

    def __init__(self, channel: Channel, arrived: Callable[[str, bytes], None]) -> None:
        self.closed_event = trio.Event()
        """Set when nothing more will come."""
        self._channel = channel
        self._arrived = arrived
        self._encoder = Encoder()
        self._decoder = Decoder()
        channel.attach(self)

    def send(self, source: str, data: bytes) -> None:
        """Send a datagram, if the channel takes it now."""
        # First the room, then the encoding: the first value changes the form of the later ones.
        if self._channel.room(len(data) + OVERHEAD):
            self._channel.send_now(self._encoder.encode(source, data))

    def write(self, views: Sequence[memoryview]) -> int:
        """Take everything (`cotun_trio.ssh.channel.Sink`)."""
        for view in views:
            for datagram in self._decoder.feed(bytes(view)):
                self._arrived(datagram.source, datagram.payload)
        return sum(map(len, views))

    def backlog_waits(self) -> None:
        """There is never a backlog."""

    def end(self) -> None:
        """The peer sends no more: it does not listen any more either."""
        self.closed_event.set()

    def closed(self) -> None:
        """The channel is closed."""
        self.closed_event.set()


class UdpListener:
    """The listening end of a UDP remote.  Lives as long as whoever owns `sock`."""

    def __init__(self, sock: socket.socket, remote: Remote, *, max_size: int, log: Context) -> None:
        self._sock = sock
        self._remote = remote
        self._max_size = max_size
        self._log = log
        self._link: Link | None = None  # the session that has the channel, or is opening one
        self._datagrams: Datagrams | None = None  # the open channel
        self._waiting: list[tuple[str, bytes]] = []
        # Who has sent something, the latest last: nobody else is sent anything, whatever the peer
        # says.  It could have us speak to any host that we can reach.
        self._sources: dict[str, tuple[str, int]] = {}

    async def serve(self, current: Callable[[], Link | None]) -> None:
        """Send what arrives through the session that `current` gives.

        Ends when it is cancelled, and when somebody closes the socket.
        """
        sock, size = self._sock, self._max_size
        while sock.fileno() >= 0:
            try:
                await wait_readable(sock)
            except trio.ClosedResourceError:
                return
            with contextlib.suppress(OSError):  # there is no more at present
                for _ in range(BATCH):
                    data, address = sock.recvfrom(size)
                    source = join_host_port(*address[:2])
                    self._remember(source, address)
                    self._send(current(), source, data)

    def _remember(self, source: str, address: tuple[str, int]) -> None:
        if self._sources.pop(source, None) is None and len(self._sources) >= MAX_FLOWS:
            del self._sources[next(iter(self._sources))]
        self._sources[source] = address

    def _send(self, link: Link | None, source: str, data: bytes) -> None:
        if link is None:
            return
        if link is not self._link:
            self._link, self._datagrams, self._waiting = link, None, []
            link.start_soon(self._open, link)
        if self._datagrams is not None:
            self._datagrams.send(source, data)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((source, data))

    async def _open(self, link: Link) -> None:
        """Open a session's channel, and keep it until it closes."""
        with link.forwards.begin(self._remote, endless=True) as forward:
            await self._carry(link, forward)

    async def _carry(self, link: Link, forward: Forward) -> None:
        try:
            counted = Counted(link, forward)
            channel = await counted.open_channel(self._remote.channel_target)
        except CotunError as error:
            self._log.info("refused: %s", error)
            # Still ours, so that not every datagram asks again; a new session is another link.
            return
        try:
            datagrams = self._datagrams = Datagrams(channel, self._answer)
            for source, data in self._waiting:
                datagrams.send(source, data)
            self._waiting = []
            await datagrams.closed_event.wait()
        except ProtocolError as error:  # what came right behind the confirmation
            link.fail(error)
        finally:
            channel.close()
            if self._link is link:
                self._link = self._datagrams = None

    def _answer(self, source: str, data: bytes) -> None:
        # The peer echoes the source that it was sent.
        if (address := self._sources.get(source)) is not None:
            with contextlib.suppress(OSError):
                self._sock.sendto(data, address)


class _Flow:
    """One source, at the dialling end."""

    __slots__ = ("idle", "sock", "waiting")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.waiting: list[bytes] = []
        self.idle = trio.CancelScope()


class _Flows:
    """The dialling end of one UDP channel."""

    def __init__(
        self, channel: Channel, host: str, port: int, *, idle: float, max_size: int, log: Context
    ) -> None:
        self._channel = channel
        self._host = host
        self._port = port
        self._idle = idle
        self._max_size = max_size
        self._log = log
        self._waiting = 0  # bytes that wait for a socket, in all flows
        self._flows: dict[str, _Flow] = {}
        self._address: tuple[socket.AddressFamily, str] | None = None
        self._resolved_at = 0.0

    async def run(self) -> None:
        """Carry datagrams until the channel closes."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._datagrams = Datagrams(self._channel, self._arrived)
                await self._datagrams.closed_event.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._channel.close()

    def _arrived(self, source: str, data: bytes) -> None:
        flow = self._flows.get(source)
        if flow is None:
            if len(self._flows) >= MAX_FLOWS or self._datagrams.closed_event.is_set():
                return
            flow = self._flows[source] = _Flow()
            self._nursery.start_soon(self._run_flow, source, flow)
        flow.idle.deadline = trio.current_time() + self._idle
        if flow.sock is not None:
            with contextlib.suppress(OSError):  # refused before: this one may get through
                flow.sock.send(data)
        elif len(flow.waiting) < MAX_WAITING and self._waiting + len(data) <= MAX_WAITING_BYTES:
            flow.waiting.append(data)
            self._waiting += len(data)

    async def _run_flow(self, source: str, flow: _Flow) -> None:
        try:
            with flow.idle:
                await self._carry_answers(source, flow)
        except OSError as error:
            # No descriptor, no route, no such name: the source is free to try again.
            self._log.debug("%s: %s", escape(source), error)
        finally:
            self._forget_waiting(flow)
            del self._flows[source]
            if flow.sock is not None:
                close(flow.sock)

    async def _carry_answers(self, source: str, flow: _Flow) -> None:
        family, host = await self._resolve()
        sock = flow.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect((host, self._port))
        for data in flow.waiting:
            with contextlib.suppress(OSError):
                sock.send(data)
        self._forget_waiting(flow)
        while True:
            await wait_readable(sock)
            with contextlib.suppress(OSError):  # nothing to read, or a refusal by ICMP
                data = sock.recv(self._max_size)
                flow.idle.deadline = trio.current_time() + self._idle
                self._datagrams.send(source, data)

    def _forget_waiting(self, flow: _Flow) -> None:
        self._waiting -= sum(map(len, flow.waiting))
        flow.waiting = []

    async def _resolve(self) -> tuple[socket.AddressFamily, str]:
        """Return the target's address; a name is looked up now and then."""
        if (family := address_family(self._host)) is not None:
            return family, self._host
        now = trio.current_time()
        if self._address is None or now - self._resolved_at > RESOLVED_FOR:
            self._address = (await resolve(self._host, socket.SOCK_DGRAM))[0]
            self._resolved_at = now
        return self._address


async def carry_in(
    opening: Opening, host: str, port: int, *, idle: float, max_size: int, log: Context
) -> None:
    """Carry a peer's datagrams to a target and back, until it closes the channel.

    `idle` is for how many seconds a source is remembered that sends and gets nothing; `max_size`
    is that of an answer, in bytes, beyond which it is cut.
    """
    log.debug("open")
    await _Flows(opening.confirm(), host, port, idle=idle, max_size=max_size, log=log).run()
    log.debug("closed")
