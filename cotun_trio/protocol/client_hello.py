"""The ClientHello of TLS (RFC 8446 section 4.1.2), read before any TLS is spoken: the name that a
client asks for, and the protocols that it offers, decide which certificate it gets."""

from __future__ import annotations

import struct

import attrs

from cotun_trio.errors import ProtocolError

MAX_HELLO = 16 * 1024
"""Bytes of a ClientHello, all its records together: post-quantum key shares make some 2 KiB."""
_SERVER_NAME, _ALPN = 0, 16  # RFC 6066 section 3, RFC 7301 section 3.1


@attrs.frozen
class ClientHello:
    """What a client says first."""

    name: str = ""
    """The server that it asks for, in lower case."""
    protocols: tuple[bytes, ...] = ()
    """What it can speak inside of TLS (ALPN)."""

    @classmethod
    def read(cls, data: bytes) -> ClientHello | None:
        """Read what has come so far; None where that is not all of it.

        Raises `ProtocolError` for what is no ClientHello, and for one over `MAX_HELLO`.
        """
        message = b""
        while len(data) >= 5:
            kind, major, _, size = struct.unpack(">BBBH", data[:5])
            if kind != 22 or major != 3:
                raise ProtocolError("TLS: no handshake")
            message += data[5 : 5 + size]
            if len(data) < 5 + size:
                break
            data = data[5 + size :]
            if len(message) >= 4 and len(message) - 4 >= int.from_bytes(message[1:4], "big"):
                return _read(message)
        if data[:1] not in (b"", b"\x16") and not message:
            raise ProtocolError("TLS: no handshake")
        if len(message) > MAX_HELLO:
            raise ProtocolError(f"TLS: a ClientHello of over {MAX_HELLO} bytes")
        return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, count: int) -> bytes:
        if len(self._data) < count:
            raise ProtocolError("TLS: a ClientHello that is cut short")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def vector(self, size: int) -> bytes:
        """Return a vector whose length is in the `size` bytes before it."""
        return self.take(int.from_bytes(self.take(size), "big"))


def _read(message: bytes) -> ClientHello:
    reader = _Reader(message)
    if reader.take(1) != b"\x01":
        raise ProtocolError("TLS: no ClientHello")
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
