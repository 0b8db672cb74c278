"""A worker: a server that is handed its connections, and shares its limits.

It ends when the supervisor says so, or is gone, and not by signals.  When it gets SIGTERM, which
systemd sends to all processes, it tells the supervisor.  That starts another worker first, unless
it is about to end itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio import logs
from cotun_trio.access.penalties import MAX_SOURCES, Verdict
from cotun_trio.admin.lag import measure_lag
from cotun_trio.errors import CotunError
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.server.server import Server
from cotun_trio.server.shared import SharedState
from cotun_trio.system.process import prepare
from cotun_trio.system.task_tree import log_task_tree
from cotun_trio.workers import control
from cotun_trio.workers.account import Account
from cotun_trio.workers.control_link import ControlLink, LinkLost
from cotun_trio.workers.handover import ALL, Incoming
from cotun_trio.workers.progress import Steps
from cotun_trio.workers.reports import Reports
from cotun_trio.workers.shared_counts import (
    FORWARDS,
    SERVED,
    SOURCES,
    STARTUPS,
    STEPS,
    TAKEN,
    USERS,
    SharedCounts,
)
from cotun_trio.workers.spawn import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.counts import Count
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.logs import Context
    from cotun_trio.server.listening import Doors
    from cotun_trio.server.reverse_listeners import Claimant, ListenerOwner, Place
    from cotun_trio.workers.control_link import Received
    from cotun_trio.workers.handover import Connection

IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that may reach all processes of a service, and are meant for the first one alone."""
PARTING = 1.0
"""Seconds for the supervisor to receive the last message."""
GONE = Verdict(2.0)
"""The price of a failed login when the supervisor, which counts them, is gone."""


class LinkFailures:
    """The supervisor's account of failed logins; see `cotun_trio.server.logins.Failures`."""

    def __init__(self, link: ControlLink) -> None:
        self._link = link
        self._barred: dict[str, float] = {}  # by source, until this time by Trio's clock

    async def failed(self, source: str) -> Verdict:
        """Ask the supervisor for the price."""
        try:
            penalty = await self._link.ask(control.LoginFailed(source), control.Penalty)
        except LinkLost:
            return GONE
        return Verdict(penalty.delay, penalty.barred_for)

    def bar(self, source: str, seconds: float) -> None:
        """Accept no login from `source` for so long."""
        now = trio.current_time()
        self._barred = {other: until for other, until in self._barred.items() if until > now}
        self._barred.pop(source, None)
        self._barred[source] = now + seconds
        if len(self._barred) > MAX_SOURCES:
            del self._barred[next(iter(self._barred))]  # the one that was barred first

    def lift(self, source: str | None) -> None:
        """Accept logins from `source` again; None: from all."""
        if source is None:
            self._barred.clear()
        else:
            self._barred.pop(source, None)

    def barred(self, source: str) -> float:
        """Return for how many seconds more `source` is barred; 0 if it is not."""
        until = self._barred.get(source)
        return 0.0 if until is None else max(until - trio.current_time(), 0.0)


class LinkElsewhere:
    """The listeners of other workers; see `cotun_trio.server.reverse_listeners.Elsewhere`."""

    def __init__(self, link: ControlLink) -> None:
        self._link = link

    keeps_draining = False

    async def claim(self, claimant: Claimant, place: Place) -> Yielded:
        """Ask the supervisor, which asks the other workers."""
        claim = control.Claim(
            place.local_host,
            place.local_port,
            place.local_path,
            place.udp,
            claimant.identity,
            claimant.user_name,
        )
        try:
            return (await self._link.ask(claim, control.Yield)).outcome
        except LinkLost:
            return Yielded.KEPT

    def given_up(self, claimant: ListenerOwner, place: Place) -> None:
        """See `Elsewhere`: nothing was taken."""

    async def opened(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`: the kernel keeps two workers apart."""

    def closed(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""


class LinkListening:
    """The supervisor's listeners, seen from a worker: connections come by `incoming`.

    `served` counts connections that have ended; `log` is for lost ones.
    """

    announces = False
    addresses: Sequence[str] = ()
    health_addresses: Sequence[str] = ()

    def __init__(self, incoming: Incoming, served: Count, log: Callable[[], Context]) -> None:
        self._incoming = incoming
        self._served = served
        self._log = log
        self._is_draining = False
        self._take_over: dict[bool, Callable[[socket.socket, object], None]] = {}

    async def open(self) -> None:
        """See `cotun_trio.server.listening.Listening`."""
        await trio.lowlevel.checkpoint()

    def accept(self, accepting: trio.Nursery, connections: trio.Nursery, doors: Doors) -> None:
        """See `cotun_trio.server.listening.Listening`."""
        self._take_over = {
            False: doors.acceptor(connections),
            True: doors.health_acceptor(connections),
        }
        accepting.start_soon(self._incoming.run, self.serve_connection)

    def close(self) -> None:
        """See `cotun_trio.server.listening.Listening`: here, the supervisor does that."""

    def take_given(self) -> None:
        """Take the connections that have been given so far."""
        if self._take_over and not self._is_draining:
            self._incoming.take(self.serve_connection, ALL)

    def take_the_last(self) -> None:
        """Take the connections that have been given so far, and none from now on."""
        self.take_given()
        self._is_draining = True

    def serve_connection(self, connection: Connection, descriptor: int) -> None:
        """Have a connection served; it is lost where `descriptor` is -1."""
        if descriptor < 0:
            self._log().warning("a connection is lost: out of file descriptors")
            self._served.add(1)
            return
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        self._take_over[connection.health](sock, (connection.host, connection.port))


class Worker:
    """A server that gets its connections and its orders by its `link`."""

    def __init__(
        self, start: Start, link: ControlLink, incoming: socket.socket, counts: SharedCounts
    ) -> None:
        self._link = link
        self._incoming = Incoming(incoming, counts.count(TAKEN, start.slot))
        self._failures = LinkFailures(link)
        shared = SharedState(
            flows=counts.count(FORWARDS, start.slot),
            startups=counts.count(STARTUPS, start.slot),
            sources=counts.source_counts(start.slot, SOURCES),
            user_sessions=counts.source_counts(start.slot, USERS),
            served=counts.count(SERVED, start.slot),
            failures=self._failures,
            node=start.node,
            elsewhere=LinkElsewhere(link),
            sessions_changed=lambda count: link.send(control.Sessions(count)),
        )
        self.listening = LinkListening(self._incoming, shared.served, lambda: self._log_lost)
        """The way by which connections come."""
        told = start.settings
        settings = attrs.evolve(told, host_key=start.host_key, admin_listen=None, admin_socket=None)
        self._server = server = Server(settings, listening=self.listening, shared=shared)
        self._reports = Reports(server.shown, link, server.log)
        self._has_watchers = bool(told.admin_listen or told.admin_socket)
        self._log_lost = server.log.limited(server.reception.log_limits.of("lost connections"))

    async def serve(self) -> None:
        """Serve until the supervisor ends it, and then until open connections have ended.

        Where it cannot serve at all, the supervisor is told.
        """
        with contextlib.closing(self._link), contextlib.closing(self._incoming):
            await self._serve_by_link()

    async def _serve_by_link(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.run)
            nursery.start_soon(self._obey, nursery)
            nursery.start_soon(self._report_signals)
            nursery.start_soon(logs.write_what_waits)
            if self._has_watchers:
                nursery.start_soon(self._reports.run)
                nursery.start_soon(measure_lag)
            try:
                await self._server.run(task_status=_Ready(self._link))
            except CotunError as error:
                self._link.send(control.CannotServe(str(error)))
            else:
                self._reports.report_events()
                self._link.send(control.Farewell(Account(*await self._server.shown.stats())))
            await self._link.all_sent(PARTING)
            nursery.cancel_scope.cancel()

    # ---- orders of the supervisor

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Do what the supervisor asks for, and end when it is gone."""
        await self._link.hear(functools.partial(self._hear, nursery))
        self._drain()

    def _drain(self) -> None:
        self.listening.take_the_last()
        self._server.shut_down()

    def _hear(self, nursery: trio.Nursery, received: Received) -> None:
        message, number = received.message, received.number
        if isinstance(message, control.Ping):
            # First take the connections given before: the answer means that they have been taken.
            self.listening.take_given()
            self._link.send(control.Done(), number=number)
        elif isinstance(message, control.Look):
            nursery.start_soon(self._reports.answer, message, number)
        elif isinstance(message, control.LogTasks):
            log_task_tree(self._server.log)
        elif isinstance(message, control.Barred):
            self._failures.bar(message.source, message.seconds)
        elif isinstance(message, control.Lifted):
            self._failures.lift(message.source)
        elif isinstance(message, control.LogLevel):
            logs.set_level(message.level)
        elif isinstance(message, control.Reload):
            nursery.start_soon(self._reload_for, number)
        elif isinstance(message, control.Claim):
            nursery.start_soon(self._yield_to, message, number)
        elif isinstance(message, control.Drain):
            self._drain()

    async def _reload_for(self, number: int) -> None:
        await self._server.read_again()
        self._link.send(control.Done(), number=number)

    async def _yield_to(self, claim: control.Claim, number: int) -> None:
        outcome = await self._server.listeners.claimed(claim, claim)
        self._link.send(control.Yield(outcome), number=number)

    async def _report_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self._link.send(control.Leaving())


class _Ready:
    """Tells the supervisor when the server has started (a `trio.TaskStatus`)."""

    def __init__(self, link: ControlLink) -> None:
        self._link = link

    def started(self, _value: None = None) -> None:
        self._link.send(control.Ready())


def begin(sock: socket.socket) -> Start | None:
    """Wait for the first message, and return its content; None where the supervisor has gone.

    Raises `ValueError` where the supervisor is another version.
    """
    # Never more than that message: the rest is for `ControlLink`.
    head = sock.recv(control.HEAD.size, socket.MSG_WAITALL)
    if len(head) < control.HEAD.size:
        return None
    size = control.HEAD.unpack(head)[0]
    payload = sock.recv(size, socket.MSG_WAITALL)
    return Start.unpack(payload) if len(payload) == size else None


def main(arguments: Sequence[str]) -> None:
    """Run a worker.  `arguments` are descriptors: its link, the shared memory, its connections."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    descriptors = [int(argument) for argument in arguments]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    sock, memory = socket.socket(fileno=descriptors[0]), descriptors[1]
    incoming = socket.socket(fileno=descriptors[2])
    try:
        start = begin(sock)
    except ValueError as error:
        sock.sendall(control.encode(control.CannotServe(str(error))))
        return
    if start is None:
        return
    prepare(start.process, worker=start.number)
    counts = SharedCounts(memory, start.slots, start.key)
    try:
        worker = Worker(start, ControlLink(sock), incoming, counts)
    except CotunError as error:  # a file has changed since the supervisor read it
        sock.setblocking(True)
        sock.sendall(control.encode(control.CannotServe(str(error))))
        return
    try:
        trio.run(worker.serve, instruments=[Steps(counts.count(STEPS, start.slot))])
    finally:
        logs.wait_for_reader()
