"""Connections that end in this process: as streams, in place of sockets to somewhere else.

They wait to be accepted as they would in the kernel: answered already, and with up to a window of
their data.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from cotun_trio.ssh import messages
from cotun_trio.ssh.stream import ChannelStream

if TYPE_CHECKING:
    from cotun_trio.logs import Context
    from cotun_trio.protocol.endpoints import Endpoints
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import IncomingOpen

BACKLOG = 1024
"""Connections that wait to be accepted, as with `cotun_trio.net.dial.BACKLOG`."""


class VisitorStream(trio.abc.HalfCloseableStream):
    """The connection of a visitor at the other end of the tunnel."""

    peer: str
    """The visitor's address, ``host:port``; empty where it is not known: on a Unix socket, and from
    a Go server."""


class TunnelStream(ChannelStream, VisitorStream):
    """One connection through the tunnel, as a `trio.abc.HalfCloseableStream`.

    Closing it ends the outgoing data, all of which still arrives, and drops incoming data, as
    with a socket.  Closed where that is cancelled already (`trio.aclose_forcefully`), it breaks
    off, and the other end can tell.
    """

    def __init__(self, channel: Channel, peer: str = "") -> None:
        super().__init__(channel)
        self.peer = peer

    async def aclose(self) -> None:
        """Close both directions; nothing is awaited but a checkpoint."""
        if not self._closed and trio.current_effective_deadline() > trio.current_time():
            self._channel.send_eof()
        await super().aclose()


class Inbox:
    """Where connections arrive that end here."""

    def __init__(self) -> None:
        self._waiting: deque[TunnelStream] = deque()
        self._news = trio.lowlevel.ParkingLot()
        self._closed = False

    async def deliver(
        self, opening: IncomingOpen, log: Context, endpoints: Endpoints | None = None
    ) -> None:
        """Have a connection accepted, and stay until it is over; when cancelled, it breaks off.

        It is from the visitor with these `endpoints`, if that is known.
        """
        if self._closed or len(self._waiting) >= BACKLOG:
            reason = "nobody accepts it" if self._closed else "too many wait to be accepted"
            log.refused(reason)
            opening.refuse(messages.OPEN_CONNECT_FAILED, reason)
            return
        peer = "" if endpoints is None else str(endpoints.source)
        stream = TunnelStream(opening.confirm(), peer)
        self._waiting.append(stream)
        self._news.unpark()
        log.debug("open")
        try:
            await stream.over.wait()
        finally:
            if not stream.over.is_set():
                stream.break_off()
        log.debug("closed")

    async def accept(self) -> TunnelStream:
        """Return the next connection, when there is one.

        Raises `trio.ClosedResourceError`.  Any number of tasks may wait; cancelling loses nothing.
        """
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._closed:
                raise trio.ClosedResourceError("this listener is closed")
            await self._news.park()
        return self._waiting.popleft()

    def close(self) -> None:
        """Accept no more connections, and break off the waiting ones.  Accepted ones go on."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().break_off()
        self._news.unpark_all()
