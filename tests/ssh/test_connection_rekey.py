"""New keys under a connection in use: nothing is said meanwhile, and nothing is lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh import sender as sender_module
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.ssh.stream import ChannelStream
from tests.support.ssh import OTHER, channel_data, tap
from tests.support.ssh_connection import ConnectionPair, Dialogue, RecordingSink, send

if TYPE_CHECKING:
    from tests.support.ssh import Side

PING = messages.global_request(b"ping", b"", want_reply=True)
both_sides = pytest.mark.parametrize("side", ["client", "server"])


def check_silence(heard: list[bytes]) -> int:
    """Check that nothing of the connection protocol is between KEXINIT and NEWKEYS; count those."""
    exchanging = False
    exchanges = 0
    for payload in heard:
        if payload[0] == messages.KEXINIT:
            assert not exchanging
            exchanging = True
        elif payload[0] == messages.NEWKEYS:
            assert exchanging
            exchanging = False
            exchanges += 1
        else:
            assert not exchanging or payload[0] < messages.USERAUTH_REQUEST, payload[:10]
    return exchanges


def begin(dialogue: Dialogue) -> None:
    """Have the connection begin a key exchange."""
    dialogue.connection.engine.start_rekey()
    dialogue.connection.start()


def finish(dialogue: Dialogue) -> list[bytes]:
    """Let both sides say what they have to until the exchange is over; return what was heard."""
    heard = []
    for _ in range(4):
        heard += dialogue.heard()
        dialogue.say()
    return heard + dialogue.heard()


@both_sides
def test_control_messages_wait_for_the_new_keys_and_then_leave_in_order(side: Side) -> None:
    dialogue = Dialogue(side)
    channel, other = dialogue.accept(number=1), dialogue.accept(number=2)
    dialogue.say(PING, PING)
    dialogue.say(messages.channel_open(b"chisel", 3, 1, 1, b"x"))
    begin(dialogue)
    first, second = dialogue.handler.requests
    second.reply(b"2", success=True)
    channel.send_eof()
    first.reply(b"1", success=True)
    other.close()
    dialogue.handler.openings.pop().refuse(1, "no")
    assert [payload[0] for payload in dialogue.heard()] == [messages.KEXINIT]
    said = finish(dialogue)
    assert check_silence([b"\x14", *said]) == 1
    assert said[-5:] == [
        messages.about_channel(messages.CHANNEL_EOF, 1),
        b"\x511",
        b"\x512",
        messages.about_channel(messages.CHANNEL_CLOSE, 2),
        messages.open_failure(3, 1, "no"),
    ]
    # It goes on as ever.
    dialogue.say(PING)
    dialogue.handler.requests[-1].reply(b"3", success=True)
    assert dialogue.heard() == [b"\x513"]


@both_sides
def test_data_waits_for_the_new_keys(side: Side) -> None:
    dialogue = Dialogue(side)
    channel = dialogue.accept(number=1)
    begin(dialogue)
    assert not dialogue.connection.sender.can_send
    assert not channel.sendable
    assert not channel.at_once
    finish(dialogue)
    assert channel.sendable
    assert send(channel, b"data") == 4
    assert dialogue.heard() == [channel_data(1, b"data")]


@both_sides
def test_what_the_peer_sent_before_it_knew_of_the_exchange_is_taken(side: Side) -> None:
    dialogue = Dialogue(side)
    channel = dialogue.accept(number=1)
    channel.attach(sink := RecordingSink())
    begin(dialogue)
    # Answers to these wait, since we have sent KEXINIT.
    dialogue.say(channel_data(0, b"late"), PING, messages.channel_open(b"chisel", 2, 1, 1, b""))
    dialogue.handler.openings.pop().confirm()
    dialogue.handler.requests.pop().reply(b"pong", success=True)
    assert sink.data == b"late"
    said = finish(dialogue)
    assert check_silence(said) == 1
    assert [payload[0] for payload in said[-2:]] == [91, 81]


async def test_all_who_wait_to_send_are_woken_by_the_new_keys() -> None:
    dialogue = Dialogue()
    channels = [dialogue.accept(number=number) for number in range(5)]
    begin(dialogue)
    woken = []

    async def wait(index: int) -> None:
        await channels[index].wait_sendable()
        woken.append(index)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for index in range(5):
            nursery.start_soon(wait, index)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        finish(dialogue)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == list(range(5))
        nursery.cancel_scope.cancel()


async def test_waiting_to_send_is_over_when_both_the_keys_and_the_carrier_allow_it() -> None:
    dialogue = Dialogue()
    with trio.testing.assert_no_checkpoints():
        await dialogue.connection.sender.wait_can_send(urgent=False)
    begin(dialogue)
    steps = []

    async def wait() -> None:
        await dialogue.connection.sender.wait_can_send(urgent=False)
        steps.append(dialogue.connection.sender.can_send)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.carrier.clogged = True
        finish(dialogue)
        await trio.testing.wait_all_tasks_blocked()
        assert steps == []
        begin(dialogue)
        dialogue.carrier.unclog()
        await trio.testing.wait_all_tasks_blocked()
        assert steps == []
        finish(dialogue)
    assert steps == [True]


async def test_who_waits_for_new_keys_learns_that_they_never_come() -> None:
    dialogue = Dialogue()
    channel = dialogue.accept()
    begin(dialogue)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await channel.wait_sendable()
            with pytest.raises(trio.BrokenResourceError):
                await dialogue.connection.sender.wait_can_send(urgent=False)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.connection.on_lost(ConnectionLost("cut"))


def test_what_waits_for_the_new_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "MAX_HELD_BYTES", 100)
    dialogue = Dialogue()
    begin(dialogue)
    dialogue.connection.sender.send_control(b"\x50" + bytes(49))
    dialogue.connection.sender.send_control(b"\x50" + bytes(49))
    assert not dialogue.handler.failures
    dialogue.connection.sender.send_control(b"\x50")
    assert [type(failure) for failure in dialogue.handler.failures] == [ProtocolError]


def test_what_waits_for_the_new_keys_is_counted_anew_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "MAX_HELD_BYTES", 100)
    dialogue = Dialogue()
    for _ in range(5):
        begin(dialogue)
        dialogue.connection.sender.send_control(b"\xc8" + bytes(89))
        assert b"\xc8" + bytes(89) in finish(dialogue)


# ---- when they are due


@pytest.mark.parametrize("way", ["data out", "control out", "data in", "control in"])
def test_new_keys_are_asked_for_when_they_are_due(way: str) -> None:
    dialogue = Dialogue(rekey_limit=RekeyLimit(packets=100))
    channel = dialogue.accept(number=1)
    channel.attach(RecordingSink())
    heard: list[bytes] = []
    steps = 0
    while not dialogue.peer.packetizer.out:  # the answer to a KEXINIT
        steps += 1
        assert steps < 100
        if way == "data out":
            send(channel, b"x")
        elif way == "control out":
            dialogue.connection.sender.send_control(messages.window_adjust(1, 1))
        else:
            dialogue.say(channel_data(0, b"x") if way == "data in" else b"\x02")
        heard += dialogue.heard()
    assert steps >= 90  # the login and the opening took some
    assert heard[-1][0] == messages.KEXINIT
    heard += finish(dialogue)
    assert check_silence(heard) == 1
    assert dialogue.connection.sender.can_send


@pytest.mark.parametrize("limited", [("client",), ("server",), ("client", "server")])
@pytest.mark.parametrize("size", [2**18, 1000])
async def test_data_under_way_both_ways_survives_any_number_of_new_keys(
    limited: tuple[Side, ...], size: int
) -> None:
    pair = ConnectionPair()
    for side in limited:
        pair.connections[side]._packetizer._rekey_limit = RekeyLimit(bytes=64 * 1024)
    heard: dict[Side, list[bytes]] = {
        side: tap(pair.connections[OTHER[side]].engine) for side in ("client", "server")
    }
    asked, given = await pair.open()
    data = {end: random.Random(i).randbytes(1_000_000) for i, end in enumerate((asked, given))}
    received: dict[object, bytes] = {}

    async def pour(stream: ChannelStream, data: bytes) -> None:
        for at in range(0, len(data), 20_000):
            await stream.send_all(data[at : at + 20_000])
        await stream.send_eof()

    async def drain(stream: ChannelStream, source: object) -> None:
        received[source] = b"".join([chunk async for chunk in stream])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.pump_forever, size)
        async with trio.open_nursery() as work:
            for end, other in ((asked, given), (given, asked)):
                stream = ChannelStream(end)
                work.start_soon(pour, stream, data[end])
                work.start_soon(drain, stream, other)
        nursery.cancel_scope.cancel()
    assert received == data
    for payloads in heard.values():
        assert check_silence(payloads) >= 12


def test_new_keys_do_not_depend_on_anybody_sending_data() -> None:
    pair = ConnectionPair()
    for _ in range(3):
        for side in ("client", "server"):
            pair.connections[side].engine.start_rekey()
            pair.connections[side].start()
            pair.pump(size=17)
            assert pair.client.sender.can_send
            assert pair.server.sender.can_send
