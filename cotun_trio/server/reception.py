"""What happens to an accepted connection before it is a session: TLS, HTTP, and who may come in.

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

from cotun_trio._version import __version__
from cotun_trio.access.sources import source_of
from cotun_trio.access.startups import Startups
from cotun_trio.errors import ConnectionLost, CotunError, TlsFailed
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
    respond_moved,
    respond_page,
    upgrade_head,
    wanted_dialect,
)
from cotun_trio.http.gateway import BackEnd, Gateway
from cotun_trio.logs import Limits
from cotun_trio.net.sockets import close
from cotun_trio.net.tls_files import client_context
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.client_hello import HelloReader
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.server.session import ServerSession
from cotun_trio.settings import ClientTls
from cotun_trio.snapshot import Past
from cotun_trio.units import format_duration
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator

    from cotun_trio.access.startups import Startup
    from cotun_trio.http.front import Request
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.server.certificates import Certificates
    from cotun_trio.server.session import Owner
    from cotun_trio.server.shared import Common
    from cotun_trio.settings import ServerSettings
    from cotun_trio.websocket.any_wire import AnyWire


RETRY_AFTER = 5
"""Seconds after which somebody may try again for whom there was no place: logins take less."""
UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))
"""The alert for a name that is none of ours, as a record (RFC 8446 section 6)."""


class Reception:
    """Receives the connections of a server, which is the `owner` of their sessions.

    `certificates` are for TLS; without them, none is spoken.  `common` is where they are counted.
    """

    def __init__(
        self,
        owner: Owner,
        certificates: Certificates | AcmeCertificates | None,
        log: Context,
        common: Common,
    ) -> None:
        settings = owner.settings
        self.sessions: set[ServerSession] = set()
        """Those that there are, logged in or not."""
        self.past = Past()
        """Those that there were."""
        self._closing: str | None = None  # why nobody should stay
        self._fronts: set[Front] = set()  # of connections that are no sessions yet
        self._owner = owner
        self._settings = settings
        self._certificates = certificates
        self.log_limits = Limits(log)
        """What each source can have us log; has to be run."""
        self._log = log
        self._back_end = None if settings.backend is None else _back_end(settings)
        self._startups = Startups(
            settings.max_startups,
            settings.max_startups_per_source,
            crowd=common.startups,
            sources=common.sources,
            say=log.warning,
        )
        self._served = common.served
        self._numbers = itertools.count(1)

    @property
    def open_sessions(self) -> list[ServerSession]:
        """Those of clients that are in."""
        return [session for session in self.sessions if session.was_open]

    def close_soon(self, reason: str) -> None:
        """Let everybody come to an end who is here, and tell them the reason; see `Session.drain`.

        Who is on the way in still gets there: it would not know whether it has been heard.
        """
        self._closing = reason
        for front in self._fronts:
            front.close_soon()
        for session in self.sessions:
            session.drain(reason)

    def acceptor(self, nursery: trio.Nursery) -> Callable[[socket.socket, object], None]:
        """Return what takes over an accepted connection, in a task of `nursery`."""

        def accepted(sock: socket.socket, address: object) -> None:
            host, port = _peer(address)
            startup = self._startups.enter(self._source(host))
            if startup is None:
                close(sock)
                self._served.own += 1
            else:
                nursery.start_soon(self._guard, sock, host, port, self._serve, startup)

        return accepted

    def _source(self, host: str) -> str | None:
        """Return what `host` counts as; None for a trusted proxy, which stands for many."""
        return None if is_within(host, self._settings.trusted_proxies) else source_of(host)

    def _log_of(self, host: str) -> Context:
        """Return the log for what `host`, an address, has us say."""
        return self._log.limited(self.log_limits.of(source_of(host)))

    def health_acceptor(self, nursery: trio.Nursery) -> Callable[[socket.socket, object], None]:
        """Return the same for who watches the server, and is answered whatever there is else."""

        def accepted(sock: socket.socket, address: object) -> None:
            nursery.start_soon(self._guard, sock, *_peer(address), self._serve_health)

        return accepted

    def challenge_acceptor(
        self, nursery: trio.Nursery, certificates: AcmeCertificates
    ) -> Callable[[socket.socket, object], None]:
        """Return the same for port 80, where an authority may look for a challenge."""

        def accepted(sock: socket.socket, address: object) -> None:
            nursery.start_soon(
                self._guard, sock, *_peer(address), self._serve_challenge, certificates
            )

        return accepted

    async def _guard(
        self,
        sock: socket.socket,
        host: str,
        port: int,
        serve: Callable[..., Awaitable[None]],
        *args: object,
    ) -> None:
        """Keep what goes wrong with one connection from everything else."""
        log = self._log_of(host).within(peer=join_host_port(host, port))
        try:
            await serve(sock, host, log, *args)
        except CotunError as error:
            log.debug("%s", error)
        except Exception:
            log.error("internal error, the connection is closed")
            log.debug("what happened", exc_info=True)
        finally:
            close(sock)
            self._served.own += 1

    async def _serve_health(self, sock: socket.socket, _host: str, _log: Context) -> None:
        """Answer one request as if there were no back end."""
        transport = Transport(sock)
        try:
            request = await Front(transport).next_request()
            await respond(transport, request, __version__)
        except HeadError as error:
            await respond_error(transport, error.status)

    async def _serve_challenge(
        self, sock: socket.socket, _host: str, log: Context, certificates: AcmeCertificates
    ) -> None:
        transport = Transport(sock)
        try:
            request = await Front(transport).next_request()
            log.debug("%s %s", request.method.decode(), escape(request.target))
            host = b"".join(request.values(b"host")).decode("latin-1").partition(":")[0].lower()
            page = certificates.pages.get(request.path.decode("latin-1"))
            if page is not None:
                await respond_page(transport, request, page)
            elif host in certificates.domains:
                await respond_moved(transport, request, host)
            else:
                await respond_error(transport, HTTPStatus.NOT_FOUND)
        except HeadError as error:
            await respond_error(transport, error.status)

    async def _serve(self, sock: socket.socket, host: str, log: Context, startup: Startup) -> None:
        """Serve whoever connects."""
        began = trio.current_time()
        try:
            transport = await self._shake_hands(sock)
            try:
                await self._answer(transport, host, startup, log, began)
            except HeadError as error:
                log.log(error.level, "%s", error)
                await respond_error(transport, error.status, retry_after=error.retry_after)
        finally:
            startup.leave()

    async def _shake_hands(self, sock: socket.socket) -> Transport:
        """Return the connection behind its TLS handshake, if it has to have one."""
        if self._certificates is None:
            return Transport(sock)
        transport = Transport(sock)
        try:
            with trio.fail_after(HEAD_TIMEOUT):
                if isinstance(self._certificates, AcmeCertificates):
                    await _choose_tls(transport, self._certificates)
                else:
                    transport.tls = self._certificates.tls()
                await transport.shake_hands()
        except trio.TooSlowError:
            raise ConnectionLost(f"no TLS handshake in {HEAD_TIMEOUT:g} s") from None
        return transport

    async def _answer(
        self, transport: Transport, host: str, startup: Startup, log: Context, began: float
    ) -> None:
        """Answer requests, and be the tunnel that one of them asks for.

        Raises `HeadError` where one cannot be had.
        """
        origin = Origin(host, self._certificates is not None, self._settings.trusted_proxies)
        front = Front(transport)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._present(front))
            gateway = None
            if self._back_end is not None:
                gateway = stack.enter_context(contextlib.closing(Gateway(self._back_end, front)))
            while True:
                request = await front.next_request()
                client = origin.client(request.headers)
                if not startup.move(self._source(client)):
                    raise _no_place()
                dialect = self._wanted_dialect(request, log)
                if dialect is not None:
                    break
                log.debug("%s %s", request.method.decode(), escape(request.target))
                if gateway is None:
                    await respond(transport, request, __version__)
                    return
                startup.step_aside()  # a client of the back end's, which has limits of its own
                if not await gateway.forward(request, origin):
                    return
                startup.move(self._source(host))  # between requests, a proxy has it for all
                began = trio.current_time()
        if client != host:
            # Of all that come by this proxy, only this one is to blame from here on.
            log = log.within(client=client).limited(self.log_limits.of(source_of(client)))
        if seconds := self._owner.logins.barred(client):
            reason = f"barred for {format_duration(round(seconds, 3))} more"
            raise HeadError(
                HTTPStatus.TOO_MANY_REQUESTS, reason, retry_after=math.ceil(seconds), quiet=True
            )
        if not startup.come_back():
            raise _no_place()
        await self._run_session(front, request, dialect, log, client, startup, began)

    @contextlib.contextmanager
    def _present(self, front: Front) -> Iterator[None]:
        self._fronts.add(front)
        if self._closing is not None:
            front.close_soon()
        try:
            yield
        finally:
            self._fronts.remove(front)

    async def _run_session(
        self,
        front: Front,
        request: Request,
        dialect: Dialect,
        log: Context,
        client: str,
        startup: Startup,
        began: float,
    ) -> None:
        transport = front.transport
        wire = Wire(
            transport.sock,
            self._owner.scratch.read,
            client=False,
            head=upgrade_head(request, dialect),
            early=request.early,
            tls=transport.tls,
        )
        await self._serve_wire(wire, dialect, log, client, startup, began)

    async def serve_wire(self, wire: AnyWire, dialect: Dialect, host: str) -> None:
        """Serve whoever is at the other end of `wire`, beginning with the upgrade."""
        log = self._log_of(host).within(peer=host)
        startup = self._startups.enter(self._source(host))
        try:
            if startup is not None:
                await self._serve_wire(wire, dialect, log, host, startup, trio.current_time())
        finally:
            if startup is not None:
                startup.leave()
            wire.close()

    async def _serve_wire(
        self,
        wire: AnyWire,
        dialect: Dialect,
        log: Context,
        client: str,
        startup: Startup,
        began: float,
    ) -> None:
        log = log.within(session=next(self._numbers))
        session = ServerSession(self._owner, wire, dialect, log, host=client, startup=startup)
        self.sessions.add(session)
        if self._closing is not None:
            session.drain(self._closing)
        try:
            await session.run(deadline=began + self._settings.timings.ssh_timeout)
        finally:
            self.sessions.remove(session)
            self.past.add(session)
            if session.was_open:
                self._owner.sessions_changed()

    def _wanted_dialect(self, request: Request, log: Context) -> Dialect | None:
        """Return the dialect of the tunnel that `request` asks for; None where it asks for none."""
        dialect = wanted_dialect(request)
        if dialect is not None and is_for(request, self._settings.path):
            return dialect
        if asks_for_websocket(request) and self._back_end is None:
            protocol = b", ".join(request.values(b"sec-websocket-protocol"))
            log.info("ignored an upgrade to protocol '%s'", escape(protocol))
        return None


def _peer(address: object) -> tuple[str, int]:
    """Return the host and the port of a TCP peer."""
    assert isinstance(address, tuple)
    host, port = address[:2]
    # A socket for both families, which somebody else has opened: to us, IPv4 is IPv4.
    return host.removeprefix("::ffff:") if "." in host else host, port


def _no_place() -> HeadError:
    return HeadError(
        HTTPStatus.SERVICE_UNAVAILABLE, "too many connections", retry_after=RETRY_AFTER, quiet=True
    )


async def _choose_tls(transport: Transport, certificates: AcmeCertificates) -> None:
    """Give a connection its TLS, by what its client says first.  Raises `CotunError`."""
    reader, data, hello = HelloReader(), bytearray(), None
    while hello is None:
        more = await transport.receive()
        if not more:
            raise ConnectionLost("the client closed the connection without a handshake")
        data += more
        hello = reader.feed(more)
    try:
        tls = certificates.tls(hello)
    except TlsFailed:
        with contextlib.suppress(ConnectionLost):
            await transport.send_all(UNRECOGNIZED_NAME)
        raise
    tls.feed(bytes(data))
    transport.tls = tls


def _back_end(settings: ServerSettings) -> BackEnd:
    assert settings.backend is not None
    tls = client_context(ClientTls()) if settings.backend.tls else None
    return BackEnd(settings.backend, tls=tls, timeout=settings.timings.backend_timeout)
