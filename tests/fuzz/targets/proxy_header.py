"""The PROXY header of a balancer, or of somebody who is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.protocol.proxy_header import (
    MAX_BINARY,
    VERSIONS,
    HeaderReader,
    ProxyHeader,
    proxy_header,
)
from tests.fuzz.oracle import Work, failed, same_however_cut
from tests.support.proxy_header import Wrong, expected, pair_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

LONGEST = MAX_BINARY + 64
WORDS = (
    b"PROXY TCP4 ",
    b"PROXY TCP6 ",
    b"PROXY UNKNOWN",
    b"\r\n",
    b"1.2.3.4",
    b"::ffff:1.2.3.4",
    b"65535",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
)


def run(data: bytes) -> None:
    """Read `data` as the beginning of a connection: refused, or what another reader makes of it."""
    with Work(at_most=5000 + 100 * len(data)):
        found = same_however_cut(_reader, data)
    try:
        other = expected(data)
    except Wrong:
        assert failed(found), "taken, and it is no header"
        return
    assert not failed(found), "refused, and it is a header"
    assert bool(found) == (other is not None)
    if found and other is not None:
        header = found[0]
        assert isinstance(header, ProxyHeader)
        assert pair_of(header.endpoints) == other[0]
        for version in VERSIONS:
            written = proxy_header(version, header.endpoints)
            assert HeaderReader().feed(written) == header


def _reader() -> Feed:
    reader, over = HeaderReader(), False

    def feed(piece: bytes) -> Iterator[ProxyHeader]:
        nonlocal over
        if over:
            return
        header = reader.feed(piece)
        assert header is not None or len(reader._buffer) < MAX_BINARY, "it waits for ever"
        if header is not None:
            over = True
            yield header

    return feed
