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

`cotun_trio.protocol.gob_encoder` writes the stream.
"""

from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.datagram_codec import MAX_PAYLOAD, MAX_SOURCE, Run
from cotun_trio.protocol.gob_encoder import uint
from cotun_trio.protocol.gob_usual import MAX_USUAL, usual_head

MAX_OVERHEAD = 64
"""Bytes of a message besides source and payload: a dozen in Go, and some for unknown fields."""
MAX_MESSAGE = MAX_SOURCE + MAX_PAYLOAD + MAX_OVERHEAD
"""Bytes of a message behind its length.  No more than this is ever kept."""
MAX_DEFINITION = 1024
"""Bytes of the message that defines the type: 42 in Go."""

_BOOL, _INT, _UINT, _FLOAT, _BYTES, _STRING, _COMPLEX = range(1, 8)  # the ids of Go's basic types
_SIZED = (_BYTES, _STRING)
_UINTS_OF = {_BOOL: 1, _INT: 1, _UINT: 1, _FLOAT: 1, _COMPLEX: 2}  # unsigned integers in a value

_WIRE_TYPE = ("ArrayT", "SliceT", "StructT", "MapT")  # and three for types that encode themselves
_STRUCT_TYPE = ("CommonType", "Field")
_COMMON_TYPE = ("Name", "Id")
_FIELD_TYPE = ("Name", "Id")

_USUAL = (("Src", _STRING), ("Payload", _BYTES))


class Decoder:
    """Reads one gob stream.  See `cotun_trio.protocol.datagram_codec.DatagramDecoder`.

    Go decodes the fields that it knows by name and skips the others; so does this, as far as the
    others are of basic types.

    Most values begin with the same bytes as the one before: they are of the same source, and of the
    same size.  Those are not read again.  Of the others, those as Go writes them are read in place.
    Any other form takes the long way, of messages that are copied and fields that are looked up.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # the beginning of a message, never all of it
        self._type_id: int | None = None
        self._fields: list[tuple[str, int]] = []  # the names and type ids of a value's, in order
        self._usual: bytes | None = None  # the type id in front of a value, where Go's form is
        self._head = b""  # the last value's bytes in front of its payload
        self._source = ""  # and what they mean
        self._size = -1

    def read(self, data: memoryview, most: int) -> tuple[Run | None, int]:
        """See `DatagramDecoder.read`."""
        pieces: list[memoryview | bytes] = []
        at = 0
        if self._buffer:
            run, at = self._read_message(data)
            if run is None or run.source != self._source or run.size != self._size:
                return run, at
            pieces += run.pieces  # there may be more like it
        elif not self._know_head(data):
            return self._read_message(data)
        head, size = self._head, self._size
        length, total = len(head), len(data)
        while len(pieces) < most:
            start = at + length
            end = start + size
            if end >= total or data[end] or data[at:start] != head:
                break
            pieces.append(data[start:end])
            at = end + 1
        if not pieces:
            return self._read_message(data)
        return Run(self._source, size, len(pieces), pieces), at

    def _know_head(self, data: memoryview) -> bool:
        """Know the bytes in front of the first payload; return whether it is of Go's form."""
        length = len(self._head)
        if length and data[:length] == self._head:
            return True
        if self._usual is None:
            return False
        found = usual_head(bytes(data[:MAX_USUAL]), self._usual)
        if found is None:
            return False
        self._head, self._source, self._size = found
        return True

    def _read_message(self, data: memoryview) -> tuple[Run | None, int]:
        """Take a datagram of any form; or all of `data`, where none is complete."""
        total = len(data)
        rest = data
        while rest:
            if self._buffer:
                message, taken = self._complete(rest)
            else:
                message, taken = self._split(rest)
            rest = rest[taken:]
            if message is not None and (run := self._decode(message)) is not None:
                return run, total - len(rest)
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

    def _decode(self, data: bytes) -> Run | None:
        """Return the datagram in a message; None where it defines the type."""
        message = _Message(data)
        type_id = message.signed()
        run = None
        if type_id < 0:
            self._define(-type_id, message)
        else:
            run = self._value(type_id, message)
        message.finish()
        return run

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
        if len(set(names)) < len(names) or not set(_USUAL).issubset(self._fields):
            shown = ", ".join(escape(name, 20) for name in names[:10])
            _refuse(f"a type that is no UDP packet (its fields: {shown})")
        self._type_id = type_id
        if self._fields == list(_USUAL):
            self._usual = uint(type_id << 1)  # a signed integer

    def _value(self, type_id: int, message: "_Message") -> Run:
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
        return Run(source, len(payload), 1, [payload])


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
