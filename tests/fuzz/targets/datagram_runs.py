"""The stream of datagrams between two of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.protocol.datagram_codec import MAX_PAYLOAD
from cotun_trio.protocol.datagram_runs import MAX_FLOWS, RunDecoder, RunEncoder
from tests.fuzz.oracle import Work, same_however_cut
from tests.support.datagrams import Datagram, datagrams_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

DEFINED = b"\x00\x00\x00\x03\x00\x00a:1"
"""A definition, so that what follows may be datagrams."""


def run(data: bytes) -> None:
    """Decode `data`; an odd first byte says that a flow is defined in front."""
    stream = (DEFINED if data[:1] and data[0] & 1 else b"") + data[1:]
    with Work(at_most=1000 + 100 * len(stream)):
        found = same_however_cut(_decoder, stream)
    datagrams = [thing for thing in found if isinstance(thing, Datagram)]
    assert len(datagrams) <= len(stream)
    encoder, decoder = RunEncoder(), RunDecoder()
    for datagram in datagrams:
        wire = encoder.encode(datagram.source, datagram.payload)
        assert list(datagrams_in(decoder, wire)) == [datagram]


def _decoder() -> Feed:
    decoder = RunDecoder()

    def feed(piece: bytes) -> Iterator[Datagram]:
        yield from datagrams_in(decoder, piece)
        assert len(decoder._buffer) <= MAX_PAYLOAD, "more is kept than a datagram"
        assert len(decoder._sources) <= MAX_FLOWS

    return feed
