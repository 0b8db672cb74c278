"""UDP datagrams in a channel: Go's ``encoding/gob``, as much of it as one struct needs.

Each direction of a UDP channel is one gob stream of values of

.. code-block:: go

    type udpPacket struct { Src string; Payload []byte }

The format (https://pkg.go.dev/encoding/gob, "Encoding Details"), from the bottom up:

* An **unsigned integer** below 128 is one byte.  Any other is its bytes, big-endian and as few as
  will do, behind one byte that holds their negated number: 256 is ``fe 01 00``.
* A **signed integer** is an unsigned one with the sign in its lowest bit; a negative number is
  complemented first: 64 is 128, ``ff 80``, and -64 is 127, ``7f``.
* A **string** is its length and its bytes, and so is a ``[]byte``.
* A **struct** is its fields, each behind the distance of its number from that of the field before
  (the first is 0, and counts from -1), and a 0.  Fields of the value zero are left out, so an empty
  payload is not there at all.
* A **message** is its length, a signed type id, and a body of that type.  A *negative* id defines
  the type of the positive one: a ``wireType`` follows, which holds for a struct its name and the
  names and types of its fields.  A positive id has a value of that type behind it.

A stream defines a type before its first value and never again.  Which id it gets is the sender's
choice (64 in Go, or more where the program has registered other types), so it is read and not
assumed.  A definition may come in a read of its own.
"""

from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape

MAX_SOURCE = 256
"""Bytes of a source: ``[address%zone]:port`` takes less than a hundred."""
MAX_PAYLOAD = 65_527
"""Bytes of a payload: as many as the 16 bits of UDP's length allow (RFC 768), on IPv6.  On IPv4 it
is 65,507: the length of the whole packet has 16 bits too."""
MAX_OVERHEAD = 64
"""Bytes of a message besides these two: a dozen in Go, and some for fields that we don't know."""
MAX_MESSAGE = MAX_SOURCE + MAX_PAYLOAD + MAX_OVERHEAD
"""Bytes of a message behind its length.  No more than this is ever kept."""
MAX_DEFINITION = 1024
"""Bytes of the message that defines the type: 42 in Go."""


@attrs.frozen
class Datagram:
    """A datagram, and the address (``host:port``) of the one that sent it or is to get it."""

    source: str
    payload: bytes


# The definition that Go sends before the first value.
_DEFINITION = b"".join(
    [
        b"\x2a",  # 42 bytes
        b"\x7f",  # type -64, so this defines type 64
        b"\x03",  # wireType: field 2, StructT
        b"\x01",  # structType: field 0, CommonType
        b"\x01\x09udpPacket",  # Name
        b"\x01\xff\x80\x00",  # Id 64; the end of CommonType
        b"\x01\x02",  # structType: field 1, Field, of which there are two
        b"\x01\x03Src\x01\x0c\x00",  # Name; Id 6: a string
        b"\x01\x07Payload\x01\x0a\x00",  # Name; Id 5: a []byte
        b"\x00\x00",  # the end of structType and of wireType
    ]
)
_VALUE = b"\xff\x80"  # type 64


class Encoder:
    """Makes one gob stream, the same bytes as from Go."""

    def __init__(self) -> None:
        self._to_define = _DEFINITION

    def encode(self, source: str, payload: bytes) -> bytes:
        """Return the next bytes of the stream, for one datagram.

        Raises `ValueError` where the far end would not take it.
        """
        name = source.encode()
        if len(name) > MAX_SOURCE or len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a source of {len(name)} and a payload of {len(payload)} bytes")
        parts = [_VALUE]
        if name:
            parts += b"\x01", _uint(len(name)), name
        if payload:
            parts += b"\x01" if name else b"\x02", _uint(len(payload)), payload
        parts.append(b"\x00")
        definition, self._to_define = self._to_define, b""
        return b"".join([definition, _uint(sum(map(len, parts))), *parts])


def _uint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    size = (value.bit_length() + 7) // 8
    return bytes([0x100 - size]) + value.to_bytes(size)


_BOOL, _INT, _UINT, _FLOAT, _BYTES, _STRING, _COMPLEX = range(1, 8)  # the ids of Go's basic types
_SIZED = (_BYTES, _STRING)
_UINTS_OF = {_BOOL: 1, _INT: 1, _UINT: 1, _FLOAT: 1, _COMPLEX: 2}  # unsigned integers in a value

_WIRE_TYPE = ("ArrayT", "SliceT", "StructT", "MapT")  # and three for types that encode themselves
_STRUCT_TYPE = ("CommonType", "Field")
_COMMON_TYPE = ("Name", "Id")
_FIELD_TYPE = ("Name", "Id")

_NEEDED = {("Src", _STRING), ("Payload", _BYTES)}


class Decoder:
    """Reads one gob stream, in pieces of any size.

    Go decodes the fields that it knows by name and skips the others; so does this, as far as the
    others are of basic types.  After a `ProtocolError` the stream is lost.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # the beginning of a message, never all of it
        self._type_id: int | None = None
        self._fields: list[tuple[str, int]] = []  # the names and type ids of a value's, in order

    def read(self, data: memoryview) -> tuple[Datagram | None, int]:
        """Take a datagram from the front of `data`; return it, and how many bytes were taken.

        All of `data` is taken where the datagram is not complete, and None returned; the next
        bytes have to follow then.  Raises `ProtocolError` where the stream is malformed, or holds
        no datagrams.
        """
        total = len(data)
        rest = data
        while rest:
            if self._buffer:
                message, taken = self._complete(rest)
            else:
                message, taken = self._split(rest)
            rest = rest[taken:]
            if message is not None and (datagram := self._decode(message)) is not None:
                return datagram, total - len(rest)
        return None, total

    def _split(self, data: memoryview) -> tuple[bytes | None, int]:
        """Return the message at the front of `data`, and how many bytes it takes.

        Where it is not complete, all of `data` is kept, and None returned.
        """
        place = _place(data)
        if place is None or place[1] > len(data):
            self._buffer += data
            return None, len(data)
        start, stop = place
        return bytes(data[start:stop]), stop

    def _complete(self, data: memoryview) -> tuple[bytes | None, int]:
        """Do the same for a message whose beginning is in the buffer."""
        buffer = self._buffer
        place, taken = _place(buffer), 0
        while place is None and taken < len(data):  # a byte of the length at a time
            buffer.append(data[taken])
            taken += 1
            place = _place(buffer)
        if place is None:
            return None, taken
        start, stop = place
        more = data[taken : taken + stop - len(buffer)]
        buffer += more
        if len(buffer) < stop:
            return None, len(data)
        self._buffer = bytearray()
        return bytes(memoryview(buffer)[start:stop]), taken + len(more)

    def _decode(self, data: bytes) -> Datagram | None:
        """Return the datagram in a message; None where it defines the type."""
        message = _Message(data)
        type_id = message.signed()
        datagram = None
        if type_id < 0:
            self._define(-type_id, message)
        else:
            datagram = self._value(type_id, message)
        message.finish()
        return datagram

    def _define(self, type_id: int, message: "_Message") -> None:
        if self._type_id is not None:
            _refuse("a second type")
        if message.size > MAX_DEFINITION:
            _refuse(f"a definition of {message.size} bytes")
        for part in message.fields(_WIRE_TYPE):
            if part != "StructT":
                _refuse("a type that is no struct")
            self._fields = _read_struct_type(message)
        names = [name for name, _ in self._fields]
        if len(set(names)) < len(names) or not _NEEDED.issubset(self._fields):
            shown = ", ".join(escape(name, 20) for name in names[:10])
            _refuse(f"a type that is no UDP packet (its fields: {shown})")
        self._type_id = type_id

    def _value(self, type_id: int, message: "_Message") -> Datagram:
        if type_id != self._type_id:
            _refuse(f"a value of type {type_id}, which is not defined")
        source, payload = "", b""
        for name, kind in message.fields(self._fields):
            if name == "Src":
                source = message.text(MAX_SOURCE)
            elif name == "Payload":
                payload = message.octets(MAX_PAYLOAD)
            else:
                message.skip(kind)
        return Datagram(source, payload)


def _read_struct_type(message: "_Message") -> list[tuple[str, int]]:
    fields: list[tuple[str, int]] = []
    for part in message.fields(_STRUCT_TYPE):
        if part == "CommonType":
            _read_name_and_id(message, _COMMON_TYPE)  # the struct's own, which are not needed
        else:
            # However large the number is: each turn takes a byte of the message at least.
            count = message.unsigned()
            fields.extend(_read_name_and_id(message, _FIELD_TYPE) for _ in range(count))
    return fields


def _read_name_and_id(message: "_Message", parts: tuple[str, str]) -> tuple[str, int]:
    name, type_id = "", 0
    for part in message.fields(parts):
        if part == "Name":
            name = message.text(MAX_DEFINITION)
        else:
            type_id = message.signed()
    return name, type_id


Field = TypeVar("Field")


class _Message:
    """One message, read from the front.  Everything raises `ProtocolError` at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.position = 0

    def unsigned(self) -> int:
        first = self._take(1)[0]
        if first < 0x80:
            return first
        return int.from_bytes(self._take(_tail_of(first)))

    def signed(self) -> int:
        value = self.unsigned()
        return ~(value >> 1) if value & 1 else value >> 1

    def octets(self, limit: int) -> bytes:
        size = self.unsigned()
        if size > limit:
            _refuse(f"a string of {size} bytes")
        return self._take(size)

    def text(self, limit: int) -> str:
        raw = self.octets(limit)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            _refuse(f"'{escape(raw)}' is not UTF-8")

    def fields(self, known: Sequence[Field]) -> Iterator[Field]:
        """Read a struct: for each field that is there, yield its entry in `known`.

        The caller reads the value of each field before it takes the next.
        """
        number = -1
        while distance := self.unsigned():
            number += distance
            if number >= len(known):
                _refuse(f"a field with the number {number}, of {len(known)}")
            yield known[number]

    def skip(self, type_id: int) -> None:
        """Read a value of a basic type that means nothing to us."""
        if type_id in _SIZED:
            self._take(self.unsigned())
        elif type_id in _UINTS_OF:
            for _ in range(_UINTS_OF[type_id]):
                self.unsigned()
        else:
            _refuse(f"a field of type {type_id}")

    def finish(self) -> None:
        if self.position < self.size:
            _refuse(f"{self.size - self.position} bytes behind the value of a message")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > self.size:
            _refuse("a message that ends too early")
        taken = self._data[self.position : end]
        self.position = end
        return taken


def _place(data: memoryview | bytearray) -> tuple[int, int] | None:
    """Return where the message at the front of `data` starts, behind its length, and where it
    stops; None where its length is not complete.

    A message that is too long is refused as soon as its length is known.
    """
    head = bytes(data[:9])
    if not head or len(head) < 1 + _tail_of(head[0]):
        return None
    length = _Message(head)
    size, start = length.unsigned(), length.position
    if size > MAX_MESSAGE:
        _refuse(f"a message of {size} bytes")
    return start, start + size


def _tail_of(first: int) -> int:
    """Return how many bytes of an unsigned integer follow its first one."""
    if first < 0x80:
        return 0
    size = 0x100 - first
    if size > 8:
        _refuse(f"a number of {size} bytes")
    return size


def _refuse(reason: str) -> NoReturn:
    raise ProtocolError(f"UDP stream: {reason}")
