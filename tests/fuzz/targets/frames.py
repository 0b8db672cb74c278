"""WebSocket frames, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import wsproto.utilities

from cotun_trio.websocket.frames import FrameFilter
from tests.fuzz import turns
from tests.fuzz.oracle import Program, Work, failed, outcome, ways_to_cut
from tests.support.frames import CLOSE, PING, PONG, payload_of, read_by_wsproto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

_LONGEST_CONTROL = 6 + 125
_SHORT = 125
"""Bytes of a message that is never too long: the filter has a short way for those."""


def run(data: bytes) -> None:
    """The first byte says who sends, and the second how much longer a message may be."""
    program = Program(data)
    from_client, longest, stream = bool(program.number() & 1), program.number(), program.rest()
    results = []
    for pieces in ways_to_cut(stream):
        receiver = _Receiver(longest, from_client=from_client)
        with Work(at_most=5000 + 100 * len(stream)):
            ended = outcome(receiver.feeder(), pieces)
        results.append((bytes(receiver.payload), receiver.filter.closed, ended))
        _check_controls(bytes(receiver.control), from_client=from_client)
    assert results[0] == results[1] == results[2], results
    payload, closed, ended = results[0]
    assert len(payload) <= len(stream)
    if not failed(ended) and not closed:
        _check_against_wsproto(stream, payload, from_client=from_client)


class _Receiver:
    """What comes of a stream of frames."""

    def __init__(self, longest: int, *, from_client: bool) -> None:
        self.filter = FrameFilter(from_client=from_client)
        self.filter.max_message = _SHORT + longest
        self.payload = bytearray()
        self.control = bytearray()

    def feeder(self) -> Feed:
        """Return what feeds the filter; it gives nothing but the error."""

        def feed(piece: bytes) -> Iterator[object]:
            for control in turns.filter_frames(self.filter, piece, self._sink):
                self.control += control
                yield from ()

        return feed

    def _sink(self, payload: memoryview) -> None:
        self.payload += payload


def _check_controls(control: bytes, *, from_client: bool) -> None:
    """Check that what trio-websocket gets are whole control frames, and nothing behind a close."""
    while control:
        opcode = control[0] & 0x0F
        size = 2 + (control[1] & 0x7F) + (4 if from_client else 0)
        assert control[0] & 0xF0 == 0x80
        assert opcode in (CLOSE, PING, PONG)
        assert size <= min(len(control), _LONGEST_CONTROL)
        control = control[size:]
        assert opcode != CLOSE or not control


def _check_against_wsproto(stream: bytes, payload: bytes, *, from_client: bool) -> None:
    """Check that a full implementation reads the same, where it has nothing against the frames."""
    try:
        events = read_by_wsproto(stream, from_client=from_client)
    except wsproto.utilities.RemoteProtocolError:
        raise AssertionError("wsproto refuses what we take") from None
    messages = [event for event in events if isinstance(event, wsproto.events.BytesMessage)]
    assert payload_of(messages) == payload
