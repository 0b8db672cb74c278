"""The server: listens, and owns what outlives a connection: its keys, its users, its listeners.

An accepted connection goes to the `cotun_trio.reception`, and becomes a session there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio import acme_certificates
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.accounts import Accounts
from cotun_trio.acme_certificates import AcmeCertificates
from cotun_trio.certificates import Certificates
from cotun_trio.errors import CotunError, UsageError
from cotun_trio.logins import Logins
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.net.sockets import close
from cotun_trio.reception import Reception
from cotun_trio.reverse import Listeners
from cotun_trio.settings import ServerTls
from cotun_trio.snapshot import snapshot
from cotun_trio.ssh.scratch import Scratch

if TYPE_CHECKING:
    import socket

    from cotun_trio.settings import ServerSettings


class Server:
    """A tunnel server with one host key, that of its settings or one made for this run."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
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
        self.logins = Logins(self.accounts, per_minute=settings.max_auth_failures)
        self.listeners = Listeners()
        self.scratch = Scratch()
        self._reload = trio.Event()
        self._challenged: list[socket.socket] = []  # on port 80
        self._reception = Reception(self, self._certificates, self.log)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled.  Started when it listens.

        Raises `UsageError` where it cannot.
        """
        listeners = await open_listeners(self.settings.host, self.settings.port)
        watched: list[socket.socket] = []
        try:
            if self.settings.health_listen is not None:
                watched = await open_listeners(*self.settings.health_listen)
            self.log.info("Fingerprint %s", self.fingerprint)
            self.accounts.announce()
            await self._run(listeners, watched, task_status)
        finally:
            for listener in (*listeners, *watched, *self._challenged):
                close(listener)

    async def _run(
        self,
        listeners: list[socket.socket],
        watched: list[socket.socket],
        task_status: trio.TaskStatus[None],
    ) -> None:
        failure: CotunError | None = None
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(self._watch_accounts)
                if isinstance(self._certificates, Certificates):
                    await nursery.start(self._certificates.watch)
                elif self._certificates is not None:
                    await self._listen_for_challenges(nursery, self._certificates)
                    nursery.start_soon(self._certificates.run)
            except CotunError as error:
                failure = error
                nursery.cancel_scope.cancel()
            else:
                nursery.start_soon(self._reload_when_asked)
                for listener in listeners:
                    self.addresses.append(show_address(listener))
                    scheme = "http" if self._certificates is None else "https"
                    self.log.info("Listening on %s://%s", scheme, self.addresses[-1])
                    nursery.start_soon(accept_forever, listener, self._reception.acceptor(nursery))
                for listener in watched:
                    self.health_addresses.append(show_address(listener))
                    self.log.info("Answering /health on http://%s", self.health_addresses[-1])
                    accepted = self._reception.health_acceptor(nursery)
                    nursery.start_soon(accept_forever, listener, accepted)
                task_status.started()
        if failure is not None:
            raise failure

    async def _listen_for_challenges(
        self, nursery: trio.Nursery, certificates: AcmeCertificates
    ) -> None:
        """Listen on port 80, where that can be had: HTTP-01 is looked for there."""
        try:
            listeners = await open_listeners(self.settings.host, acme_certificates.HTTP_PORT)
        except UsageError as error:
            self.log.debug("no challenges by HTTP: %s", error)
            return
        certificates.by_http = True
        self._challenged += listeners
        accepted = self._reception.challenge_acceptor(nursery, certificates)
        for listener in listeners:
            self.log.info("Answering challenges on http://%s", show_address(listener))
            nursery.start_soon(accept_forever, listener, accepted)

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
            await self.accounts.reload(self._users_changed)
            if isinstance(self._certificates, Certificates):
                await self._certificates.reload()

    async def _watch_accounts(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.accounts.watch(self._users_changed, task_status=task_status)

    def _users_changed(self) -> None:
        for session in list(self._reception.sessions):
            session.users_changed(self.accounts.users)
