"""Datagrams between two cotun-trio ends: runs of them, each with one head of six bytes.

It takes the place of gob (`cotun_trio.protocol.gob`) in UDP channels, in both directions, where the
client asks for it in the config request and the server agrees in the reply
(`cotun_trio.protocol.extensions`).  A stream consists of records.  A record is a head, and bytes:

=========  ======  ================================================================================
Bytes      Name    Meaning
=========  ======  ================================================================================
2          flow    the number of a source, 0 to 1023
2          size    bytes of each datagram, 0 to 65,527; of the source's text where the count is 0
2          count   how many datagrams follow, of that flow and that size, one behind the other;
                   or 0: the text of the source follows
the rest           *count* times *size* bytes; or the text, UTF-8, up to 256 bytes
=========  ======  ================================================================================

Numbers are big-endian.  So two datagrams of three bytes, from the source ``a:1`` that has not been
seen before, are::

    0000 0003 0000  61 3a 31    flow 0 is "a:1"
    0000 0003 0002  78 78 78 79 79 79

A flow has to be defined before its first datagram.  It can be defined anew at any time, for another
source: the sender has 1024 numbers, and gives the one that was silent for longest to a new source.
Each direction of a channel has numbers of its own.  An empty datagram is a record of its own, with
the count 1: a record stands for some bytes, so that no peer causes much work by few of them.

A run makes the difference, not the smaller heads: a receiver passes 64 datagrams on by one slice of
the bytes that it read, and one system call (`cotun_trio.forwards.segments`).
"""

import struct
from collections import OrderedDict
from typing import NoReturn

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.datagram_codec import (
    MAX_PAYLOAD,
    MAX_SOURCE,
    DatagramEncoder,
    Run,
    source_bytes,
)

MAX_FLOWS = 1024
"""Numbers of a stream.  The receiver keeps the texts of all, 300 KiB at most for each channel; with
more sources at a time than that, some of the texts are sent again."""
MAX_COUNT = 65_535
_HEAD = struct.Struct(">HHH")
_SIZE = _HEAD.size


class RunEncoder(DatagramEncoder):
    """Makes one stream.  See `DatagramEncoder`."""

    def __init__(self) -> None:
        self._flows: OrderedDict[str, int] = OrderedDict()  # the longest silent one first
        self._memory = memoryview(b"")
        self._limit = 0
        # The run that can go on: where its head is, its values, and where it has to end.
        self._head = self._flow = self._size = self._count = self._stop = 0
        self._source: str | None = None

    def begin(self, memory: memoryview, limit: int) -> None:
        """See `DatagramEncoder.begin`."""
        self._memory, self._limit = memory, limit
        self._head = self._count = self._stop = 0
        self.place = _SIZE

    def add(self, source: str, size: int) -> bool:
        """See `DatagramEncoder.add`."""
        end = self.place + size
        if size and size == self._size and end <= self._stop and source == self._source:
            self.place = end
            self._count += 1
            return True
        return self._begin_run(source, size)

    def _begin_run(self, source: str, size: int) -> bool:
        """Have the datagram at `place` begin a run, if there is room."""
        memory, place = self._memory, self.place
        at = place if self._count else 0
        flow = self._flows.get(source)
        definition = b""
        if flow is None:
            name = source_bytes(source, size)
            flow = self._next_flow()
            definition = _HEAD.pack(flow, len(name), 0) + name
        elif size > MAX_PAYLOAD:
            source_bytes(source, size)  # raises
        head = at + len(definition)
        start = head + _SIZE
        if start + size > self._limit:
            return False
        if start != place:
            memory[start : start + size] = memory[place : place + size]
        self._write_head()
        if definition:
            memory[at:head] = definition
            if len(self._flows) >= MAX_FLOWS:
                self._flows.popitem(last=False)
            self._flows[source] = flow
        else:
            self._flows.move_to_end(source)
        self._source, self._flow, self._size, self._count, self._head = source, flow, size, 1, head
        self._stop = min(self._limit, start + MAX_COUNT * size)
        self.place = start + size
        return True

    def _next_flow(self) -> int:
        """Return a number for a new source: of the longest silent one, where all are taken."""
        flows = self._flows
        return len(flows) if len(flows) < MAX_FLOWS else next(iter(flows.values()))

    def _write_head(self) -> None:
        if self._count:
            _HEAD.pack_into(self._memory, self._head, self._flow, self._size, self._count)

    def end(self) -> int:
        """See `DatagramEncoder.end`."""
        self._write_head()
        self._stop = 0
        return self.place if self._count else 0


class RunDecoder:
    """Reads one stream.  See `cotun_trio.protocol.datagram_codec.DatagramDecoder`.

    It keeps what is incomplete: a head, a text, or one datagram.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._sources: dict[int, str] = {}
        self._defined: tuple[int, int] | None = None  # the flow whose text comes next, and its size
        self._source = ""
        self._size = self._left = 0  # of the run that is being read

    def read(self, data: memoryview, most: int) -> tuple[Run | None, int]:
        """See `DatagramDecoder.read`."""
        at = 0
        if not self._left:
            if self._defined is None:
                head, at = self._take(data, at, _SIZE)
                if head is None:
                    return None, at
                self._begin(*_HEAD.unpack(head))
            if self._defined is not None:
                return None, self._define(data, at, *self._defined)
            if not self._size:
                self._left = 0
                return Run(self._source, 0, 1, [b""]), at
        return self._read_datagrams(data, at, most)

    def _begin(self, flow: int, size: int, count: int) -> None:
        """Begin with the record that has this head."""
        if flow >= MAX_FLOWS:
            _refuse(f"flow {flow} of {MAX_FLOWS}")
        if not count:
            if size > MAX_SOURCE:
                _refuse(f"a source of {size} bytes")
            self._defined = flow, size
            return
        source = self._sources.get(flow)
        if source is None:
            _refuse(f"flow {flow}, which is not defined")
        if size > MAX_PAYLOAD:
            _refuse(f"a payload of {size} bytes")
        if count > 1 and not size:
            _refuse(f"a run of {count} empty datagrams")
        self._source, self._size, self._left = source, size, count

    def _define(self, data: memoryview, at: int, flow: int, size: int) -> int:
        """Read the text of a source; return where it ends in `data`."""
        raw, at = self._take(data, at, size)
        if raw is not None:
            text = bytes(raw)
            try:
                self._sources[flow] = text.decode()
            except UnicodeDecodeError:
                _refuse(f"'{escape(text)}' is not UTF-8")
            self._defined = None
        return at

    def _read_datagrams(self, data: memoryview, at: int, most: int) -> tuple[Run | None, int]:
        """Take datagrams of the present run, from `at` on."""
        size, count = self._size, 0
        most = min(most, self._left)
        pieces: list[memoryview | bytes] = []
        if self._buffer:
            first, at = self._take(data, at, size)
            if first is None:
                return None, at
            pieces.append(first)
            count = 1
        whole = min(most - count, (len(data) - at) // size)
        if whole:
            stop = at + whole * size
            pieces.append(data[at:stop])
            at = stop
            count += whole
        self._left -= count
        if count < most:  # all that is left is the beginning of the next one
            self._buffer += data[at:]
            at = len(data)
        return (Run(self._source, size, count, pieces) if count else None), at

    def _take(self, data: memoryview, at: int, size: int) -> tuple[memoryview | bytes | None, int]:
        """Return the next `size` bytes, and where they end in `data`, of which `at` are gone.

        Where there are not so many, all of `data` is kept, and None returned.
        """
        buffer = self._buffer
        stop = at + size - len(buffer)
        if stop > len(data):
            buffer += data[at:]
            return None, len(data)
        if not buffer:
            return data[at:stop], stop
        self._buffer = bytearray()
        return bytes(buffer + data[at:stop]), stop


def _refuse(reason: str) -> NoReturn:
    raise ProtocolError(f"UDP stream: {reason}")
