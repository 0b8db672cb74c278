"""Proxies: how users write them, and how the environment names them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.protocol.addresses import (
    RemoteError,
    canonical_host,
    clean_url_host,
    join_host_port,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_PORTS = {"http": 80, "https": 443, "socks": 1080, "socks5": 1080, "socks5h": 1080}
_RIGHT = "write it like http://user:password@proxy.example.com:3128, or socks5h://…"


@attrs.frozen
class ProxyUrl:
    """A proxy.  Its text never has the password in it."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> ProxyUrl:
        """Read ``scheme://[user:password@]host[:port]``; without a scheme it is ``http``.

        The user and the password are percent-encoded, as in every URL.  Raises `UsageError`, which
        shows nothing of the text: a password may be anywhere in it.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
            default = _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise UsageError(f"this is no proxy's URL: {_RIGHT}") from None
        if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise UsageError(f"this is no proxy's URL: {_RIGHT}")
        try:
            host = clean_url_host(host)
        except RemoteError as error:
            raise UsageError(f"proxy: {error}") from None
        user, password = _read_login(parts)
        return cls(parts.scheme, host, default if port is None else port, user, password)

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS5; HTTP's CONNECT otherwise."""
        return self.scheme.startswith("socks")

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken with the proxy itself."""
        return self.scheme == "https"

    def __str__(self) -> str:
        host = self.host.replace("%", "%25")  # of a zone (RFC 6874)
        return f"{self.scheme}://{join_host_port(host, self.port)}"


def _read_login(parts: SplitResult) -> tuple[str | None, str | None]:
    """Return the user and the password in a URL, each None where it is not there."""
    user, password = (
        None if word is None else unquote(word) for word in (parts.username, parts.password)
    )
    if user is not None and (":" in user or not (user + (password or "")).isprintable()):
        raise UsageError(f"the user or the password of the proxy cannot be sent: {_RIGHT}")
    return user, password


def proxy_from_environment(
    environment: Mapping[str, str], host: str, *, tls: bool
) -> ProxyUrl | None:
    """Return the proxy that the environment names for a server at `host`, or None.

    ``HTTPS_PROXY`` is for servers with TLS and ``HTTP_PROXY`` for others, then ``ALL_PROXY``; lower
    case comes first, as with curl.  ``NO_PROXY`` has names (and all below them), addresses and
    networks, separated by commas; ``*`` is all.  Raises `UsageError` that names the variable.
    """
    for name in ("https_proxy" if tls else "http_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if not (text := environment.get(variable)):
                continue
            if _is_excepted(host, environment.get("no_proxy") or environment.get("NO_PROXY", "")):
                return None
            try:
                return ProxyUrl.parse(text)
            except UsageError as error:
                raise UsageError(f"{variable}: {error}") from None
    return None


def _is_excepted(host: str, exceptions: str) -> bool:
    host = canonical_host(host)
    import urllib.request  # with an HTTP client behind it, 10 ms that most starts can do without

    if urllib.request.proxy_bypass_environment(host, {"no": exceptions}):  # type: ignore[attr-defined]
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for exception in exceptions.split(","):
        try:
            if address in ipaddress.ip_network(exception.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
