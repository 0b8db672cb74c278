"""UDP ASSOCIATE (RFC 1928 sections 4, 6 and 7): a SOCKS client's datagrams, from where it is.

The association has a socket next to the listener, for this client alone.  Each destination that
the client names gets a UDP channel through the tunnel, the same as a UDP remote's, so that any
server of this kind will do at the other end.  It ends with the client's TCP connection.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import CotunError, ProtocolError, Shortage
from cotun_trio.forwards.datagrams import Datagrams
from cotun_trio.forwards.drops import (
    NO_ROOM,
    NO_TUNNEL,
    REFUSED,
    TOO_MANY_DESTINATIONS,
    TOO_MANY_WAIT,
    Drops,
    why,
)
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.forwards.udp_listener import BATCH
from cotun_trio.net.descriptors import refuse_reserved
from cotun_trio.net.sockets import close
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.socks5 import Reply, UdpHeader, reply
from cotun_trio.protocol.target import Target

if TYPE_CHECKING:
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.protocol.socks5 import Request

MAX_DESTINATIONS = 1024
"""Destinations of one association at a time, a channel each; `flows` has a limit for all."""
IDLE = 180.0
"""Seconds for which a destination's channel is kept with nothing passing: it costs little, and the
exit forgets its own side before (`cotun_trio.forwards.udp_exit`)."""
MAX_DATAGRAM = 65_535


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

    __slots__ = ("datagrams", "idle", "refused", "waiting")

    def __init__(self, waiting: Waiting) -> None:
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
        self._client: tuple[str, int] | None = None

    async def run(self, host: str, port: int) -> None:
        """Pass on datagrams of the client at `host`; `port` is 0 as long as it is unknown."""
        udp = self._udp
        while True:
            await wait_readable(udp)
            with contextlib.suppress(OSError):  # there is no more at present
                for _ in range(BATCH):
                    data, address = udp.recvfrom(MAX_DATAGRAM)
                    # Nobody else may use it, and the client's port is the first that it uses.
                    if address[0] == host and address[1] == (port or address[1]):
                        port = address[1]
                        self._client = address
                        self._from_client(data)

    def _from_client(self, data: bytes) -> None:
        try:
            header, payload = UdpHeader.unpack(data)
        except ProtocolError as error:
            self._log.debug("%s", error)  # RFC 1928 section 7: dropped silently
            return
        key = (header.host, header.port)
        destination = self._destinations.get(key)
        if destination is None:
            forwards = self._session.flows
            if len(self._destinations) >= MAX_DESTINATIONS or not forwards.destinations.take():
                self._drops.add(TOO_MANY_DESTINATIONS)
                return
            destination = self._destinations[key] = _Destination(Waiting(forwards.waiting))
            self._nursery.start_soon(self._run_destination, key, destination)
        destination.idle.deadline = trio.current_time() + IDLE
        if destination.datagrams is not None:
            if not destination.datagrams.send(self._source, payload):
                self._drops.add(NO_ROOM)
        elif destination.refused:
            self._drops.add(REFUSED)
        elif not destination.waiting.add(self._source, payload):
            self._drops.add(TOO_MANY_WAIT)

    @property
    def _source(self) -> str:
        assert self._client is not None
        return join_host_port(*self._client[:2])

    async def _run_destination(self, key: tuple[str, int], destination: _Destination) -> None:
        """Keep the channel to a destination until nothing has passed for a while."""
        header = UdpHeader(*key)

        def answer(_source: str, payload: bytes) -> None:
            destination.idle.deadline = trio.current_time() + IDLE
            try:
                self._udp.sendto(header.pack(payload), self._client or ("", 0))
            except OSError as error:
                self._drops.add(why(error))

        channel = None
        try:
            with destination.idle:
                target = str(Target(*key, udp=True)).encode()
                channel = await self._session.connection.open_channel(target)
                datagrams = destination.datagrams = Datagrams(
                    channel, answer, self._session.flows.turns
                )
                for source, payload in destination.waiting.take():
                    if not datagrams.send(source, payload):
                        self._drops.add(NO_ROOM)
                await datagrams.run()
        except ProtocolError as error:
            self._session.fail(error)
        except CotunError as error:
            destination.refused = True
            self._drops.add(REFUSED, len(destination.waiting.take()))
            self._log.warning("refused: %s", error, extra={"facts": {"reason": str(error)}})
            await trio.sleep(IDLE)  # and not asked again with every datagram
        finally:
            del self._destinations[key]
            self._drops.add(NO_TUNNEL, len(destination.waiting.take()))
            self._session.flows.destinations.give_back()
            if channel is not None:
                channel.close()
