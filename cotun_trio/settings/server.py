"""The settings of a server, and its limits."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

import attrs

from cotun_trio.access.credentials import to_credentials
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host, parse_port
from cotun_trio.protocol.networks import read_network
from cotun_trio.protocol.remote import ANY_INTERFACE
from cotun_trio.settings import values
from cotun_trio.settings.admin import check_admin_socket, to_admin_address
from cotun_trio.settings.fleet import FleetSettings
from cotun_trio.settings.server_url import ServerUrl
from cotun_trio.settings.timings import DEFAULT_KEEPALIVE, Timings
from cotun_trio.settings.tls import ServerAcme, ServerTls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cotun_trio.access.credentials import Credentials
    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.settings.admin import AdminAddress

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


def parse_network(text: str, option: str = "--trusted-proxy") -> IPv4Network | IPv6Network:
    """Read an address or a network, such as ``10.0.0.0/8``.  Raises `UsageError`."""
    try:
        return read_network(text)
    except RemoteError as error:
        raise UsageError(f"{option}: {error}") from None


def _clean_listening_host(text: str) -> str:
    """Return the host of ``--host``; none is the wildcard.  Raises `UsageError`."""
    try:
        return clean_host(values.to_given_text("host", text)) or ANY_INTERFACE
    except RemoteError as error:
        raise UsageError(f"--host: {error}") from None


def _to_reverse_host(option: str, host: object) -> str | None:
    if host is None:
        return None
    try:
        return clean_host(values.to_given_text(option, host)) or None
    except RemoteError as error:
        raise UsageError(f"--reverse-host: {error}") from None


def _to_fleet(option: str, fleet: object) -> FleetSettings | None:
    if fleet is not None and not isinstance(fleet, FleetSettings):
        raise values.wrong(option, "a cotun_trio.settings.FleetSettings", fleet)
    return fleet


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``[host:]port``, where no host is the loopback interface.  Raises `UsageError`."""
    host, _, port = text.rpartition(":")
    try:
        return clean_host(host) or "127.0.0.1", parse_port(port)
    except RemoteError as error:
        raise UsageError(f"--health-listen: {error}: write it like 127.0.0.1:8081") from None


def _to_keepalive(value: float | str) -> float:
    return values.to_seconds("keepalive", value)


def _to_host_key(option: str, key: object) -> HostKey | None:
    from cotun_trio.access.host_keys import HostKey  # late: a client has no use for it

    if key is not None and not isinstance(key, HostKey):  # type: ignore[misc]
        raise values.wrong(option, "a key that load_host_key has returned", key)
    return key


def _to_tls(option: str, tls: object) -> ServerTls | ServerAcme | None:
    if tls is not None and not isinstance(tls, (ServerTls, ServerAcme)):
        raise values.wrong(option, "a ServerTls or a ServerAcme", tls)
    return tls


def _to_backend(option: str, url: object) -> ServerUrl | None:
    if url is None or isinstance(url, ServerUrl):
        return url
    return ServerUrl.parse(values.to_given_text(option, url))


def _to_networks(option: str, networks: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    found = (
        [networks] if isinstance(networks, str) else values.to_items(option, "networks", networks)
    )
    flag = "--" + option.replace("proxies", "proxy").replace("_", "-")
    return tuple(
        each
        if isinstance(each, (IPv4Network, IPv6Network))
        else parse_network(values.to_given_text(option, each), flag)
        for each in found
    )


def _to_address(option: str, address: Any) -> tuple[str, int] | None:
    if address is None:
        return None
    if isinstance(address, str):
        return parse_listen(address)
    if not isinstance(address, tuple) or len(address) != 2:
        raise values.wrong(option, "a text like '127.0.0.1:8081', or a host and a port", address)
    return values.to_given_text(option, address[0]), values.to_count(option, address[1])


def _to_timings(option: str, timings: object) -> Timings:
    if not isinstance(timings, Timings):
        raise values.wrong(option, "a cotun_trio.settings.Timings", timings)
    return timings


_CONVERTERS: Mapping[str, Callable[[str, object], object]] = {
    "port": values.to_count,
    "host_key": _to_host_key,
    "tls": _to_tls,
    "backend": _to_backend,
    "backend_upgrades": values.to_texts,
    "trusted_proxies": _to_networks,
    "accept_proxy": _to_networks,
    "reverse_allow": _to_networks,
    "health_listen": _to_address,
    "path": values.to_given_text,
    "authfile": values.to_path,
    "max_auth_failures": values.to_count,
    "max_startups": values.to_count,
    "max_startups_per_source": values.to_count,
    "max_user_sessions": values.to_count,
    "max_connections": values.to_count,
    "max_session_connections": values.to_count,
    "reverse": values.to_flag,
    "reverse_host": _to_reverse_host,
    "fleet": _to_fleet,
    "socks5": values.to_flag,
    "unix": values.to_flag,
    "check_addresses": values.to_flag,
    "fast_loop": values.to_flag,
    "admin_listen": to_admin_address,
    "admin_token_file": values.to_path,
    "admin_socket": values.to_path,
    "metrics_per_user": values.to_flag,
    "timings": _to_timings,
}
"""Settings that a program may give in other types, or wrong; the others have converters of their
own, since their types say that a text is welcome."""


def _with_converters(
    _class: type, fields: list[attrs.Attribute[Any]]
) -> list[attrs.Attribute[Any]]:
    return [
        field.evolve(converter=partial(_CONVERTERS[field.name], field.name))
        if field.name in _CONVERTERS
        else field
        for field in fields
    ]


@attrs.frozen(kw_only=True, field_transformer=_with_converters)
class ServerSettings:
    """The settings of a server, as ``cotun-trio server`` has them as options.

    Strings as on the command line are taken where the type is another one.  Raises `UsageError` for
    any other value of a wrong type, and for what makes no sense.
    """

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
    accept_proxy: tuple[IPv4Network | IPv6Network, ...] = ()
    """Balancers whose connections begin with a PROXY header, which says whom they are from: those
    to the server, to its health checks, and to reverse remotes."""
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
    reverse_host: str | None = attrs.field(default=None)
    """The interface of reverse remotes that name none, an address or a name; None: all of them."""
    reverse_allow: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of the visitors whom reverse remotes let in; none for all.  The networks that a
    client gives for its own remote count besides."""
    socks5: bool = False
    """Whether clients may have the server dial the targets of SOCKS requests."""
    unix: bool = False
    """Whether clients may name Unix sockets on the server's side.  The modes of files decide about
    access to them, and the server's user may have much."""
    check_addresses: bool = False
    """Whether access lists have to allow the addresses, too, that the name of a target leads to."""
    admin_listen: AdminAddress | None = None
    """Where administrators are answered, on an address of their own (`cotun_trio.admin`)."""
    admin_token_file: str | None = None
    """The path of the file with their token, for TCP; made if it is missing.  Without it, there is
    a new token for the run."""
    admin_socket: str | None = attrs.field(default=None, validator=check_admin_socket)
    """The path of a Unix socket where administrators are answered, too, if it can be made: if not,
    that is no more than a warning."""
    fleet: FleetSettings | None = attrs.field(default=None)
    """The place in a fleet (`cotun_trio.fleet`), which only the program ``cotun-trio`` can take."""
    metrics_per_user: bool = False
    """Whether the figures are there for each user, too, for the first hundred of them."""
    fast_loop: bool = False
    """Whether sockets are served in front of Trio's own wait, which makes small messages quicker,
    where this version of Trio allows it (`cotun_trio.net.fast_wait`).  It is for the whole Trio
    run."""
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
