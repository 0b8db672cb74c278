"""What a server and a client are told: frozen, validated once, at the edge.

Text from the command line, the environment or a file becomes one of these, or a `UsageError` that
says what is wrong.  Behind the edge nothing is checked again.  Times are in seconds.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import attrs

from cotun_trio.access.fingerprints import check_form
from cotun_trio.durations import parse_duration
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import (
    RemoteError,
    bracketed,
    canonical_host,
    clean_host,
    join_host_port,
    parse_port,
)
from cotun_trio.protocol.dialect import CHISEL, COTUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from cotun_trio.access.credentials import Credentials
    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.proxy_url import ProxyUrl
    from cotun_trio.protocol.remote import Remote

DEFAULT_KEEPALIVE = 25.0
"""Below the 30 or 60 seconds after which proxies and NATs drop an idle connection."""
MAX_AUTH_FAILURES = 10
"""More than anybody mistypes in a minute."""
MAX_STARTUPS = 1000
"""All clients of a large server come back at once when it starts again; 1000 cost it 100 MB."""
MAX_STARTUPS_PER_SOURCE = 100
"""An office behind one address, but not all of the above."""


@attrs.frozen(kw_only=True)
class Timings:
    """How long things may take, in seconds.  Each has a variable of the environment."""

    ssh_wait: float = 35.0
    """A new local connection waits for the tunnel to come back (COTUN_SSH_WAIT)."""
    ssh_timeout: float = 30.0
    """Everything up to the accepted config request, on either side (COTUN_SSH_TIMEOUT)."""
    ws_timeout: float = 45.0
    """The client's WebSocket handshake (COTUN_WS_TIMEOUT)."""
    config_timeout: float = 10.0
    """From the login to the config request (COTUN_CONFIG_TIMEOUT)."""
    ping_timeout: float | None = None
    """The answer to a keepalive ping; as long as the keepalive if None (COTUN_PING_TIMEOUT)."""
    dial_timeout: float = 30.0
    """A TCP connection to a server or to a target (COTUN_DIAL_TIMEOUT)."""
    backend_timeout: float = 60.0
    """The back end's answer to a request, and each further piece of it (COTUN_BACKEND_TIMEOUT)."""
    udp_deadline: float = 15.0
    """A UDP source that sends and gets nothing is forgotten (COTUN_UDP_DEADLINE)."""
    udp_max_size: int = 65_507
    """Bytes of the largest datagram, beyond which it is cut (COTUN_UDP_MAX_SIZE)."""
    rekey_bytes: int = 16 * 2**30
    """Bytes carried by one set of SSH keys (COTUN_REKEY_BYTES)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Timings:
        """Read the ``COTUN_…`` variables; unset and empty ones mean the default.

        Raises `UsageError` that names the variable.
        """
        values: dict[str, float] = {}
        for field in attrs.fields(cls):
            name = f"COTUN_{field.name.upper()}"
            text = environment.get(name)
            if not text:
                continue
            try:
                values[field.name] = (
                    parse_bytes(text) if field.type == "int" else parse_duration(text)
                )
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from None
        return cls(**values)  # type: ignore[arg-type]


def parse_bytes(text: str) -> int:
    """Return the positive whole number that `text` is."""
    if not re.fullmatch("[0-9]{1,18}", text) or not int(text):
        raise UsageError(f"{escape(text)!r} is not a number of bytes")
    return int(text)


def _pair(cert: str | None, key: str | None) -> None:
    """Raise `UsageError` where there is one of them without the other."""
    if (cert is None) != (key is None):
        given, missing = ("cert", "key") if key is None else ("key", "cert")
        raise UsageError(f"--tls-{given} needs --tls-{missing}, and the other way round")


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network, such as ``10.0.0.0/8``.  Raises `UsageError`."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"'{escape(text)}' is no network: write it like 10.0.0.0/8") from None


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``[host:]port``, where no host is the loopback interface.  Raises `UsageError`."""
    host, _, port = text.rpartition(":")
    try:
        return clean_host(host) or "127.0.0.1", parse_port(port)
    except RemoteError as error:
        raise UsageError(f"{error}: write it like 127.0.0.1:8081") from None


@attrs.frozen(kw_only=True)
class ServerTls:
    """TLS on the server: paths of PEM files."""

    cert: str
    key: str
    ca: str | None = None
    """Who has to have issued clients' certificates, a file or a directory; without it, they need
    none."""

    @classmethod
    def choose(cls, *, cert: str | None, key: str | None, ca: str | None) -> ServerTls | None:
        """Return what the options ask for.  Raises `UsageError` where one is missing."""
        _pair(cert, key)
        if cert is not None and key is not None:
            return cls(cert=cert, key=key, ca=ca)
        if ca is not None:
            raise UsageError("--tls-ca needs --tls-cert and --tls-key")
        return None


LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@attrs.frozen(kw_only=True)
class ServerAcme:
    """TLS on the server, with certificates by ACME."""

    domains: tuple[str, ...]
    """Names in lower case, a certificate for each."""
    directory: str = LETS_ENCRYPT
    """The authority's URL (COTUN_LE_DIRECTORY)."""
    ca: str | None = None
    """Who has to have issued the authority's own certificate, a PEM file (COTUN_LE_CA)."""
    email: str | None = None
    """Told to the authority (COTUN_LE_EMAIL)."""
    cache: str | None = None
    """The directory where keys and certificates are kept; None to keep none (COTUN_LE_CACHE)."""
    clients: str | None = None
    """Who has to have issued clients' certificates; see `ServerTls.ca`."""

    @classmethod
    def choose(
        cls, domains: Sequence[str], environment: Mapping[str, str], *, clients: str | None
    ) -> ServerAcme:
        """Return what the options and the environment ask for.  Raises `UsageError`."""
        names = []
        for domain in domains:
            try:
                name = canonical_host(clean_host(domain))
            except RemoteError as error:
                raise UsageError(f"--tls-domain: {error}") from None
            if "." not in name or not re.search("[a-z]$", name):
                raise UsageError(f"--tls-domain: '{escape(domain)}' is not a full name")
            names.append(name)
        cache = environment.get("COTUN_LE_CACHE") or os.path.join(  # noqa: PTH118  text, as given
            environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),  # noqa: PTH111
            "cotun",
        )
        return cls(
            domains=tuple(dict.fromkeys(names)),
            directory=environment.get("COTUN_LE_DIRECTORY") or LETS_ENCRYPT,
            ca=environment.get("COTUN_LE_CA") or None,
            email=environment.get("COTUN_LE_EMAIL") or None,
            cache=None if cache == "-" else cache,
            clients=clients,
        )


@attrs.frozen(kw_only=True)
class ServerSettings:
    """What ``cotun-trio server`` is told."""

    host: str = "0.0.0.0"  # noqa: S104
    """Where to listen, an address or a name.  All of IPv4, as the Go programs."""
    port: int = attrs.field(default=8080)
    """0 for any free one."""
    keepalive: float = DEFAULT_KEEPALIVE
    """Seconds between pings; 0 for none."""
    host_key: HostKey | None = attrs.field(default=None, repr=False, eq=False)
    """What the server proves itself with; without it, a new one for the run."""
    tls: ServerTls | ServerAcme | None = None
    backend: ServerUrl | None = attrs.field(default=None)
    """Where requests go that are for no tunnel; without it, there is nothing else here."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose claims about where a request has come from are believed."""
    health_listen: tuple[str, int] | None = None
    """Where else to listen, for ``/health`` and ``/version`` only."""
    path: str = attrs.field(default="/")
    """Only requests for this path become tunnels, with or without a query; ``/``: all of them."""
    auth: Credentials | None = None
    """A user who may do everything.  The password may be a hash."""
    authfile: str | None = None
    """The path of a file of users; without any user, everybody is let in."""
    max_auth_failures: int = attrs.field(default=MAX_AUTH_FAILURES)
    """Failed logins per minute and source, after which that is barred for a while; 0: no limit."""
    max_startups: int = attrs.field(default=MAX_STARTUPS)
    """Connections at a time that have not logged in; 0: no limit."""
    max_startups_per_source: int = attrs.field(default=MAX_STARTUPS_PER_SOURCE)
    """Those of one source: an IPv4 address, or 64 bits of an IPv6 one; 0: no limit."""
    reverse: bool = False
    """Whether clients may have the server listen for them."""
    socks5: bool = False
    """Whether clients may have the server dial what a SOCKS request names."""
    unix: bool = False
    """Whether clients may name Unix sockets on the server's side: there, files decide who may
    connect, and the server may be allowed much."""
    timings: Timings = attrs.field(factory=Timings)

    @port.validator
    def _check_port(self, _attribute: object, port: int) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"{port} is not a port: it has to be between 0 and 65535")

    @backend.validator
    def _check_backend(self, _attribute: object, backend: ServerUrl | None) -> None:
        if backend is not None and backend.path != "/":
            raise UsageError("the back end's URL has no path: requests bring their own")

    @path.validator
    def _check_path(self, _attribute: object, path: str) -> None:
        if not re.fullmatch("/[!-~]*", path) or "?" in path or "#" in path:
            raise UsageError(f"--path {escape(path)!r}: write it like /tunnel")

    @max_auth_failures.validator
    @max_startups.validator
    @max_startups_per_source.validator
    def _check_limit(self, attribute: attrs.Attribute[int], limit: int) -> None:
        if limit < 0:
            option = attribute.name.replace("_", "-")
            raise UsageError(f"--{option} is a number of 0 (no limit) or more, not {limit}")


_HTTP_PORTS = {False: 80, True: 443}
"""The ports that a URL need not name, without TLS and with it."""


@attrs.frozen
class ServerUrl:
    """Where a server is."""

    host: str
    """A name, or an address without brackets."""
    port: int
    path: str
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Read ``[http[s]://]host[:port][/path]``; ``ws`` and ``wss`` are the same.

        Raises `UsageError`.
        """
        right = "write it like https://example.com or http://example.com:8080"
        url = text if "://" in text else f"http://{text}"
        # What may hold a password is not shown.
        shown = "this" if "@" in text else f"{escape(text)!r}"
        if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
            raise UsageError("a server's URL holds no user: give user:password by --auth")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise UsageError(f"{shown} is not a server's URL: {right}") from None
        tls = parts.scheme in ("https", "wss")
        if (
            not (tls or parts.scheme in ("http", "ws"))
            or not host
            or port == 0
            or not text.isprintable()
            or " " in text
        ):
            raise UsageError(f"{shown} is not a server's URL: {right}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii():
            raise UsageError(f"{shown}: percent-encode what is not ASCII in the path")
        return cls(host, _HTTP_PORTS[tls] if port is None else port, path, tls)

    @property
    def authority(self) -> str:
        """The Host header: the port is left out where it is HTTP's own."""
        if self.port == _HTTP_PORTS[self.tls]:
            return bracketed(self.host)
        return join_host_port(self.host, self.port)

    def __str__(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.authority}{'' if self.path == '/' else self.path}"


@attrs.frozen(kw_only=True)
class ClientTls:
    """TLS on the client: paths of PEM files, and what is checked."""

    ca: str | None = None
    """Who has to have issued the server's certificate, in place of those whom the system trusts."""
    cert: str | None = None
    key: str | None = None
    skip_verify: bool = False
    """Whether any certificate will do."""
    sni: str | None = None
    """The name that the server is asked for, and that its certificate has to have."""

    def __attrs_post_init__(self) -> None:
        _pair(self.cert, self.key)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = re.compile(
    "host|connection|upgrade|sec-websocket-.*|content-length|transfer-encoding|expect",
    re.IGNORECASE,
)


def parse_header(text: str) -> tuple[str, str]:
    """Read a ``Name: value`` header (RFC 9110 section 5).  Raises `UsageError`.

    Headers that make the upgrade what it is cannot be given; the Host header has ``--hostname``.
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
        plain = re.fullmatch(rb"[!-~]+", text.encode("idna"))
    except UnicodeError:
        plain = None
    if not plain:
        raise UsageError(f"{escape(text)!r} cannot be a Host header")


def _no_end(count: int | None) -> int | None:
    return None if count is not None and count < 0 else count


@attrs.frozen(kw_only=True)
class ClientSettings:
    """What ``cotun-trio client`` is told."""

    server: ServerUrl
    proxy: ProxyUrl | None = None
    """The way out, where there is no direct one."""
    tls: ClientTls = attrs.field(factory=ClientTls)
    """For a server's URL with TLS; `ClientTls.ca` is for a proxy with TLS, too."""
    remotes: tuple[Remote, ...] = attrs.field()
    fingerprint: str | None = attrs.field(default=None, validator=_check_fingerprint)
    """Of the server's host key, SHA-256 or legacy MD5; without it any server is believed."""
    auth: Credentials | None = None
    keepalive: float = DEFAULT_KEEPALIVE
    """Seconds between pings; 0 for none."""
    max_retry_count: int | None = attrs.field(default=None, converter=_no_end)
    """Failed attempts in a row that are followed by another; None (-1 to Go) for no end."""
    max_retry_interval: float = 300.0
    """The longest wait between two attempts, in seconds."""
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Sent with the upgrade, besides its own.  Not shown: a password may be among them."""
    hostname: str | None = attrs.field(default=None, validator=_check_hostname)
    """The Host header, where it is not the URL's."""
    protocol: Literal["auto", "chisel", "cotun"] = "auto"
    timings: Timings = attrs.field(factory=Timings)

    @tls.validator
    def _check_tls(self, _attribute: object, tls: ClientTls) -> None:
        for_proxy = self.proxy is not None and self.proxy.tls and tls == ClientTls(ca=tls.ca)
        if not (self.server.tls or for_proxy or tls == ClientTls()):
            raise UsageError("--tls-… and --sni are for servers whose URL begins with https://")

    @remotes.validator
    def _check_remotes(self, _attribute: object, remotes: tuple[Remote, ...]) -> None:
        if sum(remote.stdio for remote in remotes) > 1:
            raise UsageError("only one remote can have standard input and output")

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """What to offer to the server, in this order, until it takes one."""
        return {"auto": (CHISEL, COTUN), "chisel": (CHISEL,), "cotun": (COTUN,)}[self.protocol]
