"""The listening end of a UDP remote: datagrams of many sources, through one channel.

There is one socket, and one channel for each session that it lives to see; a remote on all
interfaces has two of these, one for each family.  Each datagram names its source, so that answers
find their way back.  Datagrams are never queued beyond a handful: where there is no session or no
room in the window, they are dropped, as UDP allows, and the sender tries again.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.forwards.counted import Counted
from cotun_trio.forwards.datagrams import Datagrams
from cotun_trio.forwards.drops import (
    NO_ROOM,
    NO_TUNNEL,
    NO_WAY_BACK,
    REFUSED,
    TOO_MANY_WAIT,
    why,
)
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.net.local_address import SPACE, report_local_address, same_address
from cotun_trio.protocol.addresses import is_wildcard, join_host_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.forwards.drops import Drops
    from cotun_trio.forwards.flows import Flow
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.local_address import Control
    from cotun_trio.protocol.remote import Remote

BATCH = 64
"""Datagrams read before other tasks have their turn."""
_numbers = itertools.count()  # of listeners


class UdpListener:
    """The listening end of a UDP remote.  Lives as long as `sock` is open."""

    def __init__(
        self, sock: socket.socket, remote: Remote, drops: Drops, *, max_size: int, log: Context
    ) -> None:
        self._sock = sock
        self._drops = drops
        # A socket with one address answers from no other one.
        self._asks_local = is_wildcard(sock.getsockname()[0]) and report_local_address(sock)
        self._remote = remote
        self._max_size = max_size
        self._log = log
        self._session: OpenSession | None = (
            None  # the session that has the channel, or is opening one
        )
        self._datagrams: Datagrams | None = None  # the open channel
        self._waiting: Waiting | None = None  # for that
        self._number = next(_numbers)

    async def serve(self, current: Callable[[], OpenSession | None]) -> None:
        """Send datagrams that arrive through the session that `current` returns.

        Ends when it is cancelled, and when somebody closes the socket.
        """
        sock, size, asks_local = self._sock, self._max_size, self._asks_local
        control: Control = ()
        while sock.fileno() >= 0:
            try:
                await wait_readable(sock)
            except trio.ClosedResourceError:
                return
            with contextlib.suppress(OSError):  # there is no more at present
                for _ in range(BATCH):
                    if asks_local:
                        data, found, _, address = sock.recvmsg(size, SPACE)
                        control = same_address(*found[0]) if found else ()
                    else:
                        data, address = sock.recvfrom(size)
                    source = join_host_port(*address[:2])
                    if (session := current()) is not None:
                        # Nobody else is sent anything, whatever the peer says: it could have us
                        # speak to any host that we can reach.
                        session.flows.sources.remember(self._number, source, (address, control))
                        self._send(session, source, data)
                    else:
                        self._drops.add(NO_TUNNEL)

    def _send(self, session: OpenSession, source: str, data: bytes) -> None:
        if session is not self._session:
            self._forget_waiting(NO_TUNNEL)
            self._session, self._datagrams = session, None
            self._waiting = Waiting(session.flows.waiting)
            session.start_soon(self._open, session, self._waiting)
        if self._datagrams is not None:
            if not self._datagrams.send(source, data):
                self._drops.add(NO_ROOM)
        elif self._waiting is None:
            self._drops.add(REFUSED)
        elif not self._waiting.add(source, data):
            self._drops.add(TOO_MANY_WAIT)

    def _forget_waiting(self, reason: str) -> None:
        if self._waiting is not None:
            self._drops.add(reason, len(self._waiting.take()))
            self._waiting = None

    async def _open(self, session: OpenSession, waiting: Waiting) -> None:
        """Open a session's channel, and keep it until it closes."""
        try:
            with session.flows.begin(self._remote, endless=True) as forward:
                await self._carry(session, forward, waiting)
        finally:
            self._drops.add(NO_TUNNEL, len(waiting.take()))

    async def _carry(self, session: OpenSession, forward: Flow, waiting: Waiting) -> None:
        def answer(source: str, data: bytes) -> None:
            # The peer echoes the source that it was sent.
            way_back = session.flows.sources.find(self._number, source)
            if way_back is None:
                self._drops.add(NO_WAY_BACK)
                return
            address, control = way_back
            try:
                if control:
                    self._sock.sendmsg((data,), control, 0, address)
                else:
                    self._sock.sendto(data, address)
            except OSError as error:
                self._drops.add(why(error))

        try:
            counted = Counted(session, forward)
            channel = await counted.open_channel(self._remote.channel_target)
        except CotunError as error:
            self._log.warning("refused: %s", error, extra={"facts": {"reason": str(error)}})
            # Still ours, so that not every datagram asks again; a new session is another session.
            if self._session is session:
                self._forget_waiting(REFUSED)
            return
        try:
            datagrams = Datagrams(channel, answer, session.flows.turns)
            for source, data in waiting.take():
                if not datagrams.send(source, data):
                    self._drops.add(NO_ROOM)
            if self._session is session:
                self._datagrams = datagrams
            await datagrams.run()
        except ProtocolError as error:  # in data right behind the confirmation, or in a backlog
            session.fail(error)
        finally:
            channel.close()
            if self._session is session:
                self._session = self._datagrams = self._waiting = None
