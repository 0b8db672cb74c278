"""The PROXY protocol: a few bytes in front of a connection that say whom it comes from.

By HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.  Version 1 is a line of text::

    PROXY TCP4 198.51.100.7 203.0.113.1 56324 443

Version 2 is binary: a signature of 12 bytes, the version and the command, the family and the
protocol, the number of bytes that follow, and in these the addresses.  What is behind them (TLVs)
is skipped.

Both have a form without addresses, for a connection of the proxy's own or one whose source it does
not know.  Written, it is ``UNKNOWN`` in version 1, and ``LOCAL`` in version 2: of the forms that
there are, receivers have to accept that one.
"""

import ipaddress
import re
import struct

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.endpoints import Endpoint, Endpoints, IPAddress

VERSIONS = ("v1", "v2")
MAX_LINE = 107
"""Bytes of the line of version 1, with its end (section 2.1)."""
MAX_BINARY = 4096
"""Bytes of a header of version 2: 16, the addresses, and TLVs, of which a client's certificate can
be a long one."""

_BEGINNING = b"PROXY "
_LINE = re.compile(
    rb"PROXY (?:TCP4 (?P<from4>[0-9.]+) (?P<to4>[0-9.]+)"
    rb"|TCP6 (?P<from6>[0-9A-Fa-f:.]+) (?P<to6>[0-9A-Fa-f:.]+))"
    rb" (?P<from_port>0|[1-9][0-9]{0,4}) (?P<to_port>0|[1-9][0-9]{0,4})"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?", re.DOTALL)
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_SIZES = {0x00: 0, _TCP4: 12, 0x12: 12, _TCP6: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""Bytes of the addresses, for each family with a protocol that there is."""
_V4, _V6 = struct.Struct(">4s4sHH"), struct.Struct(">16s16sHH")


@attrs.frozen
class ProxyHeader:
    """What a header says."""

    endpoints: Endpoints | None
    """None where the connection itself has the right ones: a health check of the proxy's, or a
    visitor that has no address of TCP."""


class HeaderReader:
    """Reads a header in pieces of any size."""

    def __init__(self) -> None:
        self.rest = b""
        """The bytes behind it, once it is there."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes; return the header that they complete, or None.

        Raises `ProtocolError` for what is no header, as soon as that is certain.  After that, and
        after the header, there is nothing more to feed.
        """
        buffer = self._buffer
        seen = len(buffer)
        buffer += data
        if _SIGNATURE.startswith(buffer[: len(_SIGNATURE)]):
            return self._read_binary()
        if _BEGINNING.startswith(buffer[: len(_BEGINNING)]):
            return self._read_line(seen)
        raise ProtocolError("PROXY: the connection does not begin with a header")

    def _read_line(self, seen: int) -> ProxyHeader | None:
        """Read version 1, of which `seen` bytes came before."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", max(seen - 1, 0), MAX_LINE)
        if end < 0:
            if len(buffer) >= MAX_LINE:
                raise ProtocolError(f"PROXY: a line of over {MAX_LINE} bytes")
            return None
        line, self.rest = bytes(buffer[:end]), bytes(buffer[end + 2 :])
        if _UNKNOWN.fullmatch(line):
            return ProxyHeader(None)
        found = _LINE.fullmatch(line)
        if found is None:
            raise ProtocolError("PROXY: a line of another form")
        kind = ipaddress.IPv4Address if found["from4"] else ipaddress.IPv6Address
        ends = []
        for name in ("from", "to"):
            text, port = found[f"{name}4"] or found[f"{name}6"], int(found[f"{name}_port"])
            try:
                ends.append(_endpoint(kind(text.decode("ascii")), port))
            except ValueError:
                raise ProtocolError("PROXY: a line with a wrong address") from None
        return ProxyHeader(Endpoints(*ends))

    def _read_binary(self) -> ProxyHeader | None:
        """Read version 2."""
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            return None
        _, command, kind, size = _HEAD.unpack_from(buffer)
        if command not in (_LOCAL, _PROXY):
            raise ProtocolError("PROXY: neither LOCAL nor PROXY of version 2")
        if _HEAD.size + size > MAX_BINARY:
            raise ProtocolError(f"PROXY: a header of over {MAX_BINARY} bytes")
        # The family of LOCAL does not count.
        if command == _PROXY and size < _SIZES.get(kind, MAX_BINARY):
            raise ProtocolError("PROXY: a family that there is not, or addresses cut short")
        end = _HEAD.size + size
        if len(buffer) < end:
            return None
        self.rest = bytes(buffer[end:])
        if command == _LOCAL or kind not in (_TCP4, _TCP6):
            return ProxyHeader(None)
        form = _V4 if kind == _TCP4 else _V6
        source, destination, from_port, to_port = form.unpack_from(buffer, _HEAD.size)
        return ProxyHeader(
            Endpoints(
                Endpoint.of(ipaddress.ip_address(source), from_port),
                Endpoint.of(ipaddress.ip_address(destination), to_port),
            )
        )


def _endpoint(address: IPAddress, port: int) -> Endpoint:
    if port > 65535:
        raise ValueError
    return Endpoint.of(address, port)


def proxy_header(version: str, endpoints: Endpoints | None) -> bytes:
    """Return a header of ``v1`` or ``v2``; without `endpoints`, one that names no addresses."""
    if endpoints is None:
        if version == "v1":
            return b"PROXY UNKNOWN\r\n"
        return _HEAD.pack(_SIGNATURE, _LOCAL, 0, 0)
    source, destination = _same_family(endpoints)
    ports = endpoints.source.port, endpoints.destination.port
    is_v4 = source.version == 4
    if version == "v1":
        texts = map(_text, (source, destination))
        words = " ".join((f"PROXY TCP{source.version}", *texts, *map(str, ports)))
        return f"{words}\r\n".encode("ascii")
    form, kind = (_V4, _TCP4) if is_v4 else (_V6, _TCP6)
    addresses = form.pack(source.packed, destination.packed, *ports)
    return _HEAD.pack(_SIGNATURE, _PROXY, kind, len(addresses)) + addresses


def _same_family(endpoints: Endpoints) -> tuple[IPAddress, IPAddress]:
    """Return both addresses in one family, as a header has them: that of IPv6 has room for both."""
    source, destination = endpoints.source.address, endpoints.destination.address
    if source.version == destination.version:
        return source, destination
    return _as_v6(source), _as_v6(destination)


def _text(address: IPAddress) -> str:
    # A mapped address in full: as text it may have dots, which are no part of the format.
    return address.packed.hex(":", 2) if getattr(address, "ipv4_mapped", None) else str(address)


def _as_v6(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
