"""The server: listens, and owns what outlives a connection: its keys, its users, its listeners.

An accepted connection goes to the `cotun_trio.server.reception`, and becomes a session there.

It runs in three nurseries, one in the other: what accepts, the connections, and what watches over
the process.  At the end they end in this order, so that nothing new comes while what there is gets
its time, and nothing that a connection needs goes before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.access.user_sessions import UserSessions
from cotun_trio.errors import CotunError, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.forwards.running import Quota
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.net.sockets import close, tune
from cotun_trio.server.accounts import Accounts
from cotun_trio.server.acme_certificates import HTTP_PORT, AcmeCertificates
from cotun_trio.server.authorisation import Authorisation
from cotun_trio.server.certificates import Certificates
from cotun_trio.server.logins import Logins
from cotun_trio.server.reception import Reception
from cotun_trio.server.reverse_listeners import Listeners
from cotun_trio.server.shared import Common
from cotun_trio.settings import ServerTls
from cotun_trio.snapshot import snapshot
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.system.systemd import Notifier
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.server.authorisation import Hook
    from cotun_trio.server.session import ServerSession
    from cotun_trio.settings import ServerSettings
    from cotun_trio.system.systemd import Passed
    from cotun_trio.websocket.any_wire import AnyWire


class Server:
    """A tunnel server with one host key, that of its settings or one made for this run.

    `passed` are listening sockets that are there already, `notifier` knows who wants to hear how it
    is, `authorise` is asked who may have what, and `common` is what it shares with other servers.
    """

    def __init__(
        self,
        settings: ServerSettings,
        passed: Passed | None = None,
        notifier: Notifier | None = None,
        authorise: Hook | None = None,
        common: Common | None = None,
    ) -> None:
        common = common or Common()
        self.settings = settings
        self.notifier = notifier or Notifier({})
        key = settings.host_key
        self.host_key = generate_host_key() if key is None else key
        self.fingerprint = fingerprint(self.host_key.asbytes())
        self.addresses: list[str] = []
        """Where it listens, ``host:port`` each, once `run` has started."""
        self.health_addresses: list[str] = []
        """The same for ``--health-listen``."""
        self.log = get_logger("server")
        self._certificates: Certificates | AcmeCertificates | None = None
        if isinstance(settings.tls, ServerTls):
            self._certificates = Certificates(settings.tls, self.log)
        elif settings.tls is not None:
            self._certificates = AcmeCertificates(settings.tls, self.log)
        self.accounts = Accounts(settings.auth, settings.authfile, self.log)
        self.logins = Logins(
            self.accounts, per_minute=settings.max_auth_failures, failures=common.failures
        )
        self.listeners = Listeners(self.open_listener, common.elsewhere)
        self.authorisation = None if authorise is None else Authorisation(authorise)
        self.scratch = Scratch()
        self.quota = Quota(settings.max_connections, common.forwards)
        self.user_sessions = UserSessions(settings.max_user_sessions, common.user_sessions)
        self._listeners = list(passed.main if passed else ())
        self._health_listeners = list(passed.health if passed else ())
        self._challenge_listeners: list[socket.socket] = []  # on port 80
        self._reload = trio.Event()
        self._shutdown = trio.Event()
        self._reception = Reception(self, self._certificates, self.log, common)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `shut_down`, and until that is done, or until cancelled.

        Started when it listens.  Raises `UsageError` where it cannot.
        """
        failure: CotunError | None = None
        try:
            await self._listen()
            self._announce()
            async with trio.open_nursery() as process:
                try:
                    await self._watch_files(process)
                except CotunError as error:
                    failure = error
                else:
                    process.start_soon(self._reload_when_asked)
                    process.start_soon(self._reception.log_limits.run)
                    await self._serve(task_status)
                process.cancel_scope.cancel()
        finally:
            self._stop_listening()
        if failure is not None:
            raise failure

    def shut_down(self) -> None:
        """Accept nothing more, let what is open end for a while, and then let `run` return.

        The while is `Timings.shutdown_grace`; what has not ended by then is cut.
        """
        self._shutdown.set()

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Accept connections until it is time to end, and then see those out that there are."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                self._accept(accepting, connections)
                self.notifier.ready(self._status())
                task_status.started()
                await self._shutdown.wait()
                accepting.cancel_scope.cancel()
            self._stop_listening()
            self.notifier.stopping(self.settings.timings.shutdown_grace)
            grace = self.settings.timings.shutdown_grace
            self.log.info(
                "Shutting down, %d sessions have %s to end",
                len(self._reception.sessions),
                format_duration(grace),
            )
            self._reception.close_soon("the server is shutting down")
            connections.cancel_scope.deadline = trio.current_time() + grace

    async def open_listener(self, remote: Remote, share: Share) -> Listener:
        """Listen for a client's reverse remote, a name of which is looked up in its `share`.

        Raises `UsageError`, with nothing left open.
        """
        return await open_listener(remote, share)

    def inbox(self, target: Target) -> Inbox | None:  # noqa: ARG002
        """See `cotun_trio.server.session.Owner`: all targets are dialled."""
        return None

    @property
    def sessions(self) -> list[ServerSession]:
        """Those of clients that are in."""
        return self._reception.open_sessions

    async def serve_wire(self, wire: AnyWire, dialect: Dialect, host: str) -> None:
        """Serve who comes from `host` and is at the other end of `wire`; see `Reception`."""
        await self._reception.serve_wire(wire, dialect, host)

    def sessions_changed(self) -> None:
        """A session has opened, or one that was open has ended."""
        self.notifier.status(self._status())

    def _status(self) -> str:
        count = len(self._reception.open_sessions)
        return f"Listening on {', '.join(self.addresses)}; {count} sessions"

    def _announce(self) -> None:
        self.log.info("Fingerprint %s", self.fingerprint)
        self.accounts.announce()

    # ---- listening

    async def _listen(self) -> None:
        """Open all listeners.  Raises `UsageError`."""
        settings = self.settings
        for listener in self._listeners:  # passed
            tune(listener)
        if not self._listeners:
            self._listeners = await open_listeners(settings.host, settings.port)
        if settings.health_listen is not None and not self._health_listeners:
            self._health_listeners = await open_listeners(*settings.health_listen)
        if isinstance(self._certificates, AcmeCertificates):
            try:
                self._challenge_listeners = await open_listeners(settings.host, HTTP_PORT)
                self._certificates.by_http = True
            except UsageError as error:
                self.log.debug("no challenges by HTTP: %s", error)

    def _accept(self, accepting: trio.Nursery, connections: trio.Nursery) -> None:
        """Begin to accept, in tasks of `accepting`; what comes is served in `connections`."""
        reception = self._reception
        scheme = "http" if self._certificates is None else "https"
        for listener in self._listeners:
            self.addresses.append(show_address(listener))
            self.log.info("Listening on %s://%s", scheme, self.addresses[-1])
            accepting.start_soon(accept_forever, listener, reception.acceptor(connections))
        for listener in self._health_listeners:
            self.health_addresses.append(show_address(listener))
            self.log.info("Answering /health on http://%s", self.health_addresses[-1])
            accepting.start_soon(accept_forever, listener, reception.health_acceptor(connections))
        for listener in self._challenge_listeners:
            assert isinstance(self._certificates, AcmeCertificates)
            self.log.info("Answering challenges on http://%s", show_address(listener))
            accepted = reception.challenge_acceptor(connections, self._certificates)
            accepting.start_soon(accept_forever, listener, accepted)

    def _stop_listening(self) -> None:
        for listener in (*self._listeners, *self._health_listeners, *self._challenge_listeners):
            close(listener)

    async def _watch_files(self, process: trio.Nursery) -> None:
        """Begin to notice changes of the users and the certificate.  Raises `CotunError`."""
        await process.start(self._watch_accounts)
        if isinstance(self._certificates, Certificates):
            await process.start(self._certificates.watch)
        elif self._certificates is not None:
            process.start_soon(self._certificates.run)

    def log_snapshot(self) -> None:
        """Log what is going on."""
        self.log.info("%s", snapshot(self._reception.past, self._reception.open_sessions))

    # ---- users

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
        await self.accounts.reload(self._users_changed)
        if isinstance(self._certificates, Certificates):
            await self._certificates.reload()

    async def _watch_accounts(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.accounts.watch(self._users_changed, task_status=task_status)

    def _users_changed(self) -> None:
        for session in list(self._reception.sessions):
            session.users_changed(self.accounts.users)
