"""What arrived before the end counts: an answer in the same read as the end is an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, CotunError, OpenRefused, ProtocolError
from cotun_trio.ssh import messages
from tests.support.ssh import channel_data
from tests.support.ssh_connection import ConnectionPair, Dialogue, RecordingSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DISCONNECT = messages.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
NOT_OPEN = messages.about_channel(messages.CHANNEL_EOF, 99)
ENDS = {"a DISCONNECT": DISCONNECT, "a broken rule": NOT_OPEN}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> bytes:
    """Give the message that ends the connection."""
    return ENDS[request.param]


async def outcome(
    dialogue: Dialogue, wait: Callable[[], Awaitable[object]], *payloads: bytes
) -> object:
    """Return the result of `wait`, or its error, where the peer says `payloads` in one read."""
    results: list[object] = []

    async def ask() -> None:
        try:
            results.append(await wait())
        except CotunError as error:
            results.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises((ConnectionLost, ProtocolError)) as caught:
            dialogue.say(*payloads)
        dialogue.connection.on_lost(caught.value)  # type: ignore[arg-type]
    return results[0]


@pytest.mark.parametrize("answer", [b"\x51granted", b"\x52refused"])
async def test_the_answer_to_a_request(answer: bytes, end: bytes) -> None:
    dialogue = Dialogue()
    result = await outcome(dialogue, lambda: dialogue.connection.request("config"), answer, end)
    assert result == (answer[:1] == b"\x51", answer[1:])


async def test_of_two_requests_the_one_with_an_answer_has_it(end: bytes) -> None:
    dialogue = Dialogue()
    results: list[object] = []

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(one)

    async def one() -> None:
        try:
            results.append(await dialogue.connection.request("ping"))
        except CotunError as error:
            results.append(type(error))

    await outcome(dialogue, both, b"\x51pong", end)
    assert (True, b"pong") in results
    assert len(results) == 2
    assert {ConnectionLost, ProtocolError} & set(results)  # type: ignore[arg-type]


async def test_a_refused_channel(end: bytes) -> None:
    dialogue = Dialogue()
    refusal = messages.open_failure(0, messages.OPEN_CONNECT_FAILED, "no route")
    error = await outcome(
        dialogue, lambda: dialogue.connection.open_channel(b"target"), refusal, end
    )
    assert isinstance(error, OpenRefused)
    assert error.reason == "no route"


async def test_an_opened_channel_with_all_its_data(end: bytes) -> None:
    dialogue = Dialogue()
    channel = await outcome(
        dialogue,
        lambda: dialogue.connection.open_channel(b"target"),
        messages.open_confirmation(0, 7, 2**21, 2**15),
        channel_data(0, b"all of it"),
        messages.about_channel(messages.CHANNEL_EOF, 0),
        messages.about_channel(messages.CHANNEL_CLOSE, 0),
        end,
    )
    sink = RecordingSink()
    channel.attach(sink)  # type: ignore[attr-defined]
    assert sink.data == b"all of it"
    assert sink.told == ["end", "closed"]
    assert not channel.lost  # type: ignore[attr-defined]


async def test_an_opened_channel_whose_end_did_not_come_has_its_data_and_is_lost(
    end: bytes,
) -> None:
    dialogue = Dialogue()
    channel = await outcome(
        dialogue,
        lambda: dialogue.connection.open_channel(b"target"),
        messages.open_confirmation(0, 7, 2**21, 2**15),
        channel_data(0, b"half"),
        end,
    )
    sink = RecordingSink()
    channel.attach(sink)  # type: ignore[attr-defined]
    assert sink.data == b"half"
    assert sink.told == ["closed"]
    assert channel.lost  # type: ignore[attr-defined]


async def test_the_data_of_a_channel_that_was_open(end: bytes) -> None:
    dialogue = Dialogue()
    channel = dialogue.accept()
    sink = RecordingSink()
    channel.attach(sink)
    with pytest.raises((ConnectionLost, ProtocolError)):
        dialogue.say(channel_data(channel.number, b"last words"), end)
    assert sink.data == b"last words"


async def test_a_login() -> None:
    pair = ConnectionPair(log_in=False)
    pair.pump()
    results: list[object] = []

    async def log_in() -> None:
        results.append(await pair.client.log_in("alice", "secret"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_in)
        await trio.testing.wait_all_tasks_blocked()
        pair.move("server")
        pair.server.answer_login(accepted=True)
        pair.server.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
        with pytest.raises(ConnectionLost, match="closing"):
            pair.pump()
    assert results == [None]
    with pytest.raises(ConnectionLost, match="closing"):
        await pair.client.request("config")


async def test_the_host_key_and_then_no_credential_is_sent() -> None:
    pair = ConnectionPair(log_in=False)
    keys: list[bytes] = []

    async def agree() -> None:
        keys.append(await pair.client.agree_keys())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agree)
        await trio.testing.wait_all_tasks_blocked()
        pair.move("server")
        pair.move("client")
        pair.move("server")
        pair.server.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
        with pytest.raises(ConnectionLost, match="closing"):
            pair.pump()
    assert keys[0]
    sent = pair.carriers["client"].sent
    with pytest.raises(ConnectionLost, match="closing"):
        await pair.client.log_in("alice", "secret")
    assert pair.carriers["client"].sent == sent
