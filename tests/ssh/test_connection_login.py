"""From the first byte to the login, as a session sees it; and who is woken when it all ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.errors import AuthenticationFailed, ConnectionLost, ProtocolError
from cotun_trio.ssh import messages
from tests.support.ssh import CLIENT_VERSION, PASSWORD, USER, host_key, login_request
from tests.support.ssh_connection import ConnectionPair, Dialogue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PING = messages.global_request(b"ping", b"", want_reply=True)
OPEN = messages.channel_open(b"chisel", 7, 1000, 100, b"host:80")
FAILURE = b"\x33" + messages.string(b"password") + b"\0"
SUCCESS = b"\x34"


def server_with_puppet() -> Dialogue:
    """Return a server that has agreed on keys, and a client that says what it is told to."""
    dialogue = Dialogue("server", log_in=False)
    peer: Any = dialogue.peer
    peer._on_login = lambda _kind, _reader: ()
    peer.authenticated = True
    return dialogue


# ---- both sides together


async def test_a_client_gets_from_the_first_byte_to_the_login() -> None:
    pair = ConnectionPair(log_in=False)
    steps = []

    async def client() -> None:
        assert await pair.client.agree_keys() == host_key().asbytes()
        steps.append("keys")
        await pair.client.log_in("alice", "secret")
        steps.append("in")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        assert steps == []
        pair.pump()
        await trio.testing.wait_all_tasks_blocked()
        assert steps == ["keys"]
        pair.pump()
        assert pair.handlers["server"].logins == [("alice", "secret")]
        assert not pair.server.logged_in.is_set()
        pair.server.answer_login(accepted=True)
        assert pair.server.logged_in.is_set()
        assert not pair.client.logged_in.is_set()
        pair.pump()
    assert steps == ["keys", "in"]
    assert pair.client.sender.can_send
    assert pair.server.sender.can_send


async def test_a_client_that_is_refused_learns_it_as_what_it_is() -> None:
    pair = ConnectionPair(log_in=False)
    pair.pump()

    async def client() -> None:
        with pytest.raises(AuthenticationFailed):
            await pair.client.log_in("alice", "wrong")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        pair.pump()
        pair.server.answer_login(accepted=False)
        with pytest.raises(AuthenticationFailed):
            pair.pump()
    assert not pair.client.sender.can_send


async def test_starting_sends_the_version_line_and_the_offer_of_keys_in_one_piece() -> None:
    pair = ConnectionPair(log_in=False)
    for carrier in pair.carriers.values():
        assert len(carrier.sizes) == 1
    assert bytes(pair.carriers["client"].kernel).startswith(CLIENT_VERSION.encode() + b"\r\n")


# ---- the server's hold


def test_what_comes_while_a_login_is_judged_waits_for_the_verdict() -> None:
    dialogue = server_with_puppet()
    dialogue.say(login_request(b"alice", b"secret"), PING, OPEN)
    assert dialogue.handler.logins == [("alice", "secret")]
    assert dialogue.connection.paused
    dialogue.say(PING)
    assert dialogue.handler.requests == []
    assert dialogue.heard() == []
    dialogue.connection.answer_login(accepted=True)
    assert not dialogue.connection.paused
    assert len(dialogue.handler.requests) == 2
    assert len(dialogue.handler.openings) == 1
    assert dialogue.heard() == [SUCCESS]


def test_answers_to_what_waited_leave_with_the_verdict() -> None:
    dialogue = server_with_puppet()
    dialogue.handler.request_received = lambda request: request.reply(b"pong", success=True)  # type: ignore[method-assign]
    dialogue.say(login_request(), PING)
    dialogue.connection.answer_login(accepted=True)
    assert dialogue.heard() == [SUCCESS, b"\x51pong"]
    assert len(dialogue.carrier.sizes) == 1


def test_nothing_that_waited_is_done_after_a_refusal() -> None:
    dialogue = server_with_puppet()
    dialogue.say(login_request(), OPEN)
    with pytest.raises(ProtocolError, match="before the login"):
        dialogue.connection.answer_login(accepted=False)
    assert dialogue.handler.openings == []
    assert dialogue.heard()[0] == FAILURE


def test_the_last_wrong_password_ends_the_connection_with_a_word() -> None:
    dialogue = server_with_puppet()
    for _ in range(2):
        dialogue.say(login_request())
        dialogue.connection.answer_login(accepted=False)
        assert not dialogue.connection.paused
        assert dialogue.heard() == [FAILURE]
    dialogue.say(login_request())
    with pytest.raises(AuthenticationFailed):
        dialogue.connection.answer_login(accepted=False)
    assert dialogue.heard() == [FAILURE, messages.disconnect(14, "3 wrong passwords")]
    assert not dialogue.connection.logged_in.is_set()


def test_a_verdict_that_comes_after_the_end_changes_nothing() -> None:
    dialogue = server_with_puppet()
    dialogue.say(login_request(), PING)
    dialogue.connection.on_lost(ConnectionLost("cut"))
    dialogue.connection.answer_login(accepted=True)
    assert dialogue.handler.requests == []
    assert not dialogue.connection.engine.authenticated
    assert dialogue.carrier.kernel == b""


@pytest.mark.parametrize("together", [True, False])
async def test_the_carrier_reads_on_after_every_verdict(together: bool) -> None:
    # Tries that a client sends without waiting hold the connection again within a verdict.
    dialogue = server_with_puppet()
    steps = []

    async def carrier() -> None:
        await dialogue.connection.wait_resumed()
        steps.append("resumed")

    tries = [login_request(b"user", b"guess %d" % i) for i in range(2)]
    dialogue.say(*tries if together else tries[:1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carrier)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.connection.answer_login(accepted=False)
        await trio.testing.wait_all_tasks_blocked()
        if together:
            assert dialogue.connection.paused
            assert steps == []
            dialogue.connection.answer_login(accepted=True)
            await trio.testing.wait_all_tasks_blocked()
        assert steps == ["resumed"]
    await dialogue.connection.wait_resumed()


async def test_a_carrier_that_need_not_pause_goes_through_no_checkpoint() -> None:
    dialogue = Dialogue()
    assert not dialogue.connection.paused
    with trio.testing.assert_no_checkpoints():
        await dialogue.connection.wait_resumed()


# ---- the end


WAITS: dict[str, Callable[[Dialogue], Awaitable[object]]] = {
    "open": lambda dialogue: dialogue.connection.open_channel(b"target"),
    "request": lambda dialogue: dialogue.connection.request("ping"),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_whoever_waits_is_woken_by_the_end_with_its_reason(wait: str) -> None:
    dialogue = Dialogue()
    failure = ConnectionLost("cut")
    raised = []

    async def waiter() -> None:
        with pytest.raises(ConnectionLost) as caught:
            await WAITS[wait](dialogue)
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waiter)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.connection.on_lost(failure)
        dialogue.connection.on_lost(ConnectionLost("a later reason"))
    assert raised == [failure] * 3
    assert dialogue.connection.failure is failure


@pytest.mark.parametrize("stage", ["keys", "login"])
async def test_a_client_on_its_way_in_is_woken_by_the_end_with_its_reason(stage: str) -> None:
    pair = ConnectionPair(log_in=False)
    if stage == "login":
        pair.pump()
    failure = ProtocolError("bad")

    async def waiter() -> None:
        with pytest.raises(ProtocolError) as caught:
            await (pair.client.agree_keys() if stage == "keys" else pair.client.log_in("a", "b"))
        assert caught.value is failure

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        await trio.testing.wait_all_tasks_blocked()
        pair.client.on_lost(failure)
    with pytest.raises(ProtocolError):
        await (pair.client.agree_keys() if stage == "keys" else pair.client.log_in("a", "b"))


async def test_everything_at_once_is_woken_by_the_end() -> None:
    pair = ConnectionPair()
    asked, given = await pair.open()
    await pair.open()
    pair.carriers["client"].clogged = True

    async def expect(wait: Awaitable[object], error: type[Exception]) -> None:
        with pytest.raises(error):
            await wait

    async with trio.open_nursery() as nursery:
        for i in range(4):
            nursery.start_soon(expect, asked.wait_sendable(), trio.BrokenResourceError)
            nursery.start_soon(
                expect, pair.client.sender.wait_can_send(urgent=False), trio.BrokenResourceError
            )
            nursery.start_soon(expect, pair.client.request(f"{i}"), ConnectionLost)
            nursery.start_soon(expect, pair.client.open_channel(b"x"), ConnectionLost)
        await trio.testing.wait_all_tasks_blocked()
        pair.lose(ConnectionLost("cut"))
    assert asked.lost
    assert given.lost
    assert pair.client.channels == {}
    assert not asked.sendable


def test_nothing_is_said_after_the_end() -> None:
    dialogue = Dialogue()
    channel = dialogue.accept()
    dialogue.say(PING, OPEN)
    dialogue.heard()
    dialogue.connection.on_lost(ConnectionLost("cut"))
    channel.close()
    channel.send_eof()
    dialogue.handler.requests[0].reply(success=True)
    dialogue.handler.openings[0].refuse(1, "no")
    dialogue.connection.sender.send_control(PING)
    dialogue.connection.disconnect(11, "bye")
    assert dialogue.carrier.kernel == b""
    assert not dialogue.connection.sender.can_send


def test_the_login_is_the_engines() -> None:
    pair = ConnectionPair()
    assert pair.server.engine.user == USER
    assert pair.handlers["server"].logins == [(USER, PASSWORD)]
