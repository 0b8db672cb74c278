"""The dialling end of UDP remotes: a flow, with a connected socket, for each source.

A flow is forgotten when nothing has passed for a while, or when its place is needed
(`cotun_trio.forwards.udp_flows`).  Where there is no room or no descriptor left, datagrams are
dropped, as UDP allows, and the sender tries again.  An error that the network reports about one
flow (a port that is closed) does not concern the others.

A name can have several addresses (`cotun_trio.forwards.udp_addresses`).  Until there is an answer,
a flow keeps its datagrams, and sends them to the next address where it is told that nobody listens
at the first: ``localhost`` is ``::1`` as well, and most programs listen on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import errno
from collections import OrderedDict
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.datagrams import BATCH, Datagrams
from cotun_trio.forwards.drops import (
    NO_ROOM,
    TOO_MANY_FLOWS,
    TOO_MANY_WAIT,
    UNREACHABLE,
    Drops,
    why,
)
from cotun_trio.forwards.segments import Segments
from cotun_trio.forwards.udp_addresses import TargetAddresses
from cotun_trio.forwards.udp_flow import Flow, open_socket
from cotun_trio.forwards.udp_flows import Waiting
from cotun_trio.net.dial import OUT_OF_DESCRIPTORS
from cotun_trio.net.poller import while_readable

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.net.names import Address
    from cotun_trio.protocol.datagram_codec import Run
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import IncomingOpen

FLOW_COST = 8
"""Datagrams that a new flow counts as in a turn: it has a socket and a task, and may need to end
another flow first."""
ANSWERED_FOR = 120.0
"""Seconds without a datagram until a flow is forgotten that has been answered (RFC 4787 section
4.3): more than WireGuard's 25 s between keepalives."""
SLACK = 1.0
"""Seconds that a flow may be kept longer."""
_LEADS_NOWHERE = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EACCES,
    errno.EPERM,
}
"""The errors after which another address is tried."""
UNANSWERED_FOR = 15.0
"""The same for one that has never been answered: it may be a scan, or its target be down."""


class _Exit:
    """The dialling end of one UDP channel."""

    def __init__(
        self,
        session: OpenSession,
        host: str,
        port: int,
        *,
        idle: float | None,
        max_size: int,
        most: int | None,
        log: Context,
        check: AddressCheck | None,
    ) -> None:
        self._session = session
        self._port = port
        self._answered_for = ANSWERED_FOR if idle is None else idle
        self._unanswered_for = UNANSWERED_FOR if idle is None else idle
        self._max_size = max_size
        self._log = log
        self._most = most
        self._flows: OrderedDict[str, Flow] = OrderedDict()
        self._all_flows = session.flows.udp
        self._addresses = TargetAddresses(host, check)
        self._segments = Segments()

    async def run(self, channel: Channel) -> None:
        """Carry datagrams until `channel` closes; it is ours."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._drops = Drops(self._log, nursery.start_soon)
                try:
                    flows = self._session.flows
                    self._datagrams = Datagrams(
                        channel, self._arrived, flows.turns, in_runs=flows.datagrams_in_runs
                    )
                    await self._datagrams.run()
                except ProtocolError as error:
                    self._session.fail(error)
                nursery.cancel_scope.cancel()
        finally:
            channel.close()

    def forget(self, flow: Flow) -> None:
        """Let its source begin anew."""
        self._all_flows.ended(flow)
        del self._flows[flow.source]
        lost = flow.waiting.take()
        if flow.sock is None:  # or they were sent, and nobody has answered
            self._drops.add(UNREACHABLE, len(lost))

    def _arrived(self, run: Run) -> None:
        flow = self._flows.get(run.source) or self._begin(run)
        if flow is None:
            return
        self._used(flow)
        if run.count == 1:
            self._pass_on(flow, run.pieces[0])
        else:
            self._pass_on_all(flow, run)

    def _pass_on_all(self, flow: Flow, run: Run) -> None:
        sent = 0
        if flow.sock is not None and not flow.untried:
            sent = self._segments.send(flow.sock, run)
        for number, data in enumerate(islice(run.each(), sent, None), sent):
            if flow.ended:
                # Not another one for the rest of this run: each could end in the same way.
                self._drops.add(UNREACHABLE, run.count - number)
                return
            self._pass_on(flow, data)

    def _pass_on(self, flow: Flow, data: memoryview | bytes) -> None:
        if flow.sock is None:
            if not flow.waiting.add(flow.source, data):
                self._drops.add(TOO_MANY_WAIT)
            return
        if flow.untried:
            flow.keep(data)
        try:
            flow.sock.send(data)
        except OSError as error:
            self._not_sent(flow, data, error)

    def _used(self, flow: Flow) -> None:
        self._all_flows.used(flow)
        if self._most is not None:
            self._flows.move_to_end(flow.source)
        lasts = self._answered_for if flow.answered else self._unanswered_for
        expires = trio.current_time() + lasts
        if expires > flow.expires:  # not with every datagram: a deadline costs 2 µs
            flow.expires = flow.idle.deadline = expires + min(SLACK, lasts / 16)

    def _begin(self, run: Run) -> Flow | None:
        """Return a new flow for the source of `run`, if there is room; where the address is known,
        with its socket.

        Where there is none, the datagrams are dropped.
        """
        source = run.source
        self._session.flows.turns.spend(FLOW_COST)
        if self._most is not None and len(self._flows) >= self._most:
            next(iter(self._flows.values())).end()  # the longest idle one
        flow = Flow(self, source, Waiting(self._session.flows.waiting))
        if not self._all_flows.begin(flow):
            self._drops.add(TOO_MANY_FLOWS, run.count)
            return None
        self._flows[source] = flow
        try:
            if (addresses := self._addresses.known()) is not None:
                self._connect(flow, addresses)
        except OSError as error:
            self._log_end(flow, error)
            self._drops.add(why(error), run.count)
            flow.end()
            return None
        self._nursery.start_soon(self._run_flow, flow)
        return flow

    def _log_end(self, flow: Flow, error: Exception) -> None:
        # No route, no such name: the source is free to try again.
        self._log.debug("%s: %s", escape(flow.source), error)

    async def _run_flow(self, flow: Flow) -> None:
        try:
            with flow.idle:
                if flow.sock is None:
                    addresses = await self._addresses.resolve(self._session.share)
                    if flow.ended:
                        return
                    self._connect(flow, addresses)
                await self._carry_answers(flow)
            if flow.idle.cancelled_caught and not flow.answered:
                self._addresses.was_silent(flow.address)
        except (OSError, CotunError) as error:
            self._log_end(flow, error)
        finally:
            flow.end()

    # ---- the addresses of a flow

    def _connect(self, flow: Flow, addresses: Sequence[Address]) -> None:
        """Give `flow` a socket for the first of `addresses` that there is a way to, and send the
        datagrams that wait for it.  Raises `OSError`."""
        for number, address in enumerate(addresses, 1):
            try:
                sock = open_socket(flow, address, self._port, self._all_flows)
            except OSError as error:
                if number == len(addresses) or error.errno in OUT_OF_DESCRIPTORS:
                    raise
            else:
                flow.connect(sock, address, addresses[number:])
                break
        assert flow.sock is not None
        for _, data in flow.waiting.take():
            if flow.untried:
                flow.keep(data)
            try:
                flow.sock.send(data)
            except OSError as error:
                self._drops.add(why(error))

    def _not_sent(self, flow: Flow, data: memoryview | bytes, error: OSError) -> None:
        """Send a datagram to another address, or again, where the error is about one before it."""
        if error.errno in _LEADS_NOWHERE and self._refused(flow):
            return  # it was among those that waited
        if error.errno == errno.ECONNREFUSED:
            try:
                assert flow.sock is not None
                flow.sock.send(data)
            except OSError as again:
                self._drops.add(why(again))
        else:
            self._drops.add(why(error))

    def _refused(self, flow: Flow) -> bool:
        """Send to the next address, if there is one: nobody listens at the present one.

        Returns whether there is.
        """
        if not flow.untried:
            return False
        untried = flow.untried
        flow.disconnect()
        try:
            self._connect(flow, untried)
        except OSError as error:
            self._log_end(flow, error)
            flow.end()
        return True

    async def _carry_answers(self, flow: Flow) -> None:
        while (sock := flow.sock) is not None and not flow.ended:
            # A closed one has ended, or another one is in its place.
            with contextlib.suppress(trio.ClosedResourceError):
                await while_readable(sock, partial(self._step, flow, sock), self._session.flows)
                return

    def _step(self, flow: Flow, sock: socket.socket) -> bool | None:
        """Send the answers that wait on the socket; return True where the flow is at its end.

        It does not await anything, and can be called outside of a task.
        """
        datagrams, source, most = self._datagrams, flow.source, self._max_size
        memory, encoder, receive_into = datagrams.begin(), datagrams.encoder, sock.recv_into
        add = encoder.add
        count = lost = 0
        failure = None
        try:
            while count < BATCH:
                size = receive_into(memory[encoder.place :], most)
                count += 1
                if not (add(source, size) or datagrams.add(source, size)):
                    lost += 1
        except BlockingIOError:
            pass
        except OSError as error:  # a refusal by ICMP, or the end
            failure = error.errno
        datagrams.flush()
        if count:
            if not flow.answered:
                flow.note_answer()
                self._addresses.answered(flow.address)
            self._used(flow)
            self._drops.add(NO_ROOM, lost)
        # If it does, the next datagram begins with all addresses again.
        return (failure is not None and self._leads_nowhere(flow, failure)) or None

    def _leads_nowhere(self, flow: Flow, number: int) -> bool:
        """Return whether a flow without an answer has tried all of several addresses in vain.

        `number` is that of the error.
        """
        nowhere = number in _LEADS_NOWHERE and not self._refused(flow)
        return nowhere and not flow.answered and len(self._addresses) > 1


async def serve_channel(
    session: OpenSession,
    opening: IncomingOpen,
    host: str,
    port: int,
    *,
    idle: float | None,
    max_size: int,
    most: int | None = None,
    log: Context,
    check: AddressCheck | None = None,
) -> None:
    """Carry a peer's datagrams to a target and back, until it closes the channel.

    `idle` is for how many seconds a source is remembered that sends and gets nothing, in place of
    `ANSWERED_FOR` and `UNANSWERED_FOR`; `max_size` is that of an answer, in bytes, beyond which it
    is cut.  `most` is how many sources have a flow at a time: the next one takes the place of the
    longest idle one.  The addresses of a name have to pass `check`, if there is one.
    """
    log.debug("open")
    exit_ = _Exit(
        session, host, port, idle=idle, max_size=max_size, most=most, log=log, check=check
    )
    await exit_.run(opening.confirm())
    log.debug("closed")
