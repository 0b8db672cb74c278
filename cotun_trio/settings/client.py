"""The settings of a client."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal

import attrs

from cotun_trio._version import __version__
from cotun_trio.access.credentials import read_credentials
from cotun_trio.access.fingerprints import check_form
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, host_header
from cotun_trio.protocol.common_targets import check_common_targets
from cotun_trio.protocol.config import MAX_IDENTITY, MAX_REQUEST, Config, too_many
from cotun_trio.protocol.dialect import CHISEL, COTUN
from cotun_trio.protocol.port_ranges import parse_remotes
from cotun_trio.protocol.proxy_url import ProxyUrl, proxy_from_environment
from cotun_trio.settings import values
from cotun_trio.settings.admin import check_admin_socket, to_admin_address
from cotun_trio.settings.server import MAX_SESSION_CONNECTIONS
from cotun_trio.settings.server_url import ServerUrl
from cotun_trio.settings.timings import DEFAULT_KEEPALIVE, Timings
from cotun_trio.settings.tls import ClientTls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Unpack

    from cotun_trio.access.credentials import Credentials
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.settings.admin import AdminAddress
    from cotun_trio.settings.client_options import ClientOptions

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = re.compile(
    "host|connection|upgrade|sec-websocket-.*|content-length|transfer-encoding|expect",
    re.IGNORECASE,
)


MAX_CONNECTIONS = 16
"""Sessions of one client at a time."""


def parse_header(text: str) -> tuple[str, str]:
    """Read a ``Name: value`` header (RFC 9110 section 5).  Raises `UsageError`.

    The headers of the upgrade itself cannot be given; the Host header has ``--hostname``.
    """
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.fullmatch(name):
        # The text may well be a password: it is not shown.
        raise UsageError("a header is written 'Name: value', and this one is not")
    if _OURS.fullmatch(name):
        raise UsageError(f"the header {name} is part of the upgrade and cannot be set")
    if any((c < " " and c != "\t") or c == "\x7f" for c in value):
        raise UsageError(f"the value of the header {name} holds a control character")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise UsageError(f"the value of the header {name} is not Latin-1") from None
    return name, value


def _check_fingerprint(_self: object, _attribute: object, text: str | None) -> None:
    if text is not None:
        check_form(text)


def _check_hostname(_self: object, _attribute: object, text: str | None) -> None:
    if not text:
        return
    try:
        host_header(text)
    except RemoteError:
        raise UsageError(f"--hostname: {escape(text)!r} cannot be a Host header") from None


def _to_admin_listen(value: AdminAddress | str | None) -> AdminAddress | None:
    return to_admin_address("admin_listen", value)


_DIALECTS = {"auto": (CHISEL, COTUN), "chisel": (CHISEL,), "cotun": (COTUN,)}


@attrs.frozen
class Route:
    """A server, and the proxy through which it is reached."""

    server: ServerUrl
    proxy: ProxyUrl | None = None
    """None for a direct connection."""


@attrs.frozen(kw_only=True)
class ClientSettings:
    """The settings of a client, as ``cotun-trio client`` has them as options."""

    server: ServerUrl
    proxy: ProxyUrl | None = None
    """None for a direct connection to the server."""
    alternatives: tuple[Route, ...] = ()
    """Routes to be tried, in turn, where that server fails."""
    connections: int = attrs.field(default=1)
    """Sessions at a time, each with another server, up to `MAX_CONNECTIONS`."""
    tls: ClientTls = attrs.field(factory=ClientTls)
    """For a server's URL with TLS; `ClientTls.ca` is for a proxy with TLS, too."""
    remotes: tuple[Remote, ...] = attrs.field()
    fingerprint: str | None = attrs.field(default=None, validator=_check_fingerprint)
    """Of the server's host key, SHA-256 or legacy MD5; without it any server is believed."""
    known_hosts: str | None = None
    """The path of a file with the keys of servers that were met, for use without `fingerprint`."""
    auth: Credentials | None = None
    keepalive: float = DEFAULT_KEEPALIVE
    """Seconds between pings; 0 for none."""
    max_retry_count: int | None = None
    """Failed rounds of attempts in a row after which there is another one, also after an error that
    is fatal; negative for no end.  None: no end, except after an error that is fatal."""
    min_retry_interval: float = 1.0
    """The shortest wait between two attempts, in seconds, less up to 1 s by chance; the first one
    is up to three times as long.  `max_retry_interval` counts more."""
    max_retry_interval: float = 300.0
    """The longest wait between two attempts, in seconds."""
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Sent with the upgrade, besides its own.  Not shown: a password may be among them."""
    hostname: str | None = attrs.field(default=None, validator=_check_hostname)
    """The Host header, where it is not the URL's."""
    max_connections: int = attrs.field(default=MAX_SESSION_CONNECTIONS)
    """Forwarded connections at a time; 0: no limit."""
    protocol: Literal["auto", "chisel", "cotun"] = attrs.field(default="auto")
    admin_listen: AdminAddress | None = attrs.field(default=None, converter=_to_admin_listen)
    """See `ServerSettings.admin_listen`."""
    admin_token_file: str | None = None
    """See `ServerSettings.admin_token_file`."""
    admin_socket: str | None = attrs.field(default=None, validator=check_admin_socket)
    """See `ServerSettings.admin_socket`."""
    fast_loop: bool = False
    """See `ServerSettings.fast_loop`."""
    timings: Timings = attrs.field(factory=Timings)

    @classmethod
    def from_options(
        cls, servers: str | Iterable[str], **options: Unpack[ClientOptions]
    ) -> ClientSettings:
        """Return the settings for a client of the server at a URL, or of several that are tried.

        Strings as on the command line are taken where the type is another one
        (`cotun_trio.settings.values`).  Reads the file of ``auth_from`` and, for
        ``proxy_from_env``, the environment.  Raises `UsageError` for what makes no sense.
        """
        urls = values.to_texts("server", servers)
        if not urls:
            raise UsageError("there is no server: write it like https://example.com")
        given = _converted(options)
        proxy, from_env = given.pop("proxy", None), given.pop("proxy_from_env", False)
        routes = [_route(ServerUrl.parse(url), proxy, from_environment=from_env) for url in urls]
        auth, path = given.pop("auth", None), given.pop("auth_from", None)
        tls = ClientTls(
            ca=given.pop("tls_ca", None),
            skip_verify=given.pop("tls_skip_verify", False),
            cert=given.pop("tls_cert", None),
            key=given.pop("tls_key", None),
            sni=given.pop("sni", None),
        )
        return cls(
            server=routes[0].server,
            proxy=routes[0].proxy,
            alternatives=tuple(routes[1:]),
            tls=tls,
            remotes=parse_remotes(given.pop("remotes", ())),
            auth=read_credentials(path) if auth is None and path else auth,
            headers=tuple(map(parse_header, given.pop("headers", ()))),
            timings=given.pop("timings", None) or Timings(),
            **given,  # the others are fields by the same names
        )

    @max_connections.validator
    def _check_limit(self, _attribute: object, limit: int) -> None:
        if limit < 0:
            raise UsageError(f"--max-connections is a number of 0 (no limit) or more, not {limit}")

    @connections.validator
    def _check_connections(self, _attribute: object, count: int) -> None:
        if not 1 <= count <= MAX_CONNECTIONS:
            raise UsageError(f"--connections is a number from 1 to {MAX_CONNECTIONS}, not {count}")

    @tls.validator
    def _check_tls(self, _attribute: object, tls: ClientTls) -> None:
        if any(route.server.tls for route in self.routes):
            tls.check()

    @protocol.validator
    def _check_protocol(self, _attribute: object, protocol: object) -> None:
        if protocol not in tuple(_DIALECTS):
            raise UsageError("protocol is 'auto', 'chisel' or 'cotun'")

    @timings.validator
    def _check_timings(self, _attribute: object, timings: object) -> None:
        if not isinstance(timings, Timings):
            raise values.wrong("timings", "a cotun_trio.settings.Timings", timings)

    @remotes.validator
    def _check_remotes(self, _attribute: object, remotes: tuple[Remote, ...]) -> None:
        if sum(remote.stdio for remote in remotes) > 1:
            raise UsageError("only one remote can have standard input and output")
        check_common_targets(remotes)
        longest = "0" * MAX_IDENTITY
        others = (longest,) * (self.connections - 1)
        config = Config(__version__, remotes, identity=longest, nodes=others)
        if len(config.encode()) > MAX_REQUEST:
            raise UsageError(too_many(len(remotes)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice about settings that are allowed, but ignored or dangerous: a line each."""
        found = []
        if self._ignores_tls:
            found.append(
                "--tls-… and --sni are ignored: they are for servers whose URL begins with https://"
            )
        plain = [str(route.server) for route in self.routes if not route.server.tls]
        if plain and self.auth is not None and self.fingerprint is None:
            found.append(
                f"any machine on the way to {escape(plain[0])} can pose as the server and get the "
                "password: give --fingerprint, with what the server prints at its start, or use "
                "https://"
            )
        return tuple(found)

    @property
    def _ignores_tls(self) -> bool:
        """Whether there are options for TLS, and nothing to use them for."""
        proxied = any(route.proxy is not None and route.proxy.tls for route in self.routes)
        for_proxy = proxied and self.tls == ClientTls(ca=self.tls.ca)
        tls = any(route.server.tls for route in self.routes)
        return not (tls or for_proxy or self.tls == ClientTls())

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes that may be tried, in this order."""
        return Route(self.server, self.proxy), *self.alternatives

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The dialects to offer to the server, in this order, until it takes one."""
        return _DIALECTS[self.protocol]


_CONVERTERS: Mapping[str, Callable[[str, object], object]] = {
    "remotes": values.to_texts,
    "auth": values.to_pair,
    "auth_from": values.to_path,
    "fingerprint": values.to_text,
    "known_hosts": values.to_path,
    "proxy": values.to_text,
    "proxy_from_env": values.to_flag,
    "headers": values.to_header_lines,
    "hostname": values.to_text,
    "tls_ca": values.to_path,
    "tls_cert": values.to_path,
    "tls_key": values.to_path,
    "tls_skip_verify": values.to_flag,
    "sni": values.to_text,
    "keepalive": values.to_seconds,
    "min_retry_interval": values.to_seconds,
    "max_retry_interval": values.to_seconds,
    "max_retry_count": values.to_optional_count,
    "max_connections": values.to_count,
    "connections": values.to_count,
    "fast_loop": values.to_flag,
    "admin_listen": to_admin_address,
    "admin_token_file": values.to_path,
    "admin_socket": values.to_path,
}
"""Options that a program may give in other types; the rest is checked by the fields."""


def _converted(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options in the types that the settings have.  Raises `UsageError`."""
    return {
        name: _CONVERTERS[name](name, value) if name in _CONVERTERS else value
        for name, value in options.items()
    }


def _route(url: ServerUrl, proxy: str | None, *, from_environment: bool) -> Route:
    """Return how the server at `url` is reached."""
    if proxy is not None:
        return Route(url, ProxyUrl.parse(proxy))
    if from_environment:
        return Route(url, proxy_from_environment(os.environ, url.host, tls=url.tls))
    return Route(url)
