"""The server: it listens, and owns all that outlives a connection: keys, users, listeners.

An accepted connection goes to the `cotun_trio.server.reception`, and becomes a session there.

It runs in three nurseries, one in the other: the listeners, the connections, and the tasks of the
process.  At the end they end in this order, so that no new connection comes while the open ones get
their time, and nothing that a connection needs ends before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.user_sessions import UserSessions
from cotun_trio.admin.choice import interface_for
from cotun_trio.errors import CotunError
from cotun_trio.forwards.places import SystemPlaces
from cotun_trio.forwards.quota import Quota
from cotun_trio.logs import get_logger
from cotun_trio.net.poller import poller
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.server.authorisation import Authorisation
from cotun_trio.server.files import ServerFiles
from cotun_trio.server.listening import SocketListening
from cotun_trio.server.logins import Logins
from cotun_trio.server.reception import Reception
from cotun_trio.server.reverse_listeners import Listeners
from cotun_trio.server.shared import SharedState
from cotun_trio.server.shown import ShownServer
from cotun_trio.snapshot import snapshot
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.system.systemd import Notifier
from cotun_trio.system.task_tree import log_task_tree
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.places import Places
    from cotun_trio.protocol.target import Target
    from cotun_trio.server.authorisation import Hook
    from cotun_trio.server.listening import Listening
    from cotun_trio.server.session import ServerSession
    from cotun_trio.settings import ServerSettings
    from cotun_trio.system.systemd import Passed


class Server:
    """A tunnel server with one host key, that of its settings or one made for this run.

    `authorise` is the hook that decides about connections, besides the access lists.  `notifier`
    tells the service manager how the server is.  `listening` and `places` are the world around it,
    where that is not the system's; `shared` is the state that other processes share.  Raises
    `CotunError` for files of the settings that cannot be used.
    """

    def __init__(
        self,
        settings: ServerSettings,
        passed: Passed | None = None,
        notifier: Notifier | None = None,
        *,
        authorise: Hook | None = None,
        listening: Listening | None = None,
        places: Places | None = None,
        shared: SharedState | None = None,
    ) -> None:
        shared = shared or SharedState.alone(settings)
        self.settings = settings
        self.notifier = notifier or Notifier({})
        self.log = get_logger("server")
        self.node = shared.node
        """See `cotun_trio.server.session.ServerHost`."""
        self.files = ServerFiles(settings, self.log)
        self.places = places or SystemPlaces(settings.reverse_host)
        self.peers = shared.peers
        self.logins = Logins(self.files.accounts, shared.failures, shared.peers)
        self.listeners = Listeners(self.places.open_listener, shared.elsewhere)
        self.authorisation = None if authorise is None else Authorisation(authorise)
        self.scratch = Scratch()
        self.quota = Quota(settings.max_connections, shared.flows)
        self.user_sessions = UserSessions(settings.max_user_sessions, shared.user_sessions)
        certificates = self.files.certificates
        self.reception = Reception(self, certificates, self.log, shared)
        self.shown = ShownServer(self.reception, self.quota, shared.bars, shared.fleet)
        """Itself, as an administrator sees it."""
        self._listening = listening or SocketListening(
            settings, self.log, passed, challenges=isinstance(certificates, AcmeCertificates)
        )
        # In a fleet, peers pass visitors on until the clients here have gone to other nodes.
        self._waits_for_clients = shared.elsewhere.keeps_draining
        self._sessions_changed = shared.sessions_changed
        self._tell_users_changed = shared.users_changed
        self._reload = trio.Event()
        self._shutdown = trio.Event()

    @property
    def addresses(self) -> Sequence[str]:
        """Addresses where it listens, ``host:port`` each, once `run` has started."""
        return self._listening.addresses

    @property
    def health_addresses(self) -> Sequence[str]:
        """The same for ``--health-listen``."""
        return self._listening.health_addresses

    @property
    def host_key(self) -> HostKey:
        """See `ServerFiles`."""
        return self.files.host_key

    @property
    def fingerprint(self) -> str:
        """See `ServerFiles`."""
        return self.files.fingerprint

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `shut_down`, and until that is done, or until cancelled.

        Started when it listens.  Raises `UsageError` where it cannot.
        """
        with poller().hold(fast=self.settings.fast_loop):
            await self._run(task_status)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        failure: CotunError | None = None
        admin = interface_for(self.shown, self.settings, self.log)
        try:
            await admin.open()
            await self._listening.open()
            if self._listening.announces:
                # A hook may well ask for more than users.
                self.files.announce(() if self.authorisation else self._listening.addresses)
            async with trio.open_nursery() as process:
                try:
                    await self.files.watch(process, self._users_changed)
                except CotunError as error:
                    failure = error
                else:
                    process.start_soon(admin.run)
                    process.start_soon(self._reload_when_asked)
                    process.start_soon(self.reception.log_limits.run)
                    await self._serve(task_status)
                process.cancel_scope.cancel()
        finally:
            self._listening.close()
            admin.close()
        if failure is not None:
            raise failure

    def shut_down(self) -> None:
        """Accept no more connections, wait for the open ones to end, and then let `run` return.

        After `Timings.shutdown_grace` seconds, connections that are still open are cut.
        """
        self._shutdown.set()

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Accept connections until it is time to end; then wait for the open ones."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                self._listening.accept(accepting, connections, self.reception)
                self.shown.listens(self.addresses)
                self.notifier.ready(self._status())
                task_status.started()
                await self._shutdown.wait()
                if self._waits_for_clients:
                    connections.cancel_scope.deadline = self._drain()
                    with trio.CancelScope(deadline=connections.cancel_scope.deadline):
                        await self.reception.close_peers()
                accepting.cancel_scope.cancel()
            self._listening.close()
            if not self._waits_for_clients:  # only now: who was accepted is still answered
                connections.cancel_scope.deadline = self._drain()

    def _drain(self) -> float:
        """Let the sessions end; return until when they have time."""
        grace = self.settings.timings.shutdown_grace
        self.shown.drains()
        self.notifier.stopping(grace)
        self.log.info(
            "Shutting down, %d sessions have %s to end",
            len(self.reception.sessions),
            format_duration(grace),
        )
        self.reception.close_soon("the server is shutting down")
        return trio.current_time() + grace

    def inbox(self, target: Target) -> Inbox | None:
        """See `cotun_trio.server.session.ServerHost`."""
        return self.places.inbox(target)

    @property
    def sessions(self) -> list[ServerSession]:
        """Current sessions of clients whose remotes have been accepted."""
        return self.reception.open_sessions

    def sessions_changed(self) -> None:
        """A session has opened, or one that was open has ended."""
        self.notifier.status(self._status())
        self._sessions_changed(len(self.sessions))

    def _status(self) -> str:
        count = len(self.reception.open_sessions)
        return f"Listening on {', '.join(self.addresses)}; {count} sessions"

    def log_snapshot(self) -> None:
        """Log a line with the present figures, and with ``-v`` the tasks."""
        self.log.info("%s", snapshot(self.reception.ended_totals, self.reception.open_sessions))
        log_task_tree(self.log)

    def reload(self) -> None:
        """Read the users file and the certificate again, soon."""
        self._reload.set()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload = trio.Event()
            with self.notifier.reloading():
                await self.read_again()

    async def read_again(self) -> None:
        """Read the users file and the certificate again, now."""
        await self.files.read_again(self._users_changed)

    def _users_changed(self) -> None:
        self._tell_users_changed(self.files.accounts.users)
        for session in list(self.reception.sessions):
            session.users_changed(self.files.accounts.users)
