"""A channel and its two windows: what may be sent, what is credited, and in which order it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from cotun_trio.backlog import MAX_VIEWS, PIECE
from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel import copier
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import STEPS, WINDOW
from tests.support.ssh import channel_data
from tests.support.ssh_connection import Dialogue, RecordingSink, send

if TYPE_CHECKING:
    from cotun_trio.ssh.channel import Channel

CREDIT_STEP = WINDOW // STEPS
PEER = 7
"""The peer's number of the channel; ours is 0."""
EOF = messages.about_channel(messages.CHANNEL_EOF, 0)
CLOSE = messages.about_channel(messages.CHANNEL_CLOSE, 0)
OUR_EOF = messages.about_channel(messages.CHANNEL_EOF, PEER)
OUR_CLOSE = messages.about_channel(messages.CHANNEL_CLOSE, PEER)


def accepted(
    sink: RecordingSink | None = None, *, window: int = WINDOW, max_packet: int = MAX_PACKET
) -> tuple[Dialogue, Channel, RecordingSink]:
    """Return a dialogue with one channel, which the peer opened."""
    dialogue = Dialogue()
    channel = dialogue.accept(window=window, max_packet=max_packet, number=PEER)
    sink = sink or RecordingSink()
    channel.attach(sink)
    return dialogue, channel, sink


def data_in(heard: list[bytes]) -> list[bytes]:
    """Return the data of the CHANNEL_DATA messages in `heard`, checking all of them."""
    pieces = []
    for payload in heard:
        reader = messages.Reader(memoryview(payload))
        assert payload[0] == messages.CHANNEL_DATA
        assert reader.u32() == PEER
        pieces.append(bytes(reader.string()))
        reader.end()
    return pieces


# ---- outwards


@pytest.mark.parametrize("max_packet", [1, 100, 32767, 32768, 32769, 2**32 - 1])
def test_no_packet_is_larger_than_the_peer_takes_nor_than_ours(max_packet: int) -> None:
    dialogue, channel, _ = accepted(max_packet=max_packet)
    size = min(50 * max_packet, 100_000)
    data = bytes(i & 255 for i in range(size))
    assert send(channel, data) == size
    pieces = data_in(dialogue.heard())
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == min(max_packet, MAX_PACKET, size)
    assert channel.bytes_out == size


@pytest.mark.parametrize("window", [0, 1, 1000, 32768, 32769, 300_000])
def test_no_more_is_sent_than_the_window_allows(window: int) -> None:
    dialogue, channel, _ = accepted(window=window)
    assert send(channel, bytes(400_000)) == window
    assert not channel.sendable
    assert sum(map(len, data_in(dialogue.heard()))) == window
    dialogue.say(messages.window_adjust(0, 5))
    assert channel.sendable
    assert send(channel, bytes(100)) == 5
    dialogue.say(messages.window_adjust(0, 0))
    assert not channel.sendable


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 70_000)),
            st.tuples(st.just("adjust"), st.integers(0, 50_000)),
        ),
        max_size=12,
    ),
    st.sampled_from([1, 3000, 32768, 40_000]),
    st.integers(0, 40_000),
)
def test_any_order_of_sending_and_adjusting_keeps_to_the_window(
    steps: list[tuple[str, int]], max_packet: int, window: int
) -> None:
    dialogue, channel, _ = accepted(window=window, max_packet=max_packet)
    sent = 0
    for what, size in steps:
        if what == "adjust":
            dialogue.say(messages.window_adjust(0, size))
            window += size
        elif channel.sendable:
            sent += channel.send_from(copier(memoryview(bytes(size))), size)
        assert channel.out_window == window - sent >= 0
        assert channel.sendable == (window > sent)
    assert sum(map(len, data_in(dialogue.heard()))) == sent


def test_nothing_is_sent_where_there_was_nothing_to_fill_in() -> None:
    dialogue, channel, _ = accepted()
    assert channel.send_from(lambda _slots: 0, 1000) == 0
    assert dialogue.heard() == []
    assert channel.out_window == WINDOW


def test_data_sent_in_the_middle_of_a_batch_does_not_overtake_what_was_said_before() -> None:
    dialogue, channel, sink = accepted()
    other = dialogue.accept(number=8)

    def answer() -> None:
        other.send_eof()
        send(channel, b"answer")
        other.close()

    sink.end = answer  # type: ignore[method-assign]
    dialogue.say(messages.about_channel(messages.CHANNEL_EOF, 0))
    assert dialogue.heard() == [
        messages.about_channel(messages.CHANNEL_EOF, 8),
        channel_data(PEER, b"answer"),
        messages.about_channel(messages.CHANNEL_CLOSE, 8),
    ]


def test_what_goes_wrong_while_filling_in_passes_through_with_nothing_sent() -> None:
    dialogue, channel, _ = accepted()

    def fail(_slots: list[memoryview]) -> int:
        raise BlockingIOError

    with pytest.raises(BlockingIOError):
        channel.send_from(fail, 1000)
    assert dialogue.heard() == []
    assert channel.out_window == WINDOW
    assert send(channel, b"next") == 4
    assert data_in(dialogue.heard()) == [b"next"]


def test_a_window_adjustment_beyond_2_32_minus_1_is_refused() -> None:
    # RFC 4254 section 5.2
    dialogue, channel, _ = accepted(window=1)
    dialogue.say(messages.window_adjust(0, 2**32 - 2))
    assert channel.out_window == 2**32 - 1
    with pytest.raises(ProtocolError, match="window"):
        dialogue.say(messages.window_adjust(0, 1))
    assert dialogue.heard()[-1][0] == messages.DISCONNECT


@pytest.mark.parametrize("size", [0, 1, 30_000, 32_768, 32_769, 524_288, 524_289])
@pytest.mark.parametrize("max_packet", [1, 32_767, 32_768, 2**20])
def test_where_there_is_room_all_of_it_is_sent_at_once(max_packet: int, size: int) -> None:
    at_once = 524_288 if max_packet >= 32_768 else max_packet
    for window in {size, max(size - 1, 0), 2**21}:
        dialogue, channel, _ = accepted(max_packet=max_packet, window=window)
        assert channel.at_once == min(window, at_once)
        if size <= channel.at_once:
            channel.send_now(bytes(size))
            assert sum(map(len, data_in(dialogue.heard()))) == size


def test_there_is_no_room_while_the_carrier_is_busy_or_the_channel_closed() -> None:
    dialogue, channel, _ = accepted()
    assert channel.at_once
    dialogue.carrier.clogged = True
    assert not channel.at_once
    dialogue.carrier.unclog()
    channel.close()
    assert not channel.at_once


# ---- waiting to send


async def test_a_sender_waits_for_the_window_the_carrier_and_the_channel() -> None:
    dialogue, channel, _ = accepted(window=0)
    steps = []

    async def sender() -> None:
        await channel.wait_sendable()
        steps.append("sendable")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        assert steps == []
        dialogue.carrier.clogged = True
        dialogue.say(messages.window_adjust(0, 10))
        await trio.testing.wait_all_tasks_blocked()
        assert steps == [], "the carrier is busy"
        dialogue.carrier.unclog()
        await trio.testing.wait_all_tasks_blocked()
        assert steps == ["sendable"]


async def test_all_senders_that_wait_for_the_window_are_woken_when_it_opens() -> None:
    dialogue, channel, _ = accepted(window=0)
    woken: list[int] = []

    async def sender(number: int) -> None:
        await channel.wait_sendable()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(sender, number)
        await trio.testing.wait_all_tasks_blocked()
        assert not woken
        dialogue.say(messages.window_adjust(0, 1))
    assert sorted(woken) == [0, 1, 2]


async def test_who_need_not_wait_to_send_goes_through_no_checkpoint() -> None:
    _, channel, _ = accepted()
    with trio.testing.assert_no_checkpoints():
        await channel.wait_sendable()


@pytest.mark.parametrize("waits_for", ["window", "carrier"])
@pytest.mark.parametrize("how", ["peer closes", "we close", "connection lost"])
async def test_a_waiting_sender_learns_that_the_channel_ends(how: str, waits_for: str) -> None:
    dialogue, channel, _ = accepted(window=0 if waits_for == "window" else 10)
    dialogue.carrier.clogged = waits_for == "carrier"
    async with trio.open_nursery() as nursery:

        async def sender() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await channel.wait_sendable()

        for _ in range(3):
            nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        if how == "peer closes":
            dialogue.say(CLOSE)
        elif how == "we close":
            channel.close()
        else:
            dialogue.carrier.break_off()
            dialogue.connection.on_lost(ConnectionLost("cut"))
        dialogue.carrier.unclog()
    assert not channel.sendable


async def test_all_senders_that_wait_for_the_carrier_are_woken_when_it_is_idle() -> None:
    # One of them may go and wait for its own socket: waking one would leave the others hanging.
    dialogue = Dialogue()
    channels = [dialogue.accept(number=number) for number in range(10, 20)]
    dialogue.carrier.clogged = True
    woken = []

    async def sender(channel: Channel) -> None:
        await channel.wait_sendable()
        woken.append(channel)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for channel in channels:
            nursery.start_soon(sender, channel)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        dialogue.carrier.unclog()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(channel.number for channel in woken) == list(range(10))
        nursery.cancel_scope.cancel()


# ---- inwards


def test_data_of_a_batch_is_given_to_the_sink_in_one_go() -> None:
    dialogue, channel, sink = accepted()
    dialogue.say(*[channel_data(0, b"%d " % i) for i in range(5)])
    assert sink.data == b"0 1 2 3 4 "
    assert sink.views == [5]
    assert sink.told == []
    assert channel.bytes_in == 10


def test_a_batch_of_very_many_small_pieces_is_given_in_few() -> None:
    # A gathering write takes 1024 pieces at the most, and one read can bring 7000 packets.
    dialogue, _, sink = accepted()
    dialogue.say(*[channel_data(0, bytes((i & 255,))) for i in range(3000)])
    assert sink.data == bytes(i & 255 for i in range(3000))
    assert max(sink.views) <= MAX_VIEWS < 1024
    assert sink.told == []


def test_what_comes_before_there_is_a_sink_waits_for_it() -> None:
    dialogue = Dialogue()
    channel = dialogue.accept()
    dialogue.say(channel_data(0, b"early "))
    dialogue.say(channel_data(0, b"bird"), EOF)
    sink = RecordingSink()
    channel.attach(sink)
    assert sink.data == b"early bird"
    assert sink.told == ["end"]


@pytest.mark.parametrize("how", ["close", "lost"])
def test_a_sink_attached_after_the_end_is_told_of_it(how: str) -> None:
    dialogue = Dialogue()
    channel = dialogue.accept()
    dialogue.say(channel_data(0, b"late"))
    if how == "close":
        dialogue.say(CLOSE)
    else:
        dialogue.connection.on_lost(ConnectionLost("cut"))
    sink = RecordingSink()
    channel.attach(sink)
    assert sink.data == b"late"
    assert sink.told == (["end", "closed"] if how == "close" else ["closed"])


def test_a_slow_sink_gets_everything_in_order() -> None:
    dialogue, channel, sink = accepted(RecordingSink(room=3))
    dialogue.say(channel_data(0, b"abcde"))
    assert (sink.data, sink.told) == (b"abc", ["waits"])
    sink.room = 100
    dialogue.say(channel_data(0, b"fgh"))
    assert sink.data == b"abc", "the backlog comes first"
    assert channel.flush_backlog()
    assert sink.data == b"abcdefgh"
    dialogue.say(channel_data(0, b"i"), EOF)
    assert sink.data == b"abcdefghi"
    assert sink.told[-1] == "end"
    assert sink.told.count("end") == 1


def test_flushing_says_whether_all_was_taken() -> None:
    dialogue, channel, sink = accepted(RecordingSink(room=0))
    dialogue.say(channel_data(0, b"abcdef"), EOF)
    sink.room = 4
    assert not channel.flush_backlog()
    assert "end" not in sink.told
    sink.room = 4
    assert channel.flush_backlog()
    assert sink.data == b"abcdef"
    assert sink.told[-1] == "end"


def test_the_window_is_opened_in_quarters_by_what_was_taken() -> None:
    dialogue, channel, sink = accepted()
    piece = MAX_PACKET
    taken = 0
    for _ in range(2 * WINDOW // piece):
        dialogue.say(channel_data(0, bytes(piece)))
        taken += piece
        heard = dialogue.heard()
        if taken % CREDIT_STEP:
            assert heard == []
        else:
            assert heard == [messages.window_adjust(PEER, CREDIT_STEP)]
        assert channel.window == WINDOW - taken % CREDIT_STEP
    assert len(sink.data) == 2 * WINDOW


def test_bytes_that_were_not_taken_are_not_credited() -> None:
    dialogue, channel, sink = accepted(RecordingSink(room=CREDIT_STEP - 1))
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    assert dialogue.heard() == []
    assert channel.window == 0
    sink.room = 1
    channel.flush_backlog()
    assert dialogue.heard() == [messages.window_adjust(PEER, CREDIT_STEP)]
    sink.room = 2**30
    assert channel.flush_backlog()
    # In one message: it was taken in one go.
    assert sum(int.from_bytes(m[5:], "big") for m in dialogue.heard()) == WINDOW - CREDIT_STEP
    assert channel.window == WINDOW


def test_one_byte_beyond_the_window_ends_the_connection() -> None:
    dialogue, channel, _ = accepted(RecordingSink(room=0))
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    dialogue.say(channel_data(0, b""))
    with pytest.raises(ProtocolError, match="beyond the window"):
        dialogue.say(channel_data(0, b"x"))
    assert len(channel._backlog) == WINDOW, "more than a window was kept"


def test_one_byte_of_a_second_stream_beyond_the_window_ends_the_connection_too() -> None:
    dialogue, _, _ = accepted(RecordingSink(room=0))
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    with pytest.raises(ProtocolError, match="beyond the window"):
        dialogue.say(b"\x5f" + bytes(8) + messages.string(b"x"))


def test_a_window_sent_a_byte_at_a_time_stays_in_few_objects() -> None:
    dialogue, channel, _ = accepted(RecordingSink(room=0))
    for _ in range(20):
        dialogue.say(*[channel_data(0, b"x")] * 2000)
    assert len(channel._backlog) == 40_000
    assert len(channel._backlog._pieces) <= 40_000 // PIECE + 1
    assert channel._views == []


def test_data_on_one_channel_costs_another_nothing() -> None:
    dialogue, stalled, _ = accepted(RecordingSink(room=0))
    other, sink = dialogue.accept(number=8), RecordingSink()
    other.attach(sink)
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)), channel_data(1, bytes(MAX_PACKET)))
    assert stalled.window == 0
    assert other.window == WINDOW
    assert len(sink.data) == WINDOW


def test_data_of_a_second_stream_is_passed_over_and_credited() -> None:
    dialogue, channel, sink = accepted(RecordingSink(room=0))
    for i in range(WINDOW // MAX_PACKET * 3):
        extended = bytes((messages.CHANNEL_EXTENDED_DATA,)) + bytes(4) + b"\0\0\0\x01"
        dialogue.say(extended + messages.string(bytes(MAX_PACKET)))
        assert channel.window == WINDOW - (i + 1) * MAX_PACKET % CREDIT_STEP
    assert sink.data == b""
    assert dialogue.heard() == [messages.window_adjust(PEER, CREDIT_STEP)] * 12
