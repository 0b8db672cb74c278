"""Channels are opened, refused, given up and counted, by either side."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, OpenRefused, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.openings import MAX_OPEN
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import WINDOW
from tests.support.ssh import channel_data
from tests.support.ssh_connection import ConnectionPair, Dialogue, RecordingSink, send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.ssh.channel import Channel

CONFIRM = messages.open_confirmation(0, 7, 1000, 100)
REFUSE = messages.open_failure(0, messages.OPEN_CONNECT_FAILED, "nobody there")
OPEN = messages.channel_open(b"chisel", 7, 1000, 100, b"host:80")


async def while_opening(dialogue: Dialogue, then: Callable[[], Awaitable[None]]) -> list[object]:
    """Run `then` when the connection has asked for a channel; return what came of it."""
    outcome: list[object] = []

    async def ask() -> None:
        try:
            outcome.append(await dialogue.connection.open_channel(b"host:80"))
        except (OpenRefused, ProtocolError, ConnectionLost, trio.Cancelled) as error:
            outcome.append(error)
            raise

    with trio.CancelScope():
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                await then()
        except* (OpenRefused, ProtocolError, ConnectionLost):
            pass
    return outcome


# ---- our own


async def test_we_ask_with_our_type_number_window_and_packet_size() -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        (asked,) = dialogue.heard()
        assert asked == messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, b"host:80")
        dialogue.say(CONFIRM)

    (channel,) = await while_opening(dialogue, answer)
    assert dialogue.connection.channels == {0: channel}
    assert channel.peer_number == 7
    assert channel.out_window == 1000
    assert channel.out_max == 100
    assert channel.window == WINDOW
    assert dialogue.heard() == []


async def test_data_may_follow_the_confirmation_at_once() -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        dialogue.heard()
        dialogue.say(CONFIRM, channel_data(0, b"SSH-2.0-banner"))

    (channel,) = await while_opening(dialogue, answer)
    sink = RecordingSink()
    channel.attach(sink)
    assert sink.data == b"SSH-2.0-banner"


async def test_a_refusal_has_its_code_and_its_reason_escaped() -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        dialogue.heard()
        dialogue.say(messages.open_failure(0, 2, "no\n\x1b[31mway"))

    (error,) = await while_opening(dialogue, answer)
    assert isinstance(error, OpenRefused)
    assert error.code == messages.OPEN_CONNECT_FAILED
    assert str(error) == error.reason == r"no\n\x1b[31mway"
    assert dialogue.connection._table._opens == {}


async def test_a_refusal_without_a_reason_still_says_something() -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        dialogue.heard()
        dialogue.say(b"\x5c" + bytes(4) + b"\0\0\0\x63" + messages.string(b"") * 2)

    (error,) = await while_opening(dialogue, answer)
    assert "99" in str(error)


@pytest.mark.parametrize("answer", [CONFIRM, REFUSE], ids=["confirmation", "failure"])
async def test_an_answer_cut_short_anywhere_ends_the_connection_and_the_wait(answer: bytes) -> None:
    for size in range(1, len(answer)):
        dialogue = Dialogue()
        cut_short = answer[:size]

        async def reply(dialogue: Dialogue = dialogue, payload: bytes = cut_short) -> None:
            dialogue.heard()
            with pytest.raises(ProtocolError, match="cut short") as caught:
                dialogue.say(payload)
            dialogue.connection.on_lost(caught.value)

        assert isinstance((await while_opening(dialogue, reply))[0], ProtocolError)


@pytest.mark.parametrize("answer", [CONFIRM, REFUSE], ids=["confirmation", "failure"])
def test_an_answer_that_nobody_asked_for_is_refused(answer: bytes) -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError, match="nobody opened"):
        dialogue.say(answer)
    assert dialogue.connection.channels == {}


@pytest.mark.parametrize("second", [CONFIRM, REFUSE], ids=["confirmation", "failure"])
@pytest.mark.parametrize("first", [CONFIRM, REFUSE], ids=["confirmation", "failure"])
async def test_a_second_answer_is_refused(first: bytes, second: bytes) -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        dialogue.heard()
        dialogue.say(first)
        with pytest.raises(ProtocolError, match="nobody opened"):
            dialogue.say(second)

    await while_opening(dialogue, answer)


async def test_a_maximum_packet_size_of_0_is_refused_in_a_confirmation() -> None:
    dialogue = Dialogue()

    async def answer() -> None:
        dialogue.heard()
        with pytest.raises(ProtocolError, match="packet size of 0") as caught:
            dialogue.say(messages.open_confirmation(0, 7, 1000, 0))
        dialogue.connection.on_lost(caught.value)

    assert isinstance((await while_opening(dialogue, answer))[0], ProtocolError)
    assert dialogue.connection.channels == {}


async def test_openings_may_be_answered_in_any_order() -> None:
    dialogue = Dialogue()
    channels: dict[bytes, Channel] = {}

    async def ask(target: bytes) -> None:
        channels[target] = await dialogue.connection.open_channel(target)

    async with trio.open_nursery() as nursery:
        for target in (b"a", b"b", b"c"):
            nursery.start_soon(ask, target)
        await trio.testing.wait_all_tasks_blocked()
        asked = {payload[-1:]: payload[14] for payload in dialogue.heard()}
        assert sorted(asked.values()) == [0, 1, 2]
        for target in (b"c", b"a", b"b"):
            dialogue.say(messages.open_confirmation(asked[target], ord(target), 1, 1))
    for target, channel in channels.items():
        assert channel.peer_number == ord(target)


# ---- giving up


async def test_a_channel_given_up_is_closed_as_soon_as_it_opens() -> None:
    dialogue = Dialogue()
    with trio.move_on_after(0):
        await dialogue.connection.open_channel(b"host:80")
    assert len(dialogue.heard()) == 1
    assert dialogue.connection.channels == {}
    dialogue.say(CONFIRM, channel_data(0, b"hello"))
    assert dialogue.heard() == [messages.about_channel(messages.CHANNEL_CLOSE, 7)]
    dialogue.say(messages.about_channel(messages.CHANNEL_CLOSE, 0))
    assert dialogue.connection.channels == {}
    assert dialogue.connection._table._opens == {}


async def test_a_channel_given_up_and_then_refused_leaves_nothing() -> None:
    dialogue = Dialogue()
    with trio.move_on_after(0):
        await dialogue.connection.open_channel(b"host:80")
    dialogue.heard()
    dialogue.say(REFUSE)
    assert dialogue.heard() == []
    assert dialogue.connection._table._opens == {}


async def test_a_number_given_up_is_not_used_again_before_the_answer() -> None:
    dialogue = Dialogue()
    with trio.move_on_after(0):
        await dialogue.connection.open_channel(b"host:80")
    dialogue.connection._table._next_number = 0
    assert dialogue.accept(number=9).number == 1


@pytest.mark.parametrize("answer", [CONFIRM, REFUSE], ids=["confirmation", "failure"])
async def test_an_answer_in_the_very_moment_of_giving_up_is_not_forgotten(answer: bytes) -> None:
    dialogue = Dialogue()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialogue.connection.open_channel, b"host:80")
            await trio.testing.wait_all_tasks_blocked()
            dialogue.heard()
            scope.cancel()
            dialogue.say(answer)
    assert scope.cancelled_caught
    closed = [messages.about_channel(messages.CHANNEL_CLOSE, 7)]
    assert dialogue.heard() == (closed if answer is CONFIRM else [])


# ---- the peer's


def test_the_handler_sees_what_the_peer_asks_for() -> None:
    dialogue = Dialogue()
    dialogue.say(messages.channel_open(b"cotun", 9, 2**32 - 1, 1, b"\0raw\xff"))
    (opening,) = dialogue.handler.openings
    assert opening.kind == b"cotun"
    assert opening.extra == b"\0raw\xff"
    assert (opening.peer_number, opening.window, opening.max_packet) == (9, 2**32 - 1, 1)
    assert dialogue.heard() == []


def test_an_opening_outlives_the_batch_in_which_it_came() -> None:
    dialogue = Dialogue()
    dialogue.say(OPEN)
    for _ in range(20):
        dialogue.say(b"\x02" + b"\xff" * 10_000)
    (opening,) = dialogue.handler.openings
    assert (opening.kind, opening.extra) == (b"chisel", b"host:80")


def test_confirming_says_our_number_window_and_packet_size() -> None:
    dialogue = Dialogue()
    dialogue.say(OPEN)
    channel = dialogue.handler.openings[0].confirm()
    assert dialogue.heard() == [messages.open_confirmation(7, 0, WINDOW, MAX_PACKET)]
    assert dialogue.connection.channels == {0: channel}
    assert send(channel, bytes(2000)) == 1000
    assert [len(payload) - 9 for payload in dialogue.heard()] == [100] * 10


def test_refusing_says_the_code_and_the_reason() -> None:
    dialogue = Dialogue()
    dialogue.say(OPEN)
    dialogue.handler.openings[0].refuse(messages.OPEN_PROHIBITED, "not yours")
    assert dialogue.heard() == [messages.open_failure(7, 1, "not yours")]
    assert dialogue.connection.channels == {}


def test_a_peers_opening_with_a_maximum_packet_size_of_0_is_refused() -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError, match="packet size of 0"):
        dialogue.say(messages.channel_open(b"chisel", 7, 1000, 0, b""))
    assert dialogue.handler.openings == []


def test_a_peers_opening_is_bounded_as_thousands_of_them_may_wait_for_their_answer() -> None:
    dialogue = Dialogue()
    dialogue.say(OPEN + bytes(MAX_OPEN - len(OPEN)))
    assert len(dialogue.handler.openings) == 1
    with pytest.raises(ProtocolError, match=f"over {MAX_OPEN} bytes"):
        dialogue.say(OPEN + bytes(MAX_OPEN + 1 - len(OPEN)))
    assert len(dialogue.handler.openings) == 1


def test_a_peers_opening_cut_short_anywhere_is_refused() -> None:
    for size in range(1, len(OPEN) - len(b"host:80")):
        dialogue = Dialogue()
        with pytest.raises(ProtocolError, match="cut short"):
            dialogue.say(OPEN[:size])
        assert dialogue.handler.openings == []


async def test_each_side_counts_its_own_numbers() -> None:
    pair = ConnectionPair()
    for i in range(5):
        asked, given = await pair.open("client" if i % 2 else "server", b"x")
        assert asked.peer_number == given.number
        assert given.peer_number == asked.number
    assert len(pair.client.channels) == len(pair.server.channels) == 5


async def test_channel_numbers_wrap_past_those_in_use() -> None:
    pair = ConnectionPair()
    await pair.open()
    pair.client._table._next_number = 2**32 - 1
    numbers = [(await pair.open())[0].number for _ in range(3)]
    assert numbers == [2**32 - 1, 1, 2]
    pair.client._table._next_number = 2**32 - 1
    assert (await pair.open())[0].number == 3


# ---- limits


async def test_openings_beyond_the_limit_are_refused_on_both_sides() -> None:
    dialogue = Dialogue(max_channels=4)
    first = dialogue.accept(number=1)  # an open channel
    dialogue.say(OPEN)  # one that the handler is thinking about
    with trio.move_on_after(0):
        await dialogue.connection.open_channel(b"ours")  # one that the peer is thinking about
    dialogue.accept(number=2)
    dialogue.heard()
    assert len(dialogue.handler.openings) == 1
    # All four are taken.
    dialogue.say(OPEN, OPEN)
    refused = messages.open_failure(7, messages.OPEN_RESOURCE_SHORTAGE, "too many channels")
    assert dialogue.heard() == [refused, refused]
    assert len(dialogue.handler.openings) == 1
    with pytest.raises(OpenRefused) as caught:
        await dialogue.connection.open_channel(b"ours")
    assert caught.value.code == messages.OPEN_RESOURCE_SHORTAGE
    assert dialogue.heard() == []
    # One that we have closed still counts until the peer has closed it too.
    first.close()
    dialogue.say(OPEN)
    assert dialogue.heard()[-1] == refused
    dialogue.say(messages.about_channel(messages.CHANNEL_CLOSE, first.number))
    dialogue.say(OPEN)
    assert len(dialogue.handler.openings) == 2
    # And refusing makes room.
    dialogue.handler.openings.pop().refuse(1, "no")
    dialogue.say(OPEN)
    assert len(dialogue.handler.openings) == 2


@pytest.mark.slow
def test_thousands_of_refused_openings_of_the_peers_leave_nothing() -> None:
    dialogue = Dialogue()

    def refuse(count: int) -> None:
        for _ in range(count // 100):
            dialogue.say(*[OPEN] * 100)
            while dialogue.handler.openings:
                dialogue.handler.openings.pop().refuse(1, "no")
            assert len(dialogue.heard()) == 100

    refuse(1000)
    gc.collect()
    before = len(gc.get_objects())
    refuse(10_000)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert dialogue.connection._table._incoming == 0
    assert dialogue.connection.channels == dialogue.connection._table._opens == {}


@pytest.mark.slow
async def test_thousands_of_our_openings_refused_leave_nothing() -> None:
    dialogue = Dialogue()

    async def be_refused(count: int) -> None:
        for number in range(dialogue.connection._table._next_number, count):
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(OpenRefused):
                        await dialogue.connection.open_channel(b"target")

                nursery.start_soon(ask)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                assert len(dialogue.heard()) == 1
                dialogue.say(messages.open_failure(number, 1, "no"))

    await be_refused(200)
    gc.collect()
    before = len(gc.get_objects())
    await be_refused(3000)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert dialogue.connection.channels == dialogue.connection._table._opens == {}


async def test_thousands_of_channels_opened_and_closed_leave_nothing() -> None:
    pair = ConnectionPair()
    for i in range(300):
        asked, given = await pair.open()
        send(asked, b"data")
        (asked if i % 2 else given).close()
        pair.pump()
    for connection in (pair.client, pair.server):
        assert connection.channels == connection._table._opens == {}
        assert connection._table._incoming == 0
        assert connection._table._touched == []


# ---- after the end


async def test_after_the_connection_is_lost_nothing_opens() -> None:
    dialogue = Dialogue()
    dialogue.say(OPEN)
    failure = ConnectionLost("cut")
    dialogue.connection.on_lost(failure)
    with pytest.raises(ConnectionLost) as caught:
        await dialogue.connection.open_channel(b"target")
    assert caught.value is failure
    channel = dialogue.handler.openings[0].confirm()
    assert channel.lost
    assert not channel.sendable
    assert dialogue.connection.channels == {}
    dialogue.handler.openings[0].refuse(1, "too late")
    assert dialogue.heard() == []


async def test_an_opening_under_way_fails_with_the_connection() -> None:
    dialogue = Dialogue()
    failure = ConnectionLost("cut")

    async def lose() -> None:
        dialogue.connection.on_lost(failure)

    assert await while_opening(dialogue, lose) == [failure]
