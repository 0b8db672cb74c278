"""The server: accepts connections, lets clients in, and owns their sessions.

Each connection is a task of its own behind a guard: whatever one of them does, or makes us do, ends
there, in one log line.
"""

from __future__ import annotations

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
from cotun_trio.forwards.relay import close
from cotun_trio.http import front
from cotun_trio.logins import Logins
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.reverse import Listeners
from cotun_trio.server_session import ServerSession
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.access.startups import Startup
    from cotun_trio.logs import Context
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
        self.log = get_logger("server")
        self._certificates = None if settings.tls is None else Certificates(settings.tls, self.log)
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
        try:
            self.log.info("Fingerprint %s", self.fingerprint)
            self.accounts.announce()
            await self._run(listeners, task_status)
        finally:
            for listener in listeners:
                close(listener)

    async def _run(
        self, listeners: list[socket.socket], task_status: trio.TaskStatus[None]
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
            startup = self._startups.enter(source_of(address[0]), self.log.warning)
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
            with trio.fail_after(front.HEAD_TIMEOUT):
                await transport.shake_hands()
        except trio.TooSlowError:
            raise ConnectionLost(f"no TLS handshake in {front.HEAD_TIMEOUT:g} s") from None
        return transport

    async def _serve(self, sock: socket.socket, host: str, startup: Startup, log: Context) -> None:
        deadline = trio.current_time() + self.settings.timings.ssh_timeout
        transport = await self._shake_hands(sock)
        try:
            request = await front.receive_request(transport)
            dialect = front.wanted_dialect(request)
            if dialect is None or not front.is_for(request, self.settings.path):
                if front.asks_for_websocket(request):
                    protocol = b", ".join(request.values(b"sec-websocket-protocol"))
                    log.info("ignored an upgrade to protocol '%s'", escape(protocol))
                status = await front.respond(transport, request, cotun_trio.__version__)
                log.debug("%s %s: %d", request.method.decode(), escape(request.target), status)
                return
            head = front.upgrade_head(request, dialect)
        except front.HeadError as error:
            log.info("%s", error)
            await front.respond_error(transport, error.status)
            return
        if seconds := self.logins.barred(host):
            log.debug("barred for %s more", format_duration(round(seconds, 3)))
            await front.respond_error(
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
        session = ServerSession(self, wire, dialect, log, host=host, startup=startup)
        self._sessions.add(session)
        try:
            await session.run(deadline=deadline)
        finally:
            self._sessions.remove(session)
