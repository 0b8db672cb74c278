"""The URL of a server."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import (
    bracketed,
    clean_url_host,
    host_on_the_wire,
    join_host_port,
)

_HTTP_PORTS = {False: 80, True: 443}
"""The ports that a URL need not name, without TLS and with it."""
_TLS = {"http": False, "ws": False, "https": True, "wss": True}
"""The schemes of a server's URL, and whether each is with TLS."""
_RIGHT = "write it like https://example.com or http://example.com:8080"


@attrs.frozen
class ServerUrl:
    """The URL of a server, taken apart."""

    host: str
    """A name, or an address without brackets, with its zone behind a plain %."""
    port: int
    path: str
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Read ``[http[s]://]host[:port][/path]``; ``ws`` and ``wss`` are the same.

        Raises `UsageError`.
        """
        url = text if "://" in text else f"http://{text}"
        # A text that may hold a password is not shown.
        shown = "this" if "@" in text else f"{escape(text)!r}"
        if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
            raise UsageError("a server's URL holds no user: give user:password by --auth")
        try:
            server = cls._read(url)
        except ValueError:
            raise UsageError(f"{shown} is not a server's URL: {_RIGHT}") from None
        if not server.path.isascii():
            raise UsageError(
                f"{shown}: percent-encode the characters of the path that are not ASCII"
            )
        return server

    @classmethod
    def _read(cls, url: str) -> ServerUrl:
        """Read a URL with a scheme.  Raises `ValueError` where it is not that of a server."""
        parts = urlsplit(url)
        host, port = clean_url_host(parts.hostname or ""), parts.port
        tls = _TLS.get(parts.scheme)
        if tls is None or not host or port == 0 or not url.isprintable() or " " in url:
            raise ValueError
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(host, _HTTP_PORTS[tls] if port is None else port, path, tls)

    @property
    def authority(self) -> str:
        """The host and the port as they are shown: the port is left out where it is HTTP's own."""
        host = self.host.replace("%", "%25")  # of a zone (RFC 6874)
        if self.port == _HTTP_PORTS[self.tls]:
            return bracketed(host)
        return join_host_port(host, self.port)

    @property
    def host_header(self) -> str:
        """The same as a Host header: in ASCII, and without a zone."""
        return attrs.evolve(self, host=host_on_the_wire(self.host)).authority

    def __str__(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.authority}{'' if self.path == '/' else self.path}"
