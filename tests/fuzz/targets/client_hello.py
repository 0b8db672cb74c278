"""A TLS client's first message, before any TLS is spoken."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.client_hello import MAX_HELLO, MAX_RECORDS, ClientHello, HelloReader
from tests.fuzz.oracle import Program, Weighed, Work, failed, same_however_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

LONGEST = 4096


def run(data: bytes) -> None:
    """The first byte says whether the rest is records, or goes into records of so many bytes."""
    program = Program(data)
    stream = _records(program.number(), program.rest()) if program.number() else program.rest()
    with Work(at_most=1000 + 100 * len(stream)):
        found = same_however_cut(_reader, stream)
    if found and not failed(found):
        (hello,) = found
        assert isinstance(hello, ClientHello)
        assert hello.name == hello.name.lower()
        assert len(hello.name) + sum(map(len, hello.protocols)) <= len(stream)
    Weighed.copied = 0
    with contextlib.suppress(ProtocolError):
        HelloReader().feed(Weighed(stream))
    assert Weighed.copied <= 10 * len(stream) + 1000, f"{Weighed.copied} bytes copied"


def _records(size: int, message: bytes) -> bytes:
    """Return `message` in records that have up to `size` bytes of it each; many if there are 0."""
    head = struct.pack(">BBBH", 22, 3, 1, size)
    if not size:
        return head * 2 * MAX_RECORDS + message
    parts = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(struct.pack(">BBBH", 22, 3, 1, len(part)) + part for part in parts)


def _reader() -> Feed:
    reader, seen, over = HelloReader(), 0, False

    def feed(piece: bytes) -> Iterator[ClientHello]:
        nonlocal seen, over
        if over:
            return
        seen += len(piece)
        if (hello := reader.feed(piece)) is not None:
            over = True
            yield hello
        assert over or seen <= MAX_HELLO + 5 * MAX_RECORDS + 4, "it waits for ever"

    return feed
