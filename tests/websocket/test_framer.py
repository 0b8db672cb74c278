"""`Framer`: WebSocket frames as we write them."""

from __future__ import annotations

import pytest
import wsproto.events

from cotun_trio.forwards.turn_length import LONG_TURN
from cotun_trio.ssh.scratch import OVERHEAD, SLOTS
from cotun_trio.websocket.frames import (
    GO_FRAMES,
    MAX_MESSAGE,
    FrameFilter,
    Framer,
    close_frame,
    frame_head,
)
from tests.support.frames import BINARY, KEY, frame, payload_of, read_by_wsproto

SIZES = (1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, MAX_MESSAGE, 2 * MAX_MESSAGE + 126)


def read_by_ourselves(data: bytes, *, mask: bool) -> tuple[bytes, bytes]:
    """Return the payload and the control frames that our own receiver finds."""
    payload = bytearray()
    received = FrameFilter(from_client=mask)
    received.max_message = MAX_MESSAGE
    control = received.feed(memoryview(data), payload.extend)
    return bytes(payload), control


@pytest.mark.parametrize("mask", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("size", SIZES)
def test_what_we_write_is_read_back_by_wsproto_and_by_ourselves(size: int, mask: bool) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    parts = Framer(mask=mask).frames(memoryview(data))
    written = b"".join(parts)
    events = read_by_wsproto(written, from_client=mask)
    assert payload_of(events) == data
    assert read_by_ourselves(written, mask=mask) == (data, b"")


@pytest.mark.parametrize("mask", [False, True])
def test_what_is_sent_at_once_is_one_frame_as_far_as_a_peer_takes_it(mask: bool) -> None:
    parts = Framer(mask=mask).frames(bytearray(LONG_TURN + SLOTS * OVERHEAD))
    assert len(parts) == 2
    parts = Framer(mask=mask).frames(bytearray(2 * MAX_MESSAGE + 5))
    assert [len(payload) for payload in parts[1::2]] == [MAX_MESSAGE, MAX_MESSAGE, 5]
    events = read_by_wsproto(b"".join(parts), from_client=mask)
    for event in events:  # each is a message of its own: no limit on messages is met
        assert isinstance(event, wsproto.events.BytesMessage)
        assert event.message_finished


def test_an_empty_payload_makes_no_frame() -> None:
    assert Framer(mask=True).frames(bytearray()) == []


def test_what_a_server_writes_is_not_copied() -> None:
    data = bytearray(b"x" * 10)
    (_, payload) = Framer(mask=False).frames(data)
    data[:] = b"y" * 10
    assert payload == b"y" * 10


def test_a_client_masks_every_frame_with_a_key_of_its_own() -> None:
    framer = Framer(mask=True)
    framer.sizes = (10,)
    parts = framer.frames(bytearray(8000))
    keys = [bytes(head[-4:]) for head in parts[::2]]
    keys += [framer.small(b"x")[2:6] for _ in range(800)]
    assert len(set(keys)) > 1590  # two are equal by chance once in 3000 runs


@pytest.mark.parametrize("mask", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("size", [1, 5, 100, 125, 126, 4096])
def test_a_small_message_is_one_frame_in_one_piece(size: int, mask: bool) -> None:
    data = (bytes(range(251)) * 17)[:size]
    made = Framer(mask=mask).small(memoryview(data))
    (event,) = read_by_wsproto(made, from_client=mask)
    assert payload_of([event]) == data
    assert read_by_ourselves(made, mask=mask) == (data, b"")


@pytest.mark.parametrize("mask", [False, True], ids=["server", "client"])
def test_for_a_go_peer_frames_end_where_its_buffer_and_where_packets_do(mask: bool) -> None:
    packet = sum(GO_FRAMES)
    framer = Framer(mask=mask)
    framer.sizes = GO_FRAMES
    parts = framer.frames(bytearray(2 * packet + 100))
    assert [len(payload) for payload in parts[1::2]] == [*GO_FRAMES, *GO_FRAMES, 100]
    assert payload_of(read_by_wsproto(b"".join(parts), from_client=mask)) == bytes(2 * packet + 100)


@pytest.mark.parametrize("size", SIZES)
def test_a_head_is_that_of_a_whole_binary_frame(size: int) -> None:
    assert frame_head(size, None) == frame(BINARY, claims=size)
    assert frame_head(size, KEY) == frame(BINARY, claims=size, key=KEY)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1002, "a reserved bit"), (1009, "é")])
def test_a_close_frame_says_its_code_and_reason(mask: bool, code: int, reason: str) -> None:
    made = close_frame(code, reason, mask=mask)
    (event,) = read_by_wsproto(made, from_client=mask)
    assert isinstance(event, wsproto.events.CloseConnection)
    assert (event.code, event.reason or "") == (code, reason)
    assert read_by_ourselves(made, mask=mask) == (b"", made)


@pytest.mark.parametrize(
    "reason",
    ["x" * 200, "é" * 100, "😀" * 50, "xx" + "😀" * 50],
    ids=["one byte each", "two", "four", "four, moved"],
)
def test_a_long_reason_is_cut_between_two_characters(reason: str) -> None:
    made = close_frame(1002, reason, mask=False)
    (event,) = read_by_wsproto(made, from_client=False)  # refuses what is not UTF-8
    assert isinstance(event, wsproto.events.CloseConnection)
    assert event.reason
    assert reason.startswith(event.reason)
    assert len(made) <= 2 + 125
