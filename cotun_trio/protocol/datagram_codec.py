"""Datagrams in a channel: what the two forms of their stream have in common.

One form is Go's gob (`gob`), which every peer knows; the other is ours (`datagram_runs`).  Both
handle *runs*: datagrams of one source and one size, one behind the other.  Most datagrams come in
runs, of a download or a video; and what is done once for a run is done for none of its datagrams.

An encoder works in the memory that datagrams are read into.  Each is read to the place where it is
going to be in the stream, and only its head is written in front of it.
"""

import abc
from collections.abc import Iterator
from typing import Protocol

import attrs

MAX_SOURCE = 256
"""Bytes of a source: ``[address%zone]:port`` takes less than a hundred."""
MAX_PAYLOAD = 65_527
"""Bytes of a payload: as many as the 16 bits of UDP's length allow (RFC 768), on IPv6.  On IPv4 it
is 65,507: the length of the whole packet has 16 bits too."""
MAX_HEAD = 512
"""Bytes before and behind a payload in either form, with the source and all definitions."""


@attrs.define(eq=False)
class Run:
    """Datagrams of one source and one size."""

    source: str
    """The address (``host:port``) of the one that sent them or is to get them."""
    size: int
    """Bytes of each."""
    count: int
    """How many there are: one at least."""
    pieces: list[memoryview | bytes]
    """Their bytes, in order.  A piece holds any number of whole datagrams.

    They are views of the bytes that were read: copy what is kept for longer.
    """

    def extend(self, run: "Run") -> None:
        """Take the datagrams of another run as well; it has the same source and size."""
        self.count += run.count
        self.pieces += run.pieces

    def each(self) -> Iterator[memoryview | bytes]:
        """Give the payload of each datagram."""
        size = self.size
        for piece in self.pieces:
            if len(piece) == size:
                yield piece
            else:
                for start in range(0, len(piece), size):
                    yield piece[start : start + size]


class DatagramEncoder(abc.ABC):
    """Makes the stream of one channel, a batch at a time.

    `begin`; then for each datagram: read it into the memory at `place`, and `add` it; then `end`.
    """

    place = 0
    """Where in the memory the next datagram belongs."""

    @abc.abstractmethod
    def begin(self, memory: memoryview, limit: int) -> None:
        """Begin a batch of up to `limit` bytes at the front of `memory`.

        The memory has to be longer by `MAX_HEAD` and the largest datagram: where one does not fit
        is known only when it is there.
        """

    @abc.abstractmethod
    def add(self, source: str, size: int) -> bool:
        """Take the `size` bytes at `place` as a datagram of `source`; return whether it fits.

        Where it does not, nothing has changed.  Raises `ValueError` where the far end would not
        take it.
        """

    @abc.abstractmethod
    def end(self) -> int:
        """End the batch; return how many bytes at the front of the memory are the stream's."""

    def encode(self, source: str, payload: bytes) -> bytes:
        """Return the next bytes of the stream, for one datagram: a batch of its own.

        Raises `ValueError` as `add`.
        """
        size = len(payload)
        memory = memoryview(bytearray(2 * MAX_HEAD + 2 * size))
        self.begin(memory, MAX_HEAD + size)
        memory[self.place : self.place + size] = payload
        self.add(source, size)
        return bytes(memory[: self.end()])


class DatagramDecoder(Protocol):
    """Reads the stream of one channel, in pieces of any size.

    After a `ProtocolError` the stream is lost.
    """

    def read(self, data: memoryview, most: int) -> tuple[Run | None, int]:
        """Take up to `most` datagrams of one source and size from the front of `data`.

        Return them, and how many bytes were taken.  None stands for no datagram: either all of
        `data` is taken, and the next bytes have to follow; or less, and what was taken defines
        something: there may be datagrams behind it.  Raises `ProtocolError` where the stream is
        malformed; datagrams before that place are returned first, by a call of their own.
        """


def source_bytes(source: str, size: int) -> bytes:
    """Return the bytes of `source`.

    Raises `ValueError` where it is too long, or `size` is too much for a payload.
    """
    name = source.encode()
    if len(name) > MAX_SOURCE or size > MAX_PAYLOAD:
        raise ValueError(f"a source of {len(name)} and a payload of {size} bytes")
    return name
