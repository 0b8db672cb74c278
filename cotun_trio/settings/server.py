"""The settings of a server, and its limits."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING

import attrs

from cotun_trio.access.credentials import to_credentials
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host, parse_port
from cotun_trio.protocol.remote import ANY_INTERFACE
from cotun_trio.settings import values
from cotun_trio.settings.timings import DEFAULT_KEEPALIVE, Timings

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from cotun_trio.access.credentials import Credentials
    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.settings.server_url import ServerUrl
    from cotun_trio.settings.tls import ServerAcme, ServerTls

MAX_AUTH_FAILURES = 10
"""More than anybody mistypes in a minute."""
MAX_STARTUPS = 1000
"""All clients of a large server come back at once when it starts again; 1000 cost it 100 MB."""
MAX_STARTUPS_PER_SOURCE = 100
"""An office behind one address, but not all of the above."""
MAX_USER_SESSIONS = 256
"""A fleet of machines with one name, and a part of it twice after a failure of the network."""

MAX_CONNECTIONS = 100_000
"""At 10 KiB each a gigabyte, and as many descriptors as systems give to a process."""
MAX_SESSION_CONNECTIONS = 16_384
"""About as many as a client has ports to come from."""


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network, such as ``10.0.0.0/8``.  Raises `UsageError`."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"'{escape(text)}' is no network: write it like 10.0.0.0/8") from None


def _clean_listening_host(text: str) -> str:
    """Return the host of ``--host``; none is the wildcard.  Raises `UsageError`."""
    try:
        return clean_host(text) or ANY_INTERFACE
    except RemoteError as error:
        raise UsageError(f"--host: {error}") from None


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``[host:]port``, where no host is the loopback interface.  Raises `UsageError`."""
    host, _, port = text.rpartition(":")
    try:
        return clean_host(host) or "127.0.0.1", parse_port(port)
    except RemoteError as error:
        raise UsageError(f"{error}: write it like 127.0.0.1:8081") from None


def _to_keepalive(value: float | str) -> float:
    return values.to_seconds("keepalive", value)


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The settings of a server, as ``cotun-trio server`` has them as options."""

    host: str = attrs.field(default=ANY_INTERFACE, converter=_clean_listening_host)
    """Where to listen, an address or a name.  The wildcard of IPv4 or of IPv6, and no host, are all
    interfaces with both families, as with the Go programs."""
    port: int = attrs.field(default=8080)
    """0 for any free one."""
    keepalive: float = attrs.field(default=DEFAULT_KEEPALIVE, converter=_to_keepalive)
    """Seconds between pings, or a duration such as ``25s``; 0 for none."""
    host_key: HostKey | None = attrs.field(default=None, repr=False, eq=False)
    """The key by which clients know the server; without it, a new one for the run."""
    tls: ServerTls | ServerAcme | None = None
    backend: ServerUrl | None = attrs.field(default=None)
    """The server for all other HTTP requests; without it, they are answered here."""
    backend_upgrades: tuple[str, ...] = attrs.field(default=())
    """Protocols that a client and the back end may switch to, besides ``websocket``."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Proxies whose claims about the origin of a request are believed."""
    health_listen: tuple[str, int] | None = None
    """Another address to listen on, for ``/health`` and ``/version`` only."""
    path: str = attrs.field(default="/")
    """Only requests for this path become tunnels, with or without a query; ``/``: all of them."""
    auth: Credentials | None = attrs.field(default=None, converter=to_credentials)
    """A user without an access list.  The password may be a hash."""
    authfile: str | None = None
    """The path of a users file; without any user, everybody is let in."""
    max_auth_failures: int = attrs.field(default=MAX_AUTH_FAILURES)
    """Failed logins per minute, after which their source is barred for a while; 0: no limit."""
    max_startups: int = attrs.field(default=MAX_STARTUPS)
    """Connections at a time that have not logged in; 0: no limit.  From half of this number on,
    some are refused at random."""
    max_startups_per_source: int = attrs.field(default=MAX_STARTUPS_PER_SOURCE)
    """The same of one source, with the connections to the back end; 0: no limit.  A source is an
    IPv4 address, or 64 bits of an IPv6 one."""
    max_user_sessions: int = attrs.field(default=MAX_USER_SESSIONS)
    """Sessions at a time of one user; 0: no limit.  Without users, there is none."""
    max_connections: int = attrs.field(default=MAX_CONNECTIONS)
    """Forwarded connections at a time, in all, each UDP source included; 0: no limit."""
    max_session_connections: int = attrs.field(default=MAX_SESSION_CONNECTIONS)
    """Forwarded connections of one session; 0: no limit."""
    reverse: bool = False
    """Whether clients may have the server listen for them."""
    socks5: bool = False
    """Whether clients may have the server dial the targets of SOCKS requests."""
    unix: bool = False
    """Whether clients may name Unix sockets on the server's side.  The modes of files decide about
    access to them, and the server's user may have much."""
    check_addresses: bool = False
    """Whether access lists have to allow the addresses, too, that the name of a target leads to."""
    timings: Timings = attrs.field(factory=Timings)

    @port.validator
    def _check_port(self, _attribute: object, port: int) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"{port} is not a port: it has to be between 0 and 65535")

    @backend.validator
    def _check_backend(self, _attribute: object, backend: ServerUrl | None) -> None:
        if backend is not None and backend.path != "/":
            raise UsageError("the back end's URL has no path: requests bring their own")

    @backend_upgrades.validator
    def _check_backend_upgrades(self, _attribute: object, names: tuple[str, ...]) -> None:
        for name in names:
            if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~/-]+", name):
                raise UsageError(f"--backend-upgrade {escape(name)!r}: write it like mqtt")
        if names and self.backend is None:
            raise UsageError("--backend-upgrade is for --backend only")

    @path.validator
    def _check_path(self, _attribute: object, path: str) -> None:
        if not re.fullmatch("/[!-~]*", path) or "?" in path or "#" in path:
            raise UsageError(f"--path {escape(path)!r}: write it like /tunnel")

    @max_auth_failures.validator
    @max_startups.validator
    @max_startups_per_source.validator
    @max_user_sessions.validator
    @max_connections.validator
    @max_session_connections.validator
    def _check_limit(self, attribute: attrs.Attribute[int], limit: int) -> None:
        if limit < 0:
            option = attribute.name.replace("_", "-")
            raise UsageError(f"--{option} is a number of 0 (no limit) or more, not {limit}")
