"""SOCKS 4 and its extension 4a, the listening side: bytes in, meaning out.

No RFC has them.  A conversation is one request and one reply, as in Ying-Da Lee's "SOCKS: A
protocol for TCP proxy across firewalls" and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol"::

    client    04 command port address user 00 [name 00]
    server    00 code port address

    port: 2 bytes; address: 4 bytes, those of IPv4; user, name: any bytes but 00

With the address 0.0.0.x, where x is not 0, the request has a name, which the server looks up (4a).
Nothing proves the user, and there is no password: a listener that asks for one refuses SOCKS 4.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host
from cotun_trio.protocol.proxy_request import Command, Reply, Request
from cotun_trio.protocol.socks5 import MAX_NAME, NO_HOST, SocksError, request
from cotun_trio.protocol.steps import StepReader

if TYPE_CHECKING:
    from cotun_trio.protocol.steps import Steps

VERSION = 4
_CONNECT = 1
_GRANTED, _REJECTED = 0x5A, 0x5B
_EMPTY = bytes(4)


class Socks4Handshake(StepReader[Request]):
    """See `cotun_trio.protocol.proxy_request.Handshake`."""

    def __init__(self, *, refused: bool = False) -> None:
        """With `refused`, clients are told that they have to come by another protocol."""
        self._refused = refused
        super().__init__(self._talk())

    def take_out(self) -> bytes:
        """See `Handshake.take_out`: there is nothing to send before the reply."""
        return b""

    def reply(self, code: Reply, host: str = NO_HOST, port: int = 0) -> bytes:
        """See `Handshake.reply`.  An address that is not of IPv4 has no place in it."""
        verdict = _GRANTED if code is Reply.SUCCEEDED else _REJECTED
        try:
            octets = ipaddress.IPv4Address(host).packed
        except ValueError:
            octets, port = _EMPTY, 0
        return bytes([0, verdict]) + port.to_bytes(2) + octets

    def _talk(self) -> Steps[Request]:
        (version,) = yield 1
        assert version == VERSION  # or another handshake would have been chosen
        if self._refused:
            raise self._error("the listener asks for a password, and SOCKS 4 has none")
        head = yield 7
        if head[0] != _CONNECT:
            raise self._error(f"command {head[0]} of SOCKS 4, and only CONNECT is served")
        port, octets = int.from_bytes(head[1:3]), head[3:]
        yield from self._read_text("the user")
        host = str(ipaddress.IPv4Address(octets))
        if octets[:3] == _EMPTY[:3] and octets[3]:
            name = yield from self._read_text("the name of the host")
            try:
                host = clean_host(name.decode())
            except UnicodeDecodeError:
                raise self._error(f"'{escape(name)}' is not UTF-8") from None
            except RemoteError as error:
                raise self._error(str(error)) from None
            if not host:
                raise self._error("the name of the host is empty")
        if not port:
            raise self._error("nothing can be reached on port 0")
        return Request(Command.CONNECT, host, port, request(Command.CONNECT, host, port))

    def _read_text(self, what: str) -> Steps[bytes]:
        """Read a text up to its NUL, which is not returned."""
        text = bytearray()
        while byte := (yield 1).rstrip(b"\0"):
            text += byte
            if len(text) > MAX_NAME:
                raise self._error(f"{what} has over {MAX_NAME} bytes")
        return bytes(text)

    def _error(self, text: str) -> SocksError:
        return SocksError(text, self.reply(Reply.GENERAL_FAILURE))
