"""The listening end of a UDP remote: datagrams of many sources, through one channel.

There is one socket, and one channel for each session that it lives to see.  Each datagram names its
source, so that answers find their way back.  Datagrams are never queued beyond a handful: where
there is no session or no room in the window, they are dropped, as UDP allows, and the sender tries
again.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.forwards.datagrams import Datagrams
from cotun_trio.forwards.flows import Waiting
from cotun_trio.forwards.running import Counted
from cotun_trio.protocol.addresses import join_host_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.forwards.link import Link
    from cotun_trio.forwards.running import Forward
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote

BATCH = 64
"""Datagrams read before other tasks have their turn."""
_numbers = itertools.count()  # of listeners


class UdpListener:
    """The listening end of a UDP remote.  Lives as long as whoever owns `sock`."""

    def __init__(self, sock: socket.socket, remote: Remote, *, max_size: int, log: Context) -> None:
        self._sock = sock
        self._remote = remote
        self._max_size = max_size
        self._log = log
        self._link: Link | None = None  # the session that has the channel, or is opening one
        self._datagrams: Datagrams | None = None  # the open channel
        self._waiting: Waiting | None = None  # for that
        self._number = next(_numbers)

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
                    if (link := current()) is not None:
                        # Nobody else is sent anything, whatever the peer says: it could have us
                        # speak to any host that we can reach.
                        link.forwards.sources.remember(self._number, source, address)
                        self._send(link, source, data)

    def _send(self, link: Link, source: str, data: bytes) -> None:
        if link is not self._link:
            self._forget_waiting()
            self._link, self._datagrams = link, None
            self._waiting = Waiting(link.forwards.waiting)
            link.start_soon(self._open, link, self._waiting)
        if self._datagrams is not None:
            self._datagrams.send(source, data)
        elif self._waiting is not None:
            self._waiting.add(source, data)

    def _forget_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.take()
            self._waiting = None

    async def _open(self, link: Link, waiting: Waiting) -> None:
        """Open a session's channel, and keep it until it closes."""
        try:
            with link.forwards.begin(self._remote, endless=True) as forward:
                await self._carry(link, forward, waiting)
        finally:
            waiting.take()

    async def _carry(self, link: Link, forward: Forward, waiting: Waiting) -> None:
        def answer(source: str, data: bytes) -> None:
            # The peer echoes the source that it was sent.
            address = link.forwards.sources.find(self._number, source)
            if address is not None:
                with contextlib.suppress(OSError):
                    self._sock.sendto(data, address)

        try:
            counted = Counted(link, forward)
            channel = await counted.open_channel(self._remote.channel_target)
        except CotunError as error:
            self._log.info("refused: %s", error)
            # Still ours, so that not every datagram asks again; a new session is another link.
            if self._link is link:
                self._forget_waiting()
            return
        try:
            datagrams = Datagrams(channel, answer, link.forwards.turns)
            for source, data in waiting.take():
                datagrams.send(source, data)
            if self._link is link:
                self._datagrams = datagrams
            await datagrams.run()
        except ProtocolError as error:  # what came right behind the confirmation, or in a backlog
            link.fail(error)
        finally:
            channel.close()
            if self._link is link:
                self._link = self._datagrams = self._waiting = None
