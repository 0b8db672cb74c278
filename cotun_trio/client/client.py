"""The client: its local listeners, and the sessions that carry their connections.

Listeners belong to the client, not to a session: a connection that arrives while there is none
waits for the next, up to a limit.  The sessions come from the `cotun_trio.client.connectors`, and
the remotes are `cotun_trio.client.remotes`.

It runs in three nurseries, one in the other: the listeners, the sessions with their streams, and
the connectors.  At the end they end in this order, so that open connections get their time.
"""

from __future__ import annotations

import contextlib
import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.admin.choice import interface_for
from cotun_trio.client.connectors import Connectors
from cotun_trio.client.managed_remote import ManagedRemote
from cotun_trio.client.met_servers import MetServers
from cotun_trio.client.open_sessions import OpenSessions
from cotun_trio.client.remotes import Remotes
from cotun_trio.client.shown import ShownClient
from cotun_trio.client.stdio_forward import StdioForward
from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.forwards.places import SystemPlaces
from cotun_trio.logs import Limits, get_logger
from cotun_trio.net.poller import poller
from cotun_trio.net.sockets import close
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.system.systemd import Notifier
from cotun_trio.system.task_tree import log_task_tree
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from cotun_trio.client.session import ClientSession
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.places import Places
    from cotun_trio.forwards.visitor import Visitor
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.settings import ClientSettings


class Watcher(Protocol):
    """Hears how a client is getting on."""

    def connected(self, session: ClientSession) -> None:
        """There is an open session, or another one."""

    def lost(self, failure: CotunError, seconds: float) -> None:
        """There is none at all, because of `failure`, and will not be one for some seconds."""


class NoWatcher:
    """A `Watcher` that does nothing."""

    def connected(self, session: ClientSession) -> None:
        """See `Watcher`."""

    def lost(self, failure: CotunError, seconds: float) -> None:
        """See `Watcher`."""


class Client:
    """A tunnel client.  Raises `UsageError` where its TLS files cannot be used.

    `reread` returns the settings as they are by now, for `reload`; it may block, and raise
    `UsageError`.  `notifier` tells the service manager how the client is, `watcher` the program
    that embeds it.  `remotes` are those of the settings, where they are more than their words;
    `uplink` and `places` are the world around it, where that is not the system's.
    """

    def __init__(
        self,
        settings: ClientSettings,
        reread: Callable[[], ClientSettings] | None = None,
        notifier: Notifier | None = None,
        *,
        remotes: Iterable[ManagedRemote] | None = None,
        watcher: Watcher | None = None,
        uplink: AnyUplink | None = None,
        places: Places | None = None,
        log: Context | None = None,
    ) -> None:
        self.notifier = notifier or Notifier({})
        self.settings = settings
        self._reread = reread
        self._watcher = watcher or NoWatcher()
        self.log = log or get_logger("client")
        self.log_limits = Limits(self.log)
        """See `cotun_trio.client.session.ClientHost`."""
        # For lines that local programs cause, which connect to a listener.
        self._local_log = self.log.limited(self.log_limits.of("local connections"))
        self.scratch = Scratch()
        self.identity = secrets.token_hex(16)
        """See `cotun_trio.client.session.ClientHost`."""
        self.met = MetServers(settings.known_hosts)
        """See `cotun_trio.client.session.ClientHost`."""
        self.open_sessions = OpenSessions(settings.connections)
        self.asking = self.open_sessions.asking
        """See `cotun_trio.client.session.ClientHost`."""
        if remotes is None:
            remotes = [ManagedRemote(remote, is_basic=True) for remote in settings.remotes]
        self.remotes = Remotes(
            remotes,
            places or SystemPlaces(),
            self.open_sessions,
            self.log,
            patience=settings.timings.ssh_wait,
            cut=self._cut_what_is_not_allowed,
        )
        self._stdio = [
            StdioForward(remote, self.wait_session, self._end, self.log)
            for remote in settings.remotes
            if remote.stdio
        ]
        self._failure: CotunError | None = None  # the reason to end
        self._connectors = Connectors(self, self.open_sessions, uplink)
        self._running = self._connectors.running
        self.shown = ShownClient(self._connectors, self.open_sessions, self.remotes)
        self._shutdown = trio.Event()
        self._reload = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and stay connected until `shut_down`, and until that is done, or until cancelled.

        Started when all remotes are listening.  Returns, too, when a stdio remote has come to its
        end.  Raises `UsageError` where a remote cannot listen, the `CotunError` that cannot heal or
        that ended a stdio remote, or `GaveUp`.
        """
        for warning in self.warnings:
            self.log.warning("%s", warning)
        admin = interface_for(self.shown, self.settings, self.log)
        with poller().hold(fast=self.settings.fast_loop), closing(admin), closing(self.remotes):
            await admin.open()
            await self.remotes.listen()
            async with trio.open_nursery() as process:
                process.start_soon(admin.run)
                await self._serve(process, task_status)
                process.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice about the settings and their files: a line each."""
        return self._connectors.warnings

    def shut_down(self) -> None:
        """Accept no more connections, wait for the open ones to end, and then let `run` return.

        After `Timings.shutdown_grace` seconds, connections that are still open are cut.
        """
        self._shutdown.set()

    def _end(self, failure: CotunError | None) -> None:
        """Let `run` end, by raising `failure` if there is one.  Only the first end counts."""
        if not self._shutdown.is_set():
            self._failure = failure
            self.shut_down()

    async def _serve(self, process: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        """Accept and carry connections until it is time to end; then wait for the open ones."""
        connecting = trio.CancelScope()
        async with trio.open_nursery() as sessions:

            async def connect() -> None:
                with connecting:
                    self._end(await self._connectors.run(sessions))

            process.start_soon(connect)
            process.start_soon(self.log_limits.run)
            async with trio.open_nursery() as accepting:
                self.remotes.accept(
                    lambda listener: accepting.start_soon(self._serve_listener, accepting, listener)
                )
                for forward in self._stdio:
                    accepting.start_soon(forward.run)
                accepting.start_soon(self._reload_when_asked)
                task_status.started()
                await self._shutdown.wait()
                accepting.cancel_scope.cancel()
            self.shown.drains()
            self.remotes.close()
            connecting.cancel()
            grace = self.settings.timings.shutdown_grace
            self.notifier.stopping(grace)
            sessions.cancel_scope.deadline = trio.current_time() + grace
            if not self._running.quiet:
                self.log.info(
                    "Shutting down, open connections have %s to end", format_duration(grace)
                )
            self._running.drain("the client is shutting down")

    def hang_up(self) -> None:
        """Shut down: the terminal has gone, or the program at standard input and output.

        To that program, nothing more is carried.
        """
        self._end(None)
        for forward in self._stdio:
            forward.hang_up()

    @property
    def is_for_stdio(self) -> bool:
        """Whether it has a stdio remote: it works for one program, and ends with it."""
        return bool(self._stdio)

    def retry_now(self) -> None:
        """Cut the present waits for the next attempt short."""
        self._connectors.retry_now()

    def log_snapshot(self) -> None:
        """Log a line with the present figures, and with ``-v`` the tasks."""
        self.log.info("%s", self.shown.figures().show(self.shown.uptime))
        log_task_tree(self.log)

    @property
    def addresses(self) -> list[str]:
        """Where the remotes listen here, ``host:port`` each, once `run` has started."""
        return self.remotes.addresses

    # ---- other remotes

    def reload(self) -> None:
        """Read the remotes again, soon, and cut the present wait for the next attempt short."""
        self.retry_now()
        self._reload.set()

    async def _reload_when_asked(self) -> None:
        while self._reread is not None:
            await self._reload.wait()
            self._reload = trio.Event()
            with self.notifier.reloading():
                try:
                    settings = await trio.to_thread.run_sync(self._reread, abandon_on_cancel=True)
                    if attrs.evolve(settings, remotes=self.settings.remotes) != self.settings:
                        self.log.warning("what is new besides remotes counts after a restart")
                    await self.remotes.replace(settings.remotes)
                    self.settings = attrs.evolve(self.settings, remotes=settings.remotes)
                except CotunError as error:
                    self.log.warning("%s: the remotes stay as they were", error)

    def _cut_what_is_not_allowed(self) -> None:
        self._running.cut_what_is_not_allowed()

    # ---- connections to the listeners

    async def _serve_listener(self, nursery: trio.Nursery, listener: Listener) -> None:
        def accepted(remote: Remote, sock: socket.socket, visitor: Visitor) -> None:
            session = self.open_sessions.choose()
            if session is not None:
                session.forward(sock, visitor, remote)
            else:
                nursery.start_soon(self._wait_for_session, remote, sock, visitor)

        await listener.serve(
            accepted,
            self.open_sessions.steady_choice(),
            udp_max_size=self.settings.timings.udp_max_size,
            log=self._local_log.within(remote=listener.remote),
        )

    async def wait_session(self) -> ClientSession:
        """Return an open session; wait for one for `Timings.ssh_wait` seconds at most.

        Raises `ConnectionLost` where there is none.
        """
        with trio.move_on_after(self.settings.timings.ssh_wait) as waiting:
            return await self.open_sessions.wait()
        assert waiting.cancelled_caught
        raise ConnectionLost("there is no tunnel at present")

    async def _wait_for_session(self, remote: Remote, sock: socket.socket, peer: Visitor) -> None:
        """Flow a connection that came while there was no session, when there is one."""
        handed_over = False
        try:
            with contextlib.suppress(ConnectionLost):
                (await self.wait_session()).forward(sock, peer, remote)
                handed_over = True
        finally:
            if not handed_over:
                facts = {"remote": remote, "peer": peer}
                self._local_log.warning(
                    "no tunnel for %s from %s: closed", remote, peer, extra={"facts": facts}
                )
                close(sock, reset=True)

    # ---- as the owner of sessions

    def session_opened(self, session: ClientSession) -> None:
        """See `cotun_trio.client.session.ClientHost`."""
        self.open_sessions.begin(session)
        self.remotes.session_opened(session)
        self.notifier.ready(str(self.open_sessions))
        self._watcher.connected(session)

    def session_left(self, session: ClientSession) -> None:
        """See `cotun_trio.client.session.ClientHost`: others carry on, or connections wait."""
        if self.open_sessions.end(session):
            self.remotes.session_left(session)
            if len(self.open_sessions):
                self.notifier.status(str(self.open_sessions))

    def retrying(self, seconds: float, failure: CotunError) -> None:
        """See `cotun_trio.client.session.ClientHost`: users hear of it if there is no session."""
        if len(self.open_sessions):
            return
        self.notifier.status(f"Retrying in {format_duration(round(seconds, 3))}: {failure}")
        self.shown.failed(str(failure))
        self._watcher.lost(failure, seconds)
        for forward in self._stdio:
            forward.retrying()
