"""What a supervisor reads of a worker that the network may have taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from cotun_trio.workers.control import HEAD, MAX_BODY, Decoder, encode
from tests.fuzz.oracle import Work, failed, outcome, ways_to_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.workers.control import Message
    from tests.fuzz.oracle import Feed

_END = b"\xff"
WORDS = (
    b"NaN",
    b"Infinity",
    b"1e999",
    b"null",
    b"true",
    b'["',
    b'",',
    b"[[0,0,0,0,0,0,0,0]]",
    b"1.5",
    b"\\ud800",
)


@attrs.frozen
class Said:
    """A message, and the number of its question."""

    pair: tuple[Message, int]


def run(data: bytes) -> None:
    """Decode a stream of messages, whose bodies have the right length, or raw bytes."""
    stream = _messages(data[1:].split(_END)) if data[:1] and data[0] & 1 else data[1:]
    with Work(at_most=5000 + 100 * len(stream)):
        whole, *others = (outcome(_decoder(), pieces) for pieces in ways_to_cut(stream))
    # An error takes what came with it, as the worker is killed for it.
    for other in others:
        assert other[-1:] == whole[-1:] if failed(whole) else other == whole
    assert len(whole) * HEAD.size <= len(stream) + HEAD.size
    for thing in others[0][: -1 if failed(whole) else None]:
        assert isinstance(thing, Said)
        assert Decoder().feed(encode(*thing.pair)) == [thing.pair]


def _messages(lines: list[bytes]) -> bytes:
    """Return a message for each of `lines`: its kind, the number of its question, its body."""
    stream = b""
    for line in lines:
        kind, number = line[:1] or b"\0", line[1:2]
        stream += HEAD.pack(len(line[2:]), kind[0], int.from_bytes(number)) + line[2:]
    return stream


def _decoder() -> Feed:
    decoder = Decoder()

    def feed(piece: bytes) -> Iterator[Said]:
        for message, number in decoder.feed(piece):
            yield Said((message, number))
        assert len(decoder._data) <= MAX_BODY + HEAD.size

    return feed
