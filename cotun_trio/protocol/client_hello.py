"""The ClientHello of TLS (RFC 8446 section 4.1.2), read before any TLS is spoken: the name that a
client asks for, and the protocols that it offers, decide which certificate it gets.

Anybody can send it, so the work is linear in its size, however it is cut into records and reads.
"""

from __future__ import annotations

import attrs

from cotun_trio.errors import ProtocolError

MAX_HELLO = 16 * 1024
"""Bytes of a ClientHello, all its records together: post-quantum key shares make some 2 KiB."""
MAX_RECORDS = 1024
"""Records that it is spread over.  Most clients use one, and a client that hides the name from
observers a few hundred; more would be a millisecond's work and more in one turn."""
_HANDSHAKE, _MAJOR = 22, 3
_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_CLIENT_HELLO = 1
_SERVER_NAME, _ALPN = 0, 16  # RFC 6066 section 3, RFC 7301 section 3.1


@attrs.frozen
class ClientHello:
    """The first message of a client, as far as a server needs it."""

    name: str = ""
    """The server that it asks for, in lower case."""
    protocols: tuple[bytes, ...] = ()
    """The protocols that it can speak inside of TLS (ALPN)."""


class HelloReader:
    """Reads a ClientHello in pieces of any size."""

    def __init__(self) -> None:
        self._head = bytearray()  # of the present record
        self._left = 0  # bytes of that record still to come
        self._records = 0
        self._message = bytearray()

    def feed(self, data: bytes) -> ClientHello | None:
        """Take the next bytes; return the ClientHello that they complete, or None.

        Raises `ProtocolError` for bytes that are no ClientHello, and for one over `MAX_HELLO` or
        `MAX_RECORDS`.  After that, and after the ClientHello, there is nothing more to feed.
        """
        at = 0
        while at < len(data):
            if not self._left:
                part = data[at : at + _RECORD_HEAD - len(self._head)]
                self._begin_record(part)
            else:
                part = data[at : at + self._left]
                self._left -= len(part)
                self._message += part
                if self._is_whole():
                    return _read(bytes(self._message))
            at += len(part)
        return None

    def _begin_record(self, part: bytes) -> None:
        """Take bytes of the head of a record (RFC 8446 section 5.1)."""
        head = self._head
        head += part
        if head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != _MAJOR):
            raise ProtocolError("TLS: no handshake")
        if len(head) < _RECORD_HEAD:
            return
        self._left = int.from_bytes(head[3:], "big")
        head.clear()
        self._records += 1
        if not self._left:
            raise ProtocolError("TLS: an empty record in a handshake")
        if self._records > MAX_RECORDS:
            raise ProtocolError(f"TLS: a ClientHello in over {MAX_RECORDS} records")

    def _is_whole(self) -> bool:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise ProtocolError("TLS: no ClientHello")
        if len(message) < _MESSAGE_HEAD:
            return False
        size = int.from_bytes(message[1:_MESSAGE_HEAD], "big")
        if size > MAX_HELLO - _MESSAGE_HEAD:
            raise ProtocolError(f"TLS: a ClientHello of over {MAX_HELLO} bytes")
        return len(message) >= _MESSAGE_HEAD + size


class _Reader:
    """Reads fields from the front of `data`, without a copy of the rest."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise ProtocolError("TLS: a ClientHello that is cut short")
        return self._data[start : self._at]

    def vector(self, size: int) -> bytes:
        """Return a vector whose length is in the `size` bytes before it."""
        return self.take(int.from_bytes(self.take(size), "big"))


def _read(message: bytes) -> ClientHello:
    reader = _Reader(message)
    reader.take(1)  # the type
    reader = _Reader(reader.vector(3))
    reader.take(2 + 32)  # version and random
    for size in (1, 2, 1):  # session, ciphers, compression
        reader.vector(size)
    name, protocols = "", []
    extensions = _Reader(reader.vector(2) if reader else b"")
    while extensions:
        kind = int.from_bytes(extensions.take(2), "big")
        body = _Reader(extensions.vector(2))
        if kind == _SERVER_NAME:
            names = _Reader(body.vector(2))
            if names.take(1) == b"\0":
                name = names.vector(2).decode("ascii", "replace").lower()
        elif kind == _ALPN:
            offered = _Reader(body.vector(2))
            while offered:
                protocols.append(offered.vector(1))
    return ClientHello(name, tuple(protocols))
