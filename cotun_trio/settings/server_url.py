"""Where a server is."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import bracketed, join_host_port

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
