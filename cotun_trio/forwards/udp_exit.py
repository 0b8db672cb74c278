"""The dialling end of UDP remotes: a flow, with a connected socket, for each source.

A flow is forgotten when nothing has passed for a while, or when its place is needed
(`cotun_trio.forwards.udp_flows`).  Where there is no room or no descriptor left, datagrams are
dropped, as UDP allows, and the sender tries again.  An error that the network reports about one
flow (a port that is closed) does not concern the others.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.datagrams import Datagrams
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.net.descriptors import is_reserved, left_after, tell_shortage
from cotun_trio.net.dial import OUT_OF_DESCRIPTORS, address_family, checked, resolve
from cotun_trio.net.sockets import close

if TYPE_CHECKING:
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.net.names import Address
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import IncomingOpen

FLOW_COST = 8
"""Datagrams that a new flow counts as in a turn: it has a socket and a task, and may need to end
another flow first."""
RESOLVED_FOR = 60.0
"""Seconds for which the address of a target's name is used for new flows."""


class _Flow:
    """One source, at the dialling end (`cotun_trio.forwards.udp_flows.UdpFlow`)."""

    __slots__ = ("_exit", "ended", "idle", "sock", "source", "waiting")

    def __init__(self, exit_: _Exit, source: str, waiting: Waiting) -> None:
        self.source = source
        self.sock: socket.socket | None = None
        self.waiting = waiting
        self.idle = trio.CancelScope()
        self.ended = False
        self._exit = exit_

    def end(self) -> None:
        """Free its socket, at once; its task ends soon.  Can be called again."""
        # A cancellation would do that too.  But Trio raises it here and now, and its traceback
        # would keep all frames down to those that have views of a channel's backlog, which then
        # could not grow.
        if not self.ended:
            self.ended = True
            self._exit.forget(self)
            self.waiting.take()
            if self.sock is not None:
                close(self.sock)


class _Exit:
    """The dialling end of one UDP channel."""

    def __init__(
        self,
        session: OpenSession,
        host: str,
        port: int,
        *,
        idle: float,
        max_size: int,
        log: Context,
        check: AddressCheck | None,
    ) -> None:
        self._session = session
        self._check = check
        self._host = host
        self._port = port
        self._idle = idle
        self._max_size = max_size
        self._log = log
        self._flows: dict[str, _Flow] = {}
        self._all_flows = session.flows.udp
        self._resolving = trio.Lock()
        self._address: Address | None = None
        self._known_until = -math.inf

    async def run(self, channel: Channel) -> None:
        """Carry datagrams until `channel` closes; it is ours."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    self._datagrams = Datagrams(channel, self._arrived, self._session.flows.turns)
                    await self._datagrams.run()
                except ProtocolError as error:
                    self._session.fail(error)
                nursery.cancel_scope.cancel()
        finally:
            channel.close()

    def forget(self, flow: _Flow) -> None:
        """Let its source begin anew."""
        self._all_flows.ended(flow)
        del self._flows[flow.source]

    def _arrived(self, source: str, data: bytes) -> None:
        flow = self._flows.get(source) or self._begin(source)
        if flow is None:
            return
        self._used(flow)
        if flow.sock is not None:
            with contextlib.suppress(OSError):  # refused before: this one may get through
                flow.sock.send(data)
        else:
            flow.waiting.add(source, data)

    def _used(self, flow: _Flow) -> None:
        self._all_flows.used(flow)
        flow.idle.deadline = trio.current_time() + self._idle

    def _begin(self, source: str) -> _Flow | None:
        """Return a new flow, if there is room; where the address is known, with its socket."""
        self._session.flows.turns.left -= FLOW_COST
        flow = _Flow(self, source, Waiting(self._session.flows.waiting))
        if not self._all_flows.begin(flow):
            return None
        self._flows[source] = flow
        try:
            if (address := self._known_address()) is not None:
                self._connect(flow, address)
        except OSError as error:
            self._log_end(flow, error)
            flow.end()
            return None
        self._nursery.start_soon(self._run_flow, flow)
        return flow

    def _log_end(self, flow: _Flow, error: Exception) -> None:
        # No route, no such name: the source is free to try again.
        self._log.debug("%s: %s", escape(flow.source), error)

    async def _run_flow(self, flow: _Flow) -> None:
        try:
            with flow.idle:
                if flow.sock is None:
                    address = await self._resolve()
                    if flow.ended:
                        return
                    self._connect(flow, address)
                assert flow.sock is not None
                await self._carry_answers(flow, flow.sock)
        except (OSError, CotunError) as error:
            self._log_end(flow, error)
        finally:
            flow.end()

    def _connect(self, flow: _Flow, address: Address) -> None:
        """Give `flow` its socket, and send the datagrams that wait for it.  Raises `OSError`."""
        family, host = address
        sock = flow.sock = self._open_socket(flow, family)
        sock.connect((host, self._port))
        for _, data in flow.waiting.take():
            with contextlib.suppress(OSError):
                sock.send(data)

    async def _carry_answers(self, flow: _Flow, sock: socket.socket) -> None:
        while not flow.ended:
            try:
                await wait_readable(sock)
            except trio.ClosedResourceError:
                return
            with contextlib.suppress(OSError):  # nothing to read, a refusal by ICMP, or the end
                data = sock.recv(self._max_size)
                self._used(flow)
                self._datagrams.send(flow.source, data)

    def _open_socket(self, flow: _Flow, family: socket.AddressFamily) -> socket.socket:
        """Return a socket for `flow`.

        Descriptors are shared: as long as the flows of a session have fewer than there are left,
        they may have another one.  Otherwise the longest idle one makes room, once.  Raises
        `OSError` where that is not enough.
        """
        for _ in range(2):
            if flow.ended:
                break
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                tell_shortage()
            else:
                if not is_reserved(sock) and len(self._all_flows) <= left_after(sock) + 1:
                    return sock
                sock.close()
            self._all_flows.end_longest_idle()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _known_address(self) -> Address | None:
        """Return the target's address, unless its name has to be looked up (again)."""
        if (family := address_family(self._host)) is not None:
            return family, self._host
        return self._address if trio.current_time() < self._known_until else None

    async def _resolve(self) -> Address:
        """Look the target's name up, once for all flows that wait for it."""
        async with self._resolving:
            if (address := self._known_address()) is None:
                found = await resolve(self._host, socket.SOCK_DGRAM, share=self._session.share)
                address = self._address = checked(found, self._host, self._check)[0]
                self._known_until = trio.current_time() + RESOLVED_FOR
            return address


async def serve_channel(
    session: OpenSession,
    opening: IncomingOpen,
    host: str,
    port: int,
    *,
    idle: float,
    max_size: int,
    log: Context,
    check: AddressCheck | None = None,
) -> None:
    """Carry a peer's datagrams to a target and back, until it closes the channel.

    `idle` is for how many seconds a source is remembered that sends and gets nothing; `max_size` is
    that of an answer, in bytes, beyond which it is cut.  The addresses of a name have to pass
    `check`, if there is one.
    """
    log.debug("open")
    exit_ = _Exit(session, host, port, idle=idle, max_size=max_size, log=log, check=check)
    await exit_.run(opening.confirm())
    log.debug("closed")
