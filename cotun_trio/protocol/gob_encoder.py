"""The stream of gob values that a UDP channel has (`cotun_trio.protocol.gob`), written as Go does.

All values of a run begin with the same bytes, so these are made once.
"""

from cotun_trio.protocol.datagram_codec import DatagramEncoder, source_bytes

# The definition that Go sends before the first value.
DEFINITION = b"".join(
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


class Encoder(DatagramEncoder):
    """Makes one gob stream, the same bytes as from Go.  See `DatagramEncoder`."""

    def __init__(self) -> None:
        self._to_define = DEFINITION
        self._memory = memoryview(b"")
        self._limit = self._at = 0  # where the next value begins
        self._source: str | None = None  # of the last value
        self._size = 0
        self._head = b""  # its bytes before the payload

    def begin(self, memory: memoryview, limit: int) -> None:
        """See `DatagramEncoder.begin`."""
        self._memory, self._limit = memory, limit
        self._at = 0
        self.place = len(self._head)  # the next datagram may well be like the last one

    def add(self, source: str, size: int) -> bool:
        """See `DatagramEncoder.add`."""
        place = self.place
        end = place + size
        if size == self._size and end < self._limit and source == self._source:
            self._memory[self._at : place] = self._head
            self._memory[end] = 0
            self._at = end + 1
            self.place = end + 1 + len(self._head)
            return True
        return self._add_another(source, size)

    def _add_another(self, source: str, size: int) -> bool:
        """Do the same for a datagram that is not like the last one."""
        memory, at, place = self._memory, self._at, self.place
        head = _head(source_bytes(source, size), size)
        start = at + len(self._to_define) + len(head)
        end = start + size
        if end >= self._limit:
            return False
        if start != place:
            memory[start:end] = memory[place : place + size]
        memory[at:start] = self._to_define + head
        memory[end] = 0
        self._to_define = b""
        self._source, self._size, self._head = source, size, head
        self._at = end + 1
        self.place = self._at + len(head)
        return True

    def end(self) -> int:
        """See `DatagramEncoder.end`."""
        self._limit = 0
        return self._at


def _head(name: bytes, size: int) -> bytes:
    """Return the bytes of a value before a payload of `size`; a 0 comes behind that."""
    parts = [_VALUE]
    if name:
        parts += b"\x01", uint(len(name)), name
    if size:
        parts += b"\x01" if name else b"\x02", uint(size)
    head = b"".join(parts)
    return uint(len(head) + size + 1) + head


def uint(value: int) -> bytes:
    """Return an unsigned integer in as few bytes as will do."""
    if value < 0x80:
        return bytes([value])
    size = (value.bit_length() + 7) // 8
    return bytes([0x100 - size]) + value.to_bytes(size)
