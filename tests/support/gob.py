"""Gob streams of datagrams, read as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.protocol.gob import Datagram, Decoder


def datagrams_in(decoder: Decoder, data: bytes) -> Iterator[Datagram]:
    """Give the datagrams that the next bytes of a stream complete, one by one."""
    rest = memoryview(data)
    while rest:
        datagram, size = decoder.read(rest)
        rest = rest[size:]
        if datagram is not None:
            yield datagram
