"""How connections come to a server: by sockets that it listens on, or by another process.

A worker is handed its connections by the supervisor, and a server in a test has them in memory:
each is another `Listening`, and the server is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cotun_trio.errors import UsageError
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_addresses
from cotun_trio.net.sockets import close, set_nodelay_and_keepalive
from cotun_trio.server.acme_certificates import HTTP_PORT

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    import trio

    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.settings import ServerSettings
    from cotun_trio.system.systemd import Passed
    from cotun_trio.websocket.wire_protocol import WireProtocol

    Acceptor = Callable[[socket.socket, object], None]
    """Takes over an accepted connection, and the address of its peer."""


class Doors(Protocol):
    """The functions that take over connections: the server, seen from its listeners."""

    def acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """Return the function for clients; it serves them in tasks of `nursery`."""

    def health_acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """Return the function for health checks, which answers nothing but ``/health``."""

    def challenge_acceptor(self, nursery: trio.Nursery) -> Acceptor:
        """Return the function for port 80, which answers an authority."""

    def serve_wire(self, wire: WireProtocol, dialect: Dialect, host: str) -> Awaitable[None]:
        """Serve the client from `host` at the other end of `wire`, beginning with the upgrade."""


class Listening(Protocol):
    """How connections come."""

    @property
    def announces(self) -> bool:
        """Whether the log tells the fingerprint, the users and the addresses."""

    @property
    def addresses(self) -> Sequence[str]:
        """Addresses for clients, ``host:port`` each, with the real port; once it is open."""

    @property
    def health_addresses(self) -> Sequence[str]:
        """The same for ``--health-listen``."""

    async def open(self) -> None:
        """Begin to listen.  Raises `UsageError`."""

    def accept(self, accepting: trio.Nursery, connections: trio.Nursery, doors: Doors) -> None:
        """Accept in tasks of `accepting`; connections are served in tasks of `connections`."""

    def close(self) -> None:
        """Listen no more.  Can be called again."""


class SocketListening:
    """Listens as `settings` say, or on the sockets that are `passed`.

    `challenges` says that port 80 is wanted for an authority's challenges, if it can be had.
    """

    announces = True

    def __init__(
        self,
        settings: ServerSettings,
        log: Context,
        passed: Passed | None = None,
        *,
        challenges: bool = False,
    ) -> None:
        self._settings = settings
        self._log = log
        self._challenges = challenges
        self.main: list[socket.socket] = list(passed.main if passed else ())
        """The sockets for clients; the lists are public for the supervisor, which accepts
        itself."""
        self.health: list[socket.socket] = list(passed.health if passed else ())
        self.challenge: list[socket.socket] = []
        self.addresses: list[str] = []
        """See `Listening`."""
        self.health_addresses: list[str] = []
        """See `Listening`."""
        self._scheme = "http" if settings.tls is None else "https"

    async def open(self) -> None:
        """See `Listening`."""
        settings = self._settings
        for sock in (*self.main, *self.health):  # passed
            set_nodelay_and_keepalive(sock)
        if not self.main:
            self.main = await open_listeners(settings.host, settings.port)
        if settings.health_listen is not None and not self.health:
            self.health = await open_listeners(*settings.health_listen)
        if self._challenges:
            try:
                self.challenge = await open_listeners(settings.host, HTTP_PORT)
            except UsageError as error:
                self._log.debug("no challenges by HTTP: %s", error)
        self.addresses = show_addresses(self.main)
        self.health_addresses = show_addresses(self.health)

    def accept(self, accepting: trio.Nursery, connections: trio.Nursery, doors: Doors) -> None:
        """See `Listening`."""
        self.announce()
        for sockets, acceptor in (
            (self.main, doors.acceptor),
            (self.health, doors.health_acceptor),
            (self.challenge, doors.challenge_acceptor),
        ):
            for sock in sockets:
                accepting.start_soon(accept_forever, sock, acceptor(connections))

    def announce(self) -> None:
        """Log where it listens."""
        for address in self.addresses:
            self._log.info("Listening on %s://%s", self._scheme, address)
        for address in self.health_addresses:
            self._log.info("Answering /health on http://%s", address)
        for address in show_addresses(self.challenge):
            self._log.info("Answering challenges on http://%s", address)

    def close(self) -> None:
        """See `Listening`."""
        for sock in (*self.main, *self.health, *self.challenge):
            close(sock)
