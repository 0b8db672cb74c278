"""Data frames of RFC 6455 section 5: what is taken, what is refused and with which close code.

Frames come from `tests.support.frames`, which knows nothing of ours; what we write is read back by
wsproto, which nobody here wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.websocket.frames import (
    MAX_MESSAGE_BEFORE_LOGIN,
    PROTOCOL_ERROR,
    TOO_BIG,
    UNSUPPORTED_DATA,
    FrameError,
    FrameFilter,
)
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    frame,
)

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "ws_frames.json").read_text())
SIZES = (0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537)

both_roles = pytest.mark.parametrize("key", [None, KEY], ids=["from server", "from client"])


class Received:
    """What a `FrameFilter` made of one peer's bytes."""

    def __init__(self, *, from_client: bool) -> None:
        self.filter = FrameFilter(from_client=from_client)
        self.payload = bytearray()
        self.control = bytearray()

    def feed(self, data: bytes) -> None:
        self.filter.budget.begin()
        self.control += self.filter.feed(memoryview(data), self._take)
        assert not self.filter.unfinished

    def _take(self, chunk: memoryview) -> None:
        assert chunk, "the sink was called with nothing"
        self.payload += chunk


def receive(key: bytes | None, *pieces: bytes) -> Received:
    """Feed `pieces`, each by itself, and return what came out."""
    received = Received(from_client=key is not None)
    for piece in pieces:
        received.feed(piece)
    return received


def bytewise(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def refusal(key: bytes | None, *pieces: bytes) -> FrameError:
    """Feed `pieces` and return the error that the last one raises."""
    received = receive(key, *pieces[:-1])
    with pytest.raises(FrameError) as caught:
        received.feed(pieces[-1])
    assert str(caught.value) == f"WebSocket: {caught.value.reason}"
    return caught.value


def conversation(key: bytes | None) -> tuple[bytes, bytes, list[bytes]]:
    """Return a stream with a bit of everything, its payload, and its pings."""
    controls = [
        frame(PING, b"are you there?", key=key),
        frame(PONG, key=key),
        frame(PING, b"x" * 125, key=key),
    ]
    stream = (
        frame(BINARY, b"first", key=key)
        + frame(BINARY, b"", key=key)
        + frame(BINARY, b"begins ", fin=False, key=key)
        + controls[0]
        + frame(CONTINUATION, b"goes on ", fin=False, key=key)
        + controls[1]
        + controls[2]
        + frame(CONTINUATION, b"", fin=False, key=key)
        + frame(CONTINUATION, b"y" * 300, key=key)
        + frame(BINARY, bytes(range(256)) * 3, key=key)
    )
    payload = b"firstbegins goes on " + b"y" * 300 + bytes(range(256)) * 3
    return stream, payload, [controls[0], controls[2]]


# ---- what is taken


@both_roles
@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_comes_out_as_it_went_in(key: bytes | None, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    received = receive(key, frame(BINARY, data, key=key))
    assert received.payload == data
    assert not received.control


@both_roles
def test_fragments_with_control_frames_between_them_are_sorted_out(key: bytes | None) -> None:
    stream, payload, pings = conversation(key)
    received = receive(key, stream)
    assert received.payload == payload
    # Whole and still masked: somebody else reads it.  RFC 6455 section 5.5.3: the last will do.
    assert received.control == pings[-1]


@both_roles
def test_byte_by_byte_is_the_same_as_whole(key: bytes | None) -> None:
    stream, payload, pings = conversation(key)
    received = receive(key, *bytewise(stream))
    assert received.payload == payload
    assert received.control == b"".join(pings)


@both_roles
def test_a_cut_at_any_place_changes_nothing(key: bytes | None) -> None:
    stream, payload, pings = conversation(key)
    ends = [stream.index(ping) + len(ping) for ping in pings]
    for at in range(len(stream) + 1):
        received = receive(key, stream[:at], stream[at:])
        assert received.payload == payload, at
        assert received.control == b"".join(pings if ends[0] <= at < ends[1] else pings[1:]), at


@both_roles
@given(
    st.lists(
        st.tuples(st.sampled_from(("part", "last part", "ping")), st.integers(0, 125)), max_size=9
    ),
    st.lists(st.integers(1, 70), max_size=9),
)
def test_random_streams_in_random_chunks_come_out_whole(
    key: bytes | None, parts: list[tuple[str, int]], chunks: list[int]
) -> None:
    stream, payload = b"", b""
    pings: list[tuple[int, bytes]] = []  # and where each ends
    opcode = BINARY
    for number, (kind, size) in enumerate(parts):
        content = bytes((number & 0xFF,)) * size
        if kind == "ping":
            stream += frame(PING, content, key=key)
            pings.append((len(stream), frame(PING, content, key=key)))
        else:
            stream += frame(opcode, content, fin=kind == "last part", key=key)
            payload += content
            opcode = BINARY if kind == "last part" else CONTINUATION
    received = Received(from_client=key is not None)
    at, answered = 0, b""
    for size in [*chunks, len(stream)]:
        received.feed(stream[at : at + size])
        answered += ([ping for end, ping in pings if at < end <= at + size] or [b""])[-1]
        at += size
    assert received.payload == payload
    assert received.control == answered


@pytest.mark.parametrize("before", range(9))
@pytest.mark.parametrize("middle", range(9))
def test_the_mask_is_turned_right_across_chunks_at_every_offset(before: int, middle: int) -> None:
    data = b"0123456789abcdefghijklmnop"
    stream = frame(BINARY, data, key=KEY)
    first, second = 6 + before, 6 + before + middle
    received = receive(KEY, stream[:first], stream[first:second], stream[second:])
    assert received.payload == data


def test_a_payload_that_ends_with_a_chunk_leaves_the_next_mask_alone() -> None:
    one, two = frame(BINARY, b"abc", key=b"\1\2\3\4"), frame(BINARY, b"defgh", key=b"\5\6\7\x08")
    assert receive(KEY, one, two).payload == b"abcdefgh"


@both_roles
def test_what_the_sink_gets_is_passed_on_before_the_frame_is_complete(key: bytes | None) -> None:
    stream = frame(BINARY, b"x" * 1000, key=key)
    assert len(receive(key, stream[:600]).payload) == 600 - (len(stream) - 1000)


def test_nothing_of_a_servers_payload_is_copied() -> None:
    data = bytearray(frame(BINARY, b"seen"))
    chunks: list[memoryview] = []
    FrameFilter(from_client=False).feed(memoryview(data), chunks.append)
    data[-4:] = b"SEEN"
    assert bytes(chunks[0]) == b"SEEN"


@both_roles
def test_nothing_counts_behind_a_close_frame(key: bytes | None) -> None:
    goodbye = frame(CLOSE, b"\x03\xe8bye", key=key)
    garbage = b"\xff" * 20
    late = frame(BINARY, b"late", key=key)
    for pieces in ([goodbye + late + garbage], [goodbye, late, garbage]):
        received = receive(key, *pieces)
        assert received.control == goodbye
        assert not received.payload


@both_roles
def test_a_close_frame_counts_in_the_middle_of_a_message(key: bytes | None) -> None:
    goodbye = frame(CLOSE, key=key)
    received = receive(key, frame(BINARY, b"half", fin=False, key=key) + goodbye)
    assert received.payload == b"half"
    assert received.control == goodbye


@both_roles
@pytest.mark.parametrize("opcode", [CLOSE, PING])
@pytest.mark.parametrize("size", [0, 2, 124, 125])
def test_control_frames_come_out_only_when_whole(key: bytes | None, opcode: int, size: int) -> None:
    made = frame(opcode, (b"\x03\xe8" + b"p" * size)[:size], key=key)
    received = receive(key, made[:-1])
    assert not received.control
    received.feed(made[-1:])
    assert received.control == made


@both_roles
@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_pongs_are_of_no_use_to_anybody_and_end_here(key: bytes | None, size: int) -> None:
    made = frame(PONG, b"p" * size, key=key)
    assert not receive(key, made, made[:-1], made[-1:] + made).control


# ---- what is refused


@both_roles
@pytest.mark.parametrize("reserved", range(1, 8))
@pytest.mark.parametrize("opcode", [CONTINUATION, BINARY, CLOSE, PING])
def test_a_reserved_bit_is_an_error(key: bytes | None, reserved: int, opcode: int) -> None:
    assert refusal(key, frame(opcode, reserved=reserved, key=key)).code == PROTOCOL_ERROR


@both_roles
@pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
def test_a_reserved_opcode_is_an_error(key: bytes | None, opcode: int) -> None:
    assert refusal(key, frame(opcode, key=key)).code == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_a_client_has_to_mask_and_a_server_must_not(opcode: int) -> None:
    assert refusal(KEY, frame(opcode, b"abc", key=None)).code == PROTOCOL_ERROR
    assert refusal(None, frame(opcode, b"abc", key=KEY)).code == PROTOCOL_ERROR


@both_roles
@pytest.mark.parametrize(
    ("form", "size"), [(16, 0), (16, 1), (16, 125), (64, 0), (64, 125), (64, 126), (64, 65535)]
)
def test_a_length_not_in_its_shortest_form_is_an_error(
    key: bytes | None, form: int, size: int
) -> None:
    error = refusal(key, frame(BINARY, b"x" * size, form=form, key=key))
    assert error.code == PROTOCOL_ERROR


@both_roles
@pytest.mark.parametrize("claims", [2**63, 2**63 + 1, 2**64 - 1])
def test_a_length_with_its_top_bit_set_is_an_error(key: bytes | None, claims: int) -> None:
    assert refusal(key, frame(BINARY, claims=claims, key=key)).code == PROTOCOL_ERROR


@both_roles
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_must_be_short_and_whole(key: bytes | None, opcode: int) -> None:
    for wrong in (
        frame(opcode, b"x" * 126, key=key),
        frame(opcode, b"x" * 65536, key=key),
        frame(opcode, b"x", form=16, key=key),
        frame(opcode, b"x", fin=False, key=key),
    ):
        # Two bytes are enough to see it.
        assert refusal(key, wrong[:2]).code == PROTOCOL_ERROR


@both_roles
def test_a_continuation_of_nothing_is_an_error(key: bytes | None) -> None:
    whole = frame(BINARY, b"whole", key=key)
    for fin in (True, False):
        stray = frame(CONTINUATION, b"stray", fin=fin, key=key)
        assert refusal(key, stray).code == PROTOCOL_ERROR
        assert refusal(key, whole, stray).code == PROTOCOL_ERROR


@both_roles
def test_a_message_inside_another_is_an_error(key: bytes | None) -> None:
    begun = frame(BINARY, b"begun", fin=False, key=key)
    for opcode in (BINARY, TEXT):
        assert refusal(key, begun, frame(opcode, key=key)).code == PROTOCOL_ERROR
        empty = frame(BINARY, fin=False, key=key)
        assert refusal(key, empty, frame(opcode, key=key)).code == PROTOCOL_ERROR


@both_roles
@pytest.mark.parametrize("fin", [True, False])
def test_a_text_message_is_data_that_is_not_supported(key: bytes | None, fin: bool) -> None:
    assert refusal(key, frame(TEXT, b"hello", fin=fin, key=key)).code == UNSUPPORTED_DATA


@both_roles
def test_an_error_is_raised_byte_by_byte_at_its_own_byte(key: bytes | None) -> None:
    ping = frame(PING, b"ok", key=key)
    wrong = frame(3, key=key)
    error = refusal(key, *bytewise(ping), wrong[:1], wrong[1:2])
    assert error.code == PROTOCOL_ERROR


# ---- how much is taken


@both_roles
def test_a_message_may_be_as_long_as_the_limit_and_no_longer(key: bytes | None) -> None:
    received = Received(from_client=key is not None)
    received.filter.max_message = 1000
    received.feed(frame(BINARY, b"x" * 1000, key=key))
    assert len(received.payload) == 1000
    over = frame(BINARY, b"x" * 1001, key=key)
    with pytest.raises(FrameError) as caught:
        received.feed(over[:-1001])  # the header alone
    assert caught.value.code == TOO_BIG
    assert len(received.payload) == 1000


@both_roles
def test_the_limit_counts_the_fragments_together(key: bytes | None) -> None:
    received = Received(from_client=key is not None)
    received.filter.max_message = 1000
    received.feed(frame(BINARY, b"x" * 500, fin=False, key=key))
    received.feed(frame(CONTINUATION, b"x" * 499, fin=False, key=key))
    received.feed(frame(PING, b"does not count", key=key))
    received.feed(frame(CONTINUATION, b"x", fin=False, key=key))
    with pytest.raises(FrameError) as caught:
        received.feed(frame(CONTINUATION, b"y", key=key))
    assert caught.value.code == TOO_BIG
    assert received.payload == b"x" * 1000


@both_roles
def test_the_limit_counts_each_message_by_itself(key: bytes | None) -> None:
    received = Received(from_client=key is not None)
    received.filter.max_message = 10
    for _ in range(3):
        received.feed(frame(BINARY, b"x" * 5, fin=False, key=key))
        received.feed(frame(CONTINUATION, b"x" * 5, key=key))
    assert len(received.payload) == 30


@both_roles
def test_a_stranger_may_not_announce_a_gigabyte(key: bytes | None) -> None:
    assert refusal(key, frame(BINARY, claims=2**30, key=key)).code == TOO_BIG
    longest = frame(BINARY, claims=MAX_MESSAGE_BEFORE_LOGIN, key=key)
    assert not receive(key, longest).payload
    assert refusal(key, frame(BINARY, claims=MAX_MESSAGE_BEFORE_LOGIN + 1, key=key)).code == TOO_BIG


# ---- what chisel sends


def recorded_frames() -> list[Any]:
    """Give the (fin, opcode, masked, length) of what was recorded of chisel, by direction."""
    found = []
    for name, rows in RECORDED.items():
        if isinstance(rows, dict):
            rows = rows["first 24"]
        shapes = [
            tuple(row.values()) if isinstance(row, dict) else tuple(map(int, row[1:-1].split(", ")))
            for row in rows
        ]
        found.append(pytest.param(shapes, id=name.replace(" ", "_")))
    return found


@pytest.mark.parametrize("shapes", recorded_frames())
def test_the_frames_that_chisel_sends_are_taken(shapes: list[tuple[int, int, int, int]]) -> None:
    key = KEY if shapes[0][2] else None
    stream, payload = b"", b""
    for number, (fin, opcode, _, size) in enumerate(shapes):
        data = bytes((number,)) * size
        stream += frame(opcode, data, fin=bool(fin), key=key)
        payload += data
    assert receive(key, stream).payload == payload
    assert receive(key, *(stream[i : i + 1000] for i in range(0, len(stream), 1000))).payload == (
        payload
    )


def test_a_chisel_client_sends_messages_in_fragments() -> None:
    # What the recording is there for: not one of our own frames is a fragment.
    shapes = RECORDED["1 MiB client->server"]["first 24"]
    assert sum(shape.startswith("(0,") for shape in shapes) > 12
