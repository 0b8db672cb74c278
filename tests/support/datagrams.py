"""Streams of datagrams: made in one batch, and read as they come."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.datagram_codec import MAX_HEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cotun_trio.protocol.datagram_codec import DatagramDecoder, DatagramEncoder

MOST = 64
"""Datagrams that are taken at once."""


@attrs.frozen
class Datagram:
    """One datagram."""

    source: str
    payload: bytes


def batch(encoder: DatagramEncoder, datagrams: Sequence[Datagram]) -> bytes:
    """Return what `encoder` makes of datagrams in one batch."""
    limit = sum(len(datagram.payload) + MAX_HEAD for datagram in datagrams)
    memory = memoryview(bytearray(limit + MAX_HEAD + 70_000))
    encoder.begin(memory, limit)
    for datagram in datagrams:
        size = len(datagram.payload)
        memory[encoder.place : encoder.place + size] = datagram.payload
        assert encoder.add(datagram.source, size)
    return bytes(memory[: encoder.end()])


def datagrams_in(decoder: DatagramDecoder, data: bytes, most: int = MOST) -> Iterator[Datagram]:
    """Give the datagrams that the next bytes of a stream complete, one by one."""
    rest = memoryview(data)
    while rest:
        run, size = decoder.read(rest, most)
        assert size or run is not None, "it makes no progress"
        rest = rest[size:]
        if run is not None:
            payloads = list(run.each())
            assert 0 < len(payloads) == run.count <= most
            assert {len(payload) for payload in payloads} == {run.size}
            for payload in payloads:
                yield Datagram(run.source, bytes(payload))


def decoded(decoder: DatagramDecoder, *pieces: bytes, most: int = MOST) -> list[Datagram]:
    """Return the datagrams of a stream that comes in these pieces."""
    return [datagram for piece in pieces for datagram in datagrams_in(decoder, piece, most)]


def outcome(
    decoder: DatagramDecoder, pieces: Iterable[bytes], *, most: int = MOST
) -> tuple[list[Datagram], str]:
    """Return the datagrams of a stream, and what is wrong with it."""
    found: list[Datagram] = []
    wrong = ""
    try:
        for piece in pieces:
            for datagram in datagrams_in(decoder, piece, most):
                found.append(datagram)  # noqa: PERF402  what came before an error counts too
    except ProtocolError as error:
        wrong = str(error)
    assert wrong.isprintable()
    return found, wrong


def bytewise(data: bytes) -> Iterator[bytes]:
    """Give the bytes of `data`, one by one."""
    return (data[i : i + 1] for i in range(len(data)))


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the pieces of `data` between these places."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]
