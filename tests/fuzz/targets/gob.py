"""The gob stream of a UDP channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.protocol import gob
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import DEFINITION, Encoder
from tests.fuzz.oracle import Work, same_however_cut
from tests.support.datagrams import Datagram, datagrams_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

_SMALLEST = 3
"""Bytes of a value: its length, its type, and the end of the struct."""


def run(data: bytes) -> None:
    """Decode `data`; an odd first byte says that Go's definition of the type is in front."""
    stream = (DEFINITION if data[:1] and data[0] & 1 else b"") + data[1:]
    with Work(at_most=1000 + 100 * len(stream)):
        found = same_however_cut(_decoder, stream)
    datagrams = [thing for thing in found if isinstance(thing, Datagram)]
    assert len(datagrams) * _SMALLEST <= len(stream)
    encoder, decoder = Encoder(), Decoder()
    for datagram in datagrams:
        wire = encoder.encode(datagram.source, datagram.payload)
        assert list(datagrams_in(decoder, wire)) == [datagram]


def _decoder() -> Feed:
    decoder = Decoder()

    def feed(piece: bytes) -> Iterator[Datagram]:
        yield from datagrams_in(decoder, piece)
        assert len(decoder._buffer) <= gob.MAX_MESSAGE + 9, "more is kept than a message"

    return feed
