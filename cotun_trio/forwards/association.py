"""UDP ASSOCIATE (RFC 1928 sections 4, 6 and 7): a SOCKS client's datagrams, from where it is.

The association has a socket next to the listener, for this client alone.  Each destination that
the client names gets a UDP channel through the tunnel, the same as a UDP remote's, so that any
server of this kind will do at the other end.  It ends with the client's TCP connection.

What waits on the socket is read at once, and each destination gets its part as one message.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import CotunError, ProtocolError, Shortage
from cotun_trio.forwards.datagrams import BATCH, MAX_DATAGRAM, Datagrams
from cotun_trio.forwards.drops import (
    NO_ROOM,
    NO_TUNNEL,
    REFUSED,
    TOO_MANY_DESTINATIONS,
    TOO_MANY_WAIT,
    Drops,
    why,
)
from cotun_trio.forwards.segments import Segments
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.net.descriptors import refuse_reserved
from cotun_trio.net.poller import while_readable
from cotun_trio.net.sockets import close
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.datagram_codec import Run
from cotun_trio.protocol.proxy_request import Reply
from cotun_trio.protocol.socks5 import UdpHeader, reply
from cotun_trio.protocol.target import Target

if TYPE_CHECKING:
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.protocol.proxy_request import Request

MAX_DESTINATIONS = 1024
"""Destinations of one association at a time, a channel each; `flows` has a limit for all."""
IDLE = 180.0
"""Seconds for which a destination's channel is kept with nothing passing: it costs little, and the
exit forgets its own side before (`cotun_trio.forwards.udp_exit`)."""


async def associate(
    session: OpenSession,
    sock: socket.socket,
    near: trio.SocketStream,
    request: Request,
    log: Context,
) -> None:
    """Carry the datagrams of the client on `sock` until it closes that.

    Raises `Shortage` where there are too few descriptors, when the client has been told.
    """
    try:
        udp = socket.socket(sock.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        refuse_reserved(udp)
    except OSError as error:
        await near.send_all(reply(Reply.GENERAL_FAILURE))
        raise Shortage(f"no UDP association: {error.strerror}", error.errno or 0) from None
    try:
        udp.bind((sock.getsockname()[0], 0))
        await near.send_all(reply(Reply.SUCCEEDED, *udp.getsockname()[:2]))
        log.debug("UDP association on %s", join_host_port(*udp.getsockname()[:2]))
        async with trio.open_nursery() as nursery:
            association = _Association(session, udp, nursery, log)
            client = (sock.getpeername()[0], request.port)
            nursery.start_soon(association.run, *client)
            with contextlib.suppress(trio.BrokenResourceError):
                while await near.receive_some(1024):
                    pass  # the connection is only there to be closed
            nursery.cancel_scope.cancel()
    finally:
        close(udp)


class _Destination:
    """Where the client sends to: a channel, or one that is being opened."""

    __slots__ = ("batch", "datagrams", "idle", "refused", "waiting")

    def __init__(self, waiting: Waiting) -> None:
        self.batch: list[tuple[str, memoryview]] = []
        """Datagrams that were read in the same step, each with its source."""
        self.datagrams: Datagrams | None = None
        self.waiting = waiting
        self.refused = False
        self.idle = trio.CancelScope()


class _Association:
    def __init__(
        self, session: OpenSession, udp: socket.socket, nursery: trio.Nursery, log: Context
    ) -> None:
        self._session = session
        self._udp = udp
        self._nursery = nursery
        self._log = log
        self._drops = Drops(log, nursery.start_soon)
        self._destinations: dict[tuple[str, int], _Destination] = {}
        self._client: tuple[str, int] = ("", 0)
        self._source = ""  # the same, as text
        self._only = ("", 0)  # the client; as long as its port is 0, any port of its
        self._segments = Segments()
        # The last datagram's header, which is mostly the next one's as well, and where it leads.
        self._header = b""
        self._last: _Destination | None = None

    async def run(self, host: str, port: int) -> None:
        """Pass on datagrams of the client at `host`; `port` is 0 as long as it is unknown."""
        self._only = (host, port)
        await while_readable(self._udp, self._step, self._session.flows)

    def _step(self) -> None:
        """Pass on what waits on the socket.

        It does not await anything, and can be called outside of a task.
        """
        udp = self._udp
        touched: dict[_Destination, None] = {}
        with contextlib.suppress(OSError):  # there is no more at present
            for _ in range(BATCH):
                data, address = udp.recvfrom(MAX_DATAGRAM)
                if address != self._client and not self._is_client(address):
                    continue
                if not self._header or not data.startswith(self._header):
                    self._read_header(data)
                if (destination := self._last) is not None:
                    payload = memoryview(data)[len(self._header) :]
                    destination.batch.append((self._source, payload))
                    touched[destination] = None
        for destination in touched:
            self._send(destination)

    def _is_client(self, address: tuple[str, int]) -> bool:
        """Return whether a datagram from there is the client's.

        No other address may use the association, and the client's port is the first that it uses.
        """
        host, port = self._only
        if address[0] != host or address[1] != (port or address[1]):
            return False
        self._only = (host, address[1])
        self._client, self._source = address, join_host_port(*address[:2])
        return True

    def _read_header(self, data: bytes) -> None:
        """Know the header of a datagram, and the destination; None where there is none."""
        self._header, self._last = b"", None
        try:
            header, payload = UdpHeader.unpack(data)
        except ProtocolError as error:
            self._log.debug("%s", error)  # RFC 1928 section 7: dropped silently
            return
        self._last = self._find(header)
        if self._last is not None:
            self._header = data[: len(data) - len(payload)]

    def _find(self, header: UdpHeader) -> _Destination | None:
        """Return the destination, which is a new one, if there is none and there is room."""
        key = (header.host, header.port)
        destination = self._destinations.get(key)
        if destination is None:
            forwards = self._session.flows
            if len(self._destinations) >= MAX_DESTINATIONS or not forwards.destinations.take():
                self._drops.add(TOO_MANY_DESTINATIONS)
                return None
            destination = self._destinations[key] = _Destination(Waiting(forwards.waiting))
            self._nursery.start_soon(self._run_destination, key, destination)
        return destination

    def _send(self, destination: _Destination) -> None:
        """Send a destination its part of what was read."""
        batch, destination.batch = destination.batch, []
        destination.idle.deadline = trio.current_time() + IDLE
        if destination.datagrams is not None:
            self._drops.add(NO_ROOM, destination.datagrams.send_all(batch))
        elif destination.refused:
            self._drops.add(REFUSED, len(batch))
        else:
            kept = sum(destination.waiting.add(source, payload) for source, payload in batch)
            self._drops.add(TOO_MANY_WAIT, len(batch) - kept)

    async def _run_destination(self, key: tuple[str, int], destination: _Destination) -> None:
        """Keep the channel to a destination until nothing has passed for a while."""
        header = UdpHeader(*key).pack(b"")

        def answer(run: Run) -> None:
            destination.idle.deadline = trio.current_time() + IDLE
            self._answer(header, run)

        channel = None
        try:
            with destination.idle:
                target = str(Target(*key, udp=True)).encode()
                channel = await self._session.connection.open_channel(target)
                flows = self._session.flows
                datagrams = destination.datagrams = Datagrams(
                    channel, answer, flows.turns, in_runs=flows.datagrams_in_runs
                )
                self._drops.add(NO_ROOM, datagrams.send_all(destination.waiting.take()))
                await datagrams.run()
        except ProtocolError as error:
            self._session.fail(error)
        except CotunError as error:
            destination.refused = True
            self._drops.add(REFUSED, len(destination.waiting.take()))
            self._log.refused(error)
            await trio.sleep(IDLE)  # and not asked again with every datagram
        finally:
            del self._destinations[key]
            if self._last is destination:
                self._header, self._last = b"", None
            self._drops.add(NO_TUNNEL, len(destination.waiting.take()))
            self._session.flows.destinations.give_back()
            if channel is not None:
                channel.close()

    def _answer(self, header: bytes, run: Run) -> None:
        """Send datagrams to the client, each with the header that says where it comes from."""
        udp, client = self._udp, self._client
        pieces: list[memoryview | bytes] = []
        for payload in run.each():
            pieces += header, payload
        whole = Run(run.source, len(header) + run.size, run.count, pieces)
        sent = self._segments.send(udp, whole, (), client)
        for at in range(2 * sent, len(pieces), 2):
            try:
                udp.sendmsg(pieces[at : at + 2], (), 0, client)
            except OSError as error:
                self._drops.add(why(error))
