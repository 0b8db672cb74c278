"""The listening end of a UDP remote: datagrams of many sources, through one channel.

There is one socket, and one channel for each session that it lives to see; a remote on all
interfaces has two of these, one for each family.  Each datagram names its source, so that answers
find their way back.  Datagrams are never queued beyond a handful: where there is no session or no
room in the window, they are dropped, as UDP allows, and the sender tries again.

What waits on the socket is read at once, and sent as one message.  Most of it is of the same source
as the datagram before: a source is written as text, and remembered, where it is another one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.forwards.counted import Counted
from cotun_trio.forwards.datagrams import BATCH, Datagrams
from cotun_trio.forwards.drops import (
    NO_ROOM,
    NO_TUNNEL,
    NO_WAY_BACK,
    NOT_ALLOWED,
    REFUSED,
    TOO_MANY_WAIT,
    why,
)
from cotun_trio.forwards.segments import Segments
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.net.local_address import SPACE, report_local_address, same_address
from cotun_trio.net.poller import while_readable
from cotun_trio.protocol.addresses import is_wildcard, join_host_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import TypeAlias

    from cotun_trio.forwards.admission import Admission
    from cotun_trio.forwards.drops import Drops
    from cotun_trio.forwards.flows import Flow, Flows
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.protocol.datagram_codec import Run
    from cotun_trio.protocol.remote import Remote

    Ancillary: TypeAlias = tuple[int, int, bytes]

_numbers = itertools.count()  # of listeners
_source = functools.lru_cache(1024)(join_host_port)
_NOTHING: list[Ancillary] = []


class UdpListener:
    """The listening end of a UDP remote, for the sources of `admission`.

    Lives as long as `sock` is open.
    """

    def __init__(
        self,
        sock: socket.socket,
        remote: Remote,
        drops: Drops,
        *,
        max_size: int,
        log: Context,
        admission: Admission,
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
        self._segments = Segments()
        self._current: Callable[[], OpenSession | None] = lambda: None
        self._admits = functools.lru_cache(1024)(admission.admits)
        self._take = self._receive_allowed if admission.chooses else self._receive

    async def serve(self, current: Callable[[], OpenSession | None]) -> None:
        """Send datagrams that arrive through the session that `current` returns.

        Ends when it is cancelled, and when the socket is closed.
        """
        self._current = current
        with contextlib.suppress(trio.ClosedResourceError):
            await while_readable(self._sock, self._step)

    def _step(self) -> None:
        """Send the datagrams that wait on the socket.

        It does not await anything, and can be called outside of a task.
        """
        session, datagrams = self._current(), self._datagrams
        with contextlib.suppress(OSError):  # there is no more at present
            if session is None:
                self._drop_all()
            elif session is self._session and datagrams is not None:
                try:
                    self._send_all(session, datagrams)
                finally:
                    datagrams.flush()
            else:
                self._keep_all(session)

    def _drop_all(self) -> None:
        """Read datagrams, and drop them: there is no session."""
        for _ in range(BATCH):
            self._sock.recv(1)
            self._drops.add(NO_TUNNEL)

    def _keep_all(self, session: OpenSession) -> None:
        """Read datagrams while the session has no channel for them."""
        memory = memoryview(bytearray(self._max_size))
        for _ in range(BATCH):
            size, address, found = self._take(memory)
            self._keep(session, self._remember(session, address, found), memory[:size])

    def _send_all(self, session: OpenSession, datagrams: Datagrams) -> None:
        """Read datagrams into a message; it has to be sent, however this ends."""
        memory, encoder, most = datagrams.begin(), datagrams.encoder, self._max_size
        receive, add = self._take, encoder.add
        known: tuple[object, object] = (None, None)
        source = ""
        for _ in range(BATCH):
            place = encoder.place
            size, address, found = receive(memory[place : place + most])
            if (address, found) != known:
                known = address, found
                source = self._remember(session, address, found)
            if not (add(source, size) or datagrams.add(source, size)):
                self._drops.add(NO_ROOM)

    def _receive(self, memory: memoryview) -> tuple[int, tuple[str, int], list[Ancillary]]:
        """Read a datagram; return its size, its source, and what came along.  Raises `OSError`."""
        if self._asks_local:
            size, found, _, address = self._sock.recvmsg_into((memory,), SPACE)
            return size, address, found
        size, address = self._sock.recvfrom_into(memory)
        return size, address, _NOTHING

    def _receive_allowed(self, memory: memoryview) -> tuple[int, tuple[str, int], list[Ancillary]]:
        """Do the same with the next datagram of an allowed source; drop the others."""
        for _ in range(BATCH):
            received = self._receive(memory)
            if self._admits(received[1][0]):
                return received
            self._drops.add(NOT_ALLOWED)
        raise BlockingIOError  # the others of the session have their turn now

    def _remember(
        self, session: OpenSession, address: tuple[str, int], found: list[Ancillary]
    ) -> str:
        """Know how to answer a source; return its name.

        Other addresses are sent nothing, whatever the peer says: it could have us speak to any host
        that we can reach.
        """
        control = same_address(*found[0]) if found else ()
        source = _source(*address[:2])
        session.flows.sources.remember(self._number, source, (address, control))
        return source

    def _keep(self, session: OpenSession, source: str, data: memoryview) -> None:
        """Keep a datagram for the channel, which is opened for the first one."""
        if session is not self._session:
            self._forget_waiting(NO_TUNNEL)
            self._session, self._datagrams = session, None
            self._waiting = Waiting(session.flows.waiting)
            session.start_soon(self._open, session, self._waiting)
        if self._waiting is None:
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
        try:
            counted = Counted(session, forward)
            channel = await counted.open_channel(self._remote.channel_target)
        except CotunError as error:
            self._log.refused(error)
            # Still ours, so that not every datagram asks again; a new session is another session.
            if self._session is session:
                self._forget_waiting(REFUSED)
            return
        try:
            flows = session.flows
            answer = functools.partial(self._answer, flows)
            datagrams = Datagrams(channel, answer, flows.turns, in_runs=flows.datagrams_in_runs)
            self._drops.add(NO_ROOM, datagrams.send_all(waiting.take()))
            if self._session is session:
                self._datagrams = datagrams
            await datagrams.run()
        except ProtocolError as error:  # in data right behind the confirmation, or in a backlog
            session.fail(error)
        finally:
            channel.close()
            if self._session is session:
                self._session = self._datagrams = self._waiting = None

    def _answer(self, flows: Flows, run: Run) -> None:
        """Send datagrams back to their source: the peer echoes the one that it was sent."""
        way_back = flows.sources.find(self._number, run.source)
        if way_back is None:
            self._drops.add(NO_WAY_BACK, run.count)
            return
        address, control = way_back
        sent = self._segments.send(self._sock, run, control, address) if run.count > 1 else 0
        for data in itertools.islice(run.each(), sent, None):
            try:
                if control:
                    self._sock.sendmsg((data,), control, 0, address)
                else:
                    self._sock.sendto(data, address)
            except OSError as error:
                self._drops.add(why(error))
