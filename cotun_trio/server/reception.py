"""The reception of a server: its connections and sessions, and the state that they share.

Each connection is a task of its own behind a guard: an error in one of them ends there, in one log
line.  Its way in is an `Arrival`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import TYPE_CHECKING

import trio

from cotun_trio.access.sources import source_of
from cotun_trio.access.startups import OwnSourceCounts, Startups
from cotun_trio.counts import OwnCount
from cotun_trio.errors import CotunError
from cotun_trio.http.gateway import BackEnd
from cotun_trio.logs import Limits
from cotun_trio.net.sockets import close
from cotun_trio.net.tls_files import client_context
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.networks import is_within
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.server.arrival import Arrival
from cotun_trio.server.session import ServerSession
from cotun_trio.server.side_doors import serve_challenge, serve_health
from cotun_trio.server.visitors import announced
from cotun_trio.settings import ClientTls
from cotun_trio.snapshot import EndedTotals

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator

    from cotun_trio.access.startups import Startup
    from cotun_trio.http.front import Front
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.server.certificates import Certificates
    from cotun_trio.server.listening import Acceptor
    from cotun_trio.server.session import ServerHost
    from cotun_trio.server.shared import SharedState
    from cotun_trio.settings import ServerSettings
    from cotun_trio.websocket.wire_protocol import WireProtocol

    Serve = Callable[[Startup, socket.socket, str, Context], Awaitable[None]]
    """Serves a connection with its place, from a host, with its log."""

SIDE_DOOR = 100
"""Connections at a time to one of the addresses that lead to no session.  They end soon, and there
are less than half as many as the descriptors that are kept back (`cotun_trio.net.descriptors`)."""
SIDE_DOOR_PER_SOURCE = 20
"""The same of one source: an authority looks from several, a monitor asks one thing at a time."""


class Reception:
    """Receives the connections of a server, which is the `owner` of their sessions.

    `certificates` are for TLS; without them, none is spoken.  `shared` is where they are counted.
    """

    def __init__(
        self,
        owner: ServerHost,
        certificates: Certificates | AcmeCertificates | None,
        log: Context,
        shared: SharedState,
    ) -> None:
        settings = owner.settings
        self.sessions: set[ServerSession] = set()
        """Current sessions, logged in or not."""
        self.ended_totals = EndedTotals(
            user_of=(lambda session: session.user_name) if settings.metrics_per_user else None
        )
        """The totals of sessions that have ended."""
        self.settings = settings
        self.certificates = certificates
        self.back_end = None if settings.backend is None else _back_end(settings)
        self.logins = owner.logins
        self.scratch = owner.scratch
        self.log_limits = Limits(log)
        """The limits on log lines that each source can cause; has to be run."""
        self._owner = owner
        self._log = log
        self._closing: str | None = None  # why connections and sessions should end
        self._fronts: set[Front] = set()  # of connections that are no sessions yet
        self._startups = Startups(
            settings.max_startups,
            settings.max_startups_per_source,
            crowd=shared.startups,
            sources=shared.sources,
            say=log.warning,
        )
        self._served = shared.served
        self._numbers = itertools.count(1)
        self._endings = trio.lowlevel.ParkingLot()  # of sessions

    @property
    def open_sessions(self) -> list[ServerSession]:
        """Current sessions of clients whose remotes have been accepted."""
        return [session for session in self.sessions if session.was_open]

    def close_soon(self, reason: str) -> None:
        """Let connections and sessions come to an end, and tell peers why; see `Session.drain`.

        A client that is on its way in still gets in: it would not know whether it has been heard.
        Other servers of a fleet stay, see `close_peers`.
        """
        self._closing = reason
        for front in self._fronts:
            front.close_soon()
        for session in self.sessions:
            if not session.rights.is_peer:
                session.drain(reason)

    async def close_peers(self) -> None:
        """When there are no more sessions of clients, let those of other servers end."""
        while not all(session.rights.is_peer for session in self.sessions):
            await self._endings.park()
        for session in self.sessions:
            session.drain(self._closing or "")

    # ---- accepted connections

    def acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """See `cotun_trio.server.listening.Doors`."""

        async def serve(startup: Startup, sock: socket.socket, host: str, log: Context) -> None:
            await Arrival(self, sock, host, startup, log).serve()

        return self._acceptor(nursery, self._startups, serve)

    def health_acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """See `cotun_trio.server.listening.Doors`."""

        async def serve(_startup: Startup, sock: socket.socket, _host: str, _log: Context) -> None:
            await serve_health(sock, lambda: self._closing)

        return self._acceptor(nursery, self._side_door("--health-listen"), serve)

    def challenge_acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """See `cotun_trio.server.listening.Doors`."""
        certificates = self.certificates
        assert isinstance(certificates, AcmeCertificates)
        certificates.offer_pages()

        async def serve(_startup: Startup, sock: socket.socket, _host: str, log: Context) -> None:
            await serve_challenge(sock, certificates, log)

        return self._acceptor(nursery, self._side_door("port 80"), serve)

    def _side_door(self, name: str) -> Startups:
        """Return places of their own, so that a crowd at one door does not close the others."""
        say = functools.partial(self._log.warning, "%s: %s", name)
        return Startups(
            SIDE_DOOR, SIDE_DOOR_PER_SOURCE, crowd=OwnCount(), sources=OwnSourceCounts(), say=say
        )

    def _acceptor(self, nursery: trio.Nursery, startups: Startups, serve: Serve) -> Acceptor:
        """Return what gives a connection a place and a task; without room, it closes it."""

        def accepted(sock: socket.socket, address: object) -> None:
            host, port = _peer(address)
            behind = is_within(host, self.settings.accept_proxy)
            startup = startups.enter(None if behind else self.source(host))
            if startup is None:
                close(sock)
                self._served.add(1)
            else:
                nursery.start_soon(self._guard, startup, sock, host, port, serve, behind)

        return accepted

    async def _guard(
        self,
        startup: Startup,
        sock: socket.socket,
        host: str,
        port: int,
        serve: Serve,
        behind: bool,
    ) -> None:
        """Serve one connection, and keep its errors from all others.

        One that comes from `behind` a balancer is its client's, by the PROXY header.
        """
        log = self._log_of(host).within(peer=join_host_port(host, port))
        try:
            if behind:
                if (found := await announced(sock, log)) is not None:
                    host, port = found
                    log = self._log_of(host).within(peer=join_host_port(host, port))
                if not startup.move(self.source(host)):
                    return
            await serve(startup, sock, host, log)
        except CotunError as error:
            log.debug("%s", error)
        except Exception:
            log.exception("internal error, the connection is closed")
        finally:
            startup.leave()
            close(sock)
            self._served.add(1)

    async def serve_wire(self, wire: WireProtocol, dialect: Dialect, host: str) -> None:
        """See `cotun_trio.server.listening.Doors`."""
        log = self._log_of(host).within(peer=host)
        startup = self._startups.enter(self.source(host))
        try:
            if startup is not None:
                await self.run_session(wire, dialect, log, host, startup, trio.current_time())
        finally:
            if startup is not None:
                startup.leave()
            wire.close()

    # ---- as the place of arrivals

    def source(self, host: str) -> str | None:
        """See `cotun_trio.server.arrival.Place`."""
        return None if is_within(host, self.settings.trusted_proxies) else source_of(host)

    def _log_of(self, host: str) -> Context:
        """Return the log for lines that `host`, an address, can cause."""
        return self._log.limited(self.log_limits.of(source_of(host)))

    @contextlib.contextmanager
    def present(self, front: Front) -> Iterator[None]:
        """See `cotun_trio.server.arrival.Place`."""
        self._fronts.add(front)
        if self._closing is not None:
            front.close_soon()
        try:
            yield
        finally:
            self._fronts.remove(front)

    async def run_session(
        self,
        wire: WireProtocol,
        dialect: Dialect,
        log: Context,
        client: str,
        startup: Startup,
        began: float,
    ) -> None:
        """See `cotun_trio.server.arrival.Place`."""
        number = next(self._numbers)
        log = log.within(session=number)
        session = ServerSession(
            self._owner, wire, dialect, log, number=number, host=client, startup=startup
        )
        self.sessions.add(session)
        if self._closing is not None:
            session.drain(self._closing)
        try:
            await session.run(deadline=began + self.settings.timings.ssh_timeout)
        finally:
            self.sessions.remove(session)
            self._endings.unpark_all()
            self.ended_totals.add(session)
            if session.was_open:
                self._owner.sessions_changed()


def _peer(address: object) -> tuple[str, int]:
    """Return the host and the port of a TCP peer."""
    assert isinstance(address, tuple)
    host, port = address[:2]
    # A socket for both families, which another program has opened: to us, IPv4 is IPv4.
    return host.removeprefix("::ffff:") if "." in host else host, port


def _back_end(settings: ServerSettings) -> BackEnd:
    assert settings.backend is not None
    tls = client_context(ClientTls()) if settings.backend.tls else None
    return BackEnd(
        settings.backend,
        tls=tls,
        timeout=settings.timings.backend_timeout,
        upgrades=settings.backend_upgrades,
    )
