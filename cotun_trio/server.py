"""The server: accepts connections, lets clients in, and owns their sessions.

Each connection is a task of its own behind a guard: whatever one of them does, or makes us do, ends
there, in one log line.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

import cotun_trio
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.access.sources import source_of
from cotun_trio.access.startups import Startups
from cotun_trio.accounts import Accounts
from cotun_trio.certificates import Certificates
from cotun_trio.durations import format_duration
from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.escape import escape
from cotun_trio.http.forwarding import Origin, is_within
from cotun_trio.http.front import (
    HEAD_TIMEOUT,
    Front,
    HeadError,
    asks_for_websocket,
    is_for,
    respond,
    respond_error,
    upgrade_head,
    wanted_dialect,
)
from cotun_trio.http.gateway import BackEnd, Gateway
from cotun_trio.logins import Logins
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.net.sockets import close
from cotun_trio.net.tls_files import client_context
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.reverse import Listeners
from cotun_trio.server_session import ServerSession
from cotun_trio.settings import ClientTls
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.access.startups import Startup
    from cotun_trio.http.front import Request
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
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
        self._certificates = None if settings.tls is None else Certificates(settings.tls, self.log)
        self._back_end = None if settings.backend is None else _back_end(settings)
        self.accounts = Accounts(settings.auth, settings.authfile, self.log)
        self.logins = Logins(self.accounts, per_minute=settings.max_auth_failures)
        self.listeners = Listeners()
        self.scratch = Scratch()
        self._numbers = itertools.count(1)
        self._reload = trio.Event()
        self._sessions: set[ServerSession] = set()
        self._startups = Startups(settings.max_startups, settings.max_startups_per_source)

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
            for listener in (*listeners, *watched):
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
                if self._certificates is not None:
                    await nursery.start(self._certificates.watch)
            except CotunError as error:
                failure = error
                nursery.cancel_scope.cancel()
            else:
                nursery.start_soon(self._reload_when_asked)
                for listener in listeners:
                    self.addresses.append(show_address(listener))
                    scheme = "http" if self._certificates is None else "https"
                    self.log.info("Listening on %s://%s", scheme, self.addresses[-1])
                    nursery.start_soon(accept_forever, listener, self._acceptor(nursery))
                for listener in watched:
                    self.health_addresses.append(show_address(listener))
                    self.log.info("Answering /health on http://%s", self.health_addresses[-1])
                    nursery.start_soon(
                        accept_forever,
                        listener,
                        lambda sock, _: nursery.start_soon(self._serve_health, sock),
                    )
                task_status.started()
        if failure is not None:
            raise failure

    # ---- users

    def reload(self) -> None:
        """Read the users file and the certificate again, soon."""
        self._reload.set()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload = trio.Event()
            await self.accounts.reload(self._users_changed)
            if self._certificates is not None:
                await self._certificates.reload()

    async def _watch_accounts(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.accounts.watch(self._users_changed, task_status=task_status)

    def _users_changed(self) -> None:
        for session in list(self._sessions):
            session.users_changed(self.accounts.users)

    # ---- connections

    def _acceptor(self, nursery: trio.Nursery) -> Callable[[socket.socket, object], None]:
        """Return what takes over an accepted connection, in a task of `nursery`."""

        def accepted(sock: socket.socket, address: object) -> None:
            assert isinstance(address, tuple)  # as that of every TCP connection
            startup = self._startups.enter(
                source_of(address[0]),
                self.log.warning,
                shared=is_within(address[0], self.settings.trusted_proxies),
            )
            if startup is None:
                close(sock)
            else:
                nursery.start_soon(self._guard, sock, address, startup)

        return accepted

    async def _guard(self, sock: socket.socket, address: tuple[str, int], startup: Startup) -> None:
        """Keep what goes wrong with one connection from everything else."""
        log = self.log.within(peer=join_host_port(*address[:2]))
        try:
            await self._serve(sock, address[0], startup, log)
        except CotunError as error:
            log.debug("%s", error)
        except Exception:
            log.error("internal error, the connection is closed")
            log.debug("what happened", exc_info=True)
        finally:
            startup.leave()
            close(sock)

    async def _shake_hands(self, sock: socket.socket) -> Transport:
        """Return the connection behind its TLS handshake, if it has to have one."""
        if self._certificates is None:
            return Transport(sock)
        transport = Transport(sock, self._certificates.tls())
        try:
            with trio.fail_after(HEAD_TIMEOUT):
                await transport.shake_hands()
        except trio.TooSlowError:
            raise ConnectionLost(f"no TLS handshake in {HEAD_TIMEOUT:g} s") from None
        return transport

    async def _serve(self, sock: socket.socket, host: str, startup: Startup, log: Context) -> None:
        """Answer requests, and be the tunnel that one of them asks for."""
        began = trio.current_time()
        transport = await self._shake_hands(sock)
        origin = Origin(host, self._certificates is not None, self.settings.trusted_proxies)
        front = Front(transport)
        with contextlib.ExitStack() as stack:
            gateway = None
            if self._back_end is not None:
                gateway = stack.enter_context(contextlib.closing(Gateway(self._back_end, front)))
            try:
                while True:
                    request = await front.next_request()
                    dialect = self._wanted_dialect(request, log)
                    if dialect is not None:
                        head = upgrade_head(request, dialect)
                        break
                    log.debug("%s %s", request.method.decode(), escape(request.target))
                    if gateway is None:
                        await respond(transport, request, cotun_trio.__version__)
                        return
                    if not await gateway.forward(request, origin):
                        return
                    startup.leave()  # a client of the back end's, which has limits of its own
                    began = trio.current_time()
            except HeadError as error:
                log.info("%s", error)
                await respond_error(transport, error.status)
                return
        client = origin.client(request.headers)
        if client != host:
            log = log.within(client=client)
        if seconds := self.logins.barred(client):
            log.debug("barred for %s more", format_duration(round(seconds, 3)))
            await respond_error(
                transport, HTTPStatus.TOO_MANY_REQUESTS, retry_after=math.ceil(seconds)
            )
            return
        wire = Wire(
            sock,
            self.scratch.read,
            client=False,
            head=head,
            early=request.early,
            tls=transport.tls,
        )
        log = log.within(session=next(self._numbers))
        session = ServerSession(self, wire, dialect, log, host=client, startup=startup)
        self._sessions.add(session)
        try:
            await session.run(deadline=began + self.settings.timings.ssh_timeout)
        finally:
            self._sessions.remove(session)

    def _wanted_dialect(self, request: Request, log: Context) -> Dialect | None:
        """Return the dialect of the tunnel that `request` asks for; None where it asks for none."""
        dialect = wanted_dialect(request)
        if dialect is not None and is_for(request, self.settings.path):
            return dialect
        if asks_for_websocket(request) and self._back_end is None:
            protocol = b", ".join(request.values(b"sec-websocket-protocol"))
            log.info("ignored an upgrade to protocol '%s'", escape(protocol))
        return None

    # ---- for who watches the server

    async def _serve_health(self, sock: socket.socket) -> None:
        """Answer one request as if there were no back end."""
        transport = Transport(sock)
        with contextlib.suppress(CotunError):
            try:
                request = await Front(transport).next_request()
                await respond(transport, request, cotun_trio.__version__)
            except HeadError as error:
                await respond_error(transport, error.status)
        close(sock)


def _back_end(settings: ServerSettings) -> BackEnd:
    assert settings.backend is not None
    tls = client_context(ClientTls()) if settings.backend.tls else None
    return BackEnd(settings.backend, tls=tls, timeout=settings.timings.backend_timeout)
