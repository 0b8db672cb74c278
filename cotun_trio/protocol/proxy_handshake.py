"""One listener for SOCKS 5, SOCKS 4 and 4a, and HTTP's CONNECT: the first byte tells them apart.

It is 5 or 4 with SOCKS.  With HTTP it is the first letter of a method, and all methods are written
in capitals (RFC 9110 section 9.1).
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from cotun_trio.protocol import socks4, socks5
from cotun_trio.protocol.http_connect import ConnectHandshake
from cotun_trio.protocol.proxy_request import RequestError, protocol_of
from cotun_trio.protocol.socks4 import Socks4Handshake
from cotun_trio.protocol.socks5 import NO_HOST, Socks5Handshake

if TYPE_CHECKING:
    from cotun_trio.protocol.proxy_request import Handshake, Reply, Request

_LETTERS = string.ascii_uppercase.encode()


class ProxyHandshake:
    """See `cotun_trio.protocol.proxy_request.Handshake`: the one of the client's own protocol."""

    def __init__(self, credentials: tuple[str, str] | None = None) -> None:
        """With `credentials`, a user and a password, each client has to give them."""
        self._credentials = credentials
        self._chosen: Handshake | None = None

    @property
    def rest(self) -> bytes:
        """See `Handshake.rest`."""
        return b"" if self._chosen is None else self._chosen.rest

    def feed(self, data: bytes) -> Request | None:
        """See `Handshake.feed`.  `data` is not empty."""
        if self._chosen is None:
            self._chosen = self._choose(data[0])
        return self._chosen.feed(data)

    def take_out(self) -> bytes:
        """See `Handshake.take_out`."""
        return b"" if self._chosen is None else self._chosen.take_out()

    def reply(self, code: Reply, host: str = NO_HOST, port: int = 0) -> bytes:
        """See `Handshake.reply`."""
        assert self._chosen is not None  # there is a request
        return self._chosen.reply(code, host, port)

    def _choose(self, first: int) -> Handshake:
        if first == socks5.VERSION:
            return Socks5Handshake(self._credentials)
        if first == socks4.VERSION:
            return Socks4Handshake(refused=self._credentials is not None)
        if first in _LETTERS:
            return ConnectHandshake(self._credentials)
        raise RequestError(f"{protocol_of(first)}, and this is SOCKS and HTTP's CONNECT")
