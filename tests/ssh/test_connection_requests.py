"""Global requests and their answers, channel requests, and messages that nobody knows."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.global_requests import MAX_UNANSWERED
from tests.support.ssh import channel_data
from tests.support.ssh_connection import ConnectionPair, Dialogue, RecordingSink

PING = messages.global_request(b"ping", b"", want_reply=True)
SUCCESS, FAILURE = b"\x51", b"\x52"


def channel_request(*, want_reply: bool, extra: bytes = b"") -> bytes:
    head = messages.about_channel(messages.CHANNEL_REQUEST, 0)
    return head + messages.string(b"pty-req") + bytes((want_reply,)) + extra


# ---- ours


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (SUCCESS, (True, b"")),
        (SUCCESS + b"pong", (True, b"pong")),
        (FAILURE + b"\0\xffraw", (False, b"\0\xffraw")),
    ],
)
async def test_a_request_gets_its_answer_with_the_raw_payload(
    answer: bytes, result: tuple[bool, bytes]
) -> None:
    dialogue = Dialogue()
    results: list[tuple[bool, bytes]] = []

    async def ask() -> None:
        results.append(await dialogue.connection.request("config", b'{"a":1}'))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        asked = messages.global_request(b"config", b'{"a":1}', want_reply=True)
        assert dialogue.heard() == [asked]
        dialogue.say(answer)
    assert results == [result]


@pytest.mark.parametrize("answer", [SUCCESS, FAILURE])
async def test_what_is_granted_is_told_before_what_comes_behind_it(answer: bytes) -> None:
    dialogue = Dialogue()
    told: list[tuple[bytes, int]] = []

    def granted(payload: bytes) -> None:
        told.append((payload, len(dialogue.handler.openings)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialogue.connection.request, "config", b"", granted)
        await trio.testing.wait_all_tasks_blocked()
        opening = messages.channel_open(b"chisel", 7, 2**21, 2**15, b"target")
        dialogue.say(answer + b"yes", opening)
        assert told == ([(b"yes", 0)] if answer == SUCCESS else [])
        assert len(dialogue.handler.openings) == 1


async def test_answers_belong_to_requests_in_order() -> None:
    dialogue = Dialogue()
    results: dict[str, bytes] = {}

    async def ask(kind: str) -> None:
        results[kind] = (await dialogue.connection.request(kind))[1]

    async with trio.open_nursery() as nursery:
        for kind in ("a", "b", "c"):
            nursery.start_soon(ask, kind)
        await trio.testing.wait_all_tasks_blocked()
        order = [payload[5:6].decode() for payload in dialogue.heard()]
        dialogue.say(SUCCESS + b"1", FAILURE + b"2")
        dialogue.say(SUCCESS + b"3")
    assert [results[kind] for kind in order] == [b"1", b"2", b"3"]


async def test_the_answer_to_a_cancelled_request_is_not_taken_for_the_next_ones() -> None:
    dialogue = Dialogue()
    with trio.move_on_after(0):
        await dialogue.connection.request("first")
    results = []

    async def ask() -> None:
        results.append(await dialogue.connection.request("second"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.say(SUCCESS + b"to the first")
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
        dialogue.say(FAILURE + b"to the second")
    assert results == [(False, b"to the second")]


@pytest.mark.parametrize("answer", [SUCCESS, FAILURE])
async def test_an_answer_that_nobody_waits_for_is_refused(answer: bytes) -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError, match="nobody made"):
        dialogue.say(answer)
    dialogue = Dialogue()
    with trio.move_on_after(0):
        await dialogue.connection.request("ping")
    dialogue.say(answer)
    with pytest.raises(ProtocolError, match="nobody made"):
        dialogue.say(answer)


async def test_requests_fail_with_the_connection() -> None:
    dialogue = Dialogue()
    failure = ConnectionLost("cut")
    caught = []

    async def ask() -> None:
        with pytest.raises(ConnectionLost) as error:
            await dialogue.connection.request("ping")
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        dialogue.connection.on_lost(failure)
    await ask()
    assert caught == [failure, failure]


# ---- the peer's


def test_the_handler_sees_a_request_that_wants_an_answer() -> None:
    dialogue = Dialogue()
    dialogue.say(messages.global_request(b"config", b'{"Version":"1"}\0\xff', want_reply=True))
    (request,) = dialogue.handler.requests
    assert (request.kind, request.payload) == ("config", b'{"Version":"1"}\0\xff')
    assert dialogue.heard() == []


def test_a_request_that_wants_no_answer_is_passed_over() -> None:
    dialogue = Dialogue()
    dialogue.say(messages.global_request(b"keepalive@openssh.com", b"x", want_reply=False))
    assert dialogue.handler.requests == []
    assert dialogue.heard() == []


def test_an_answer_has_a_raw_payload() -> None:
    dialogue = Dialogue()
    dialogue.say(PING, PING, PING)
    for request, (payload, success) in zip(
        dialogue.handler.requests, [(b"pong", True), (b"", True), (b"why", False)], strict=True
    ):
        request.reply(payload, success=success)
    assert dialogue.heard() == [SUCCESS + b"pong", SUCCESS, FAILURE + b"why"]


def test_answers_leave_in_the_order_of_the_requests_however_they_were_given() -> None:
    # RFC 4254 section 4
    dialogue = Dialogue()
    dialogue.say(*[PING] * 5)
    requests = dialogue.handler.requests
    for i in (3, 1):
        requests[i].reply(b"%d" % i, success=True)
    assert dialogue.heard() == []
    requests[0].reply(b"0", success=False)
    assert dialogue.heard() == [FAILURE + b"0", SUCCESS + b"1"]
    requests[4].reply(b"4", success=True)
    requests[2].reply(b"2", success=True)
    assert dialogue.heard() == [SUCCESS + b"%d" % i for i in (2, 3, 4)]


def test_requests_without_an_answer_are_bounded() -> None:
    dialogue = Dialogue()
    dialogue.say(*[PING] * MAX_UNANSWERED)
    dialogue.handler.requests[0].reply(success=True)
    dialogue.say(PING)
    assert len(dialogue.handler.requests) == MAX_UNANSWERED + 1
    with pytest.raises(ProtocolError, match="without an answer"):
        dialogue.say(PING)
    assert len(dialogue.handler.requests) == MAX_UNANSWERED + 1


def test_a_request_answered_while_it_is_received_never_counts_as_waiting() -> None:
    dialogue = Dialogue()
    dialogue.handler.request_received = lambda request: request.reply(b"pong", success=True)  # type: ignore[method-assign]
    dialogue.say(*[PING] * (2 * MAX_UNANSWERED))
    assert dialogue.heard() == [SUCCESS + b"pong"] * (2 * MAX_UNANSWERED)


def test_answers_of_one_batch_leave_in_one_piece() -> None:
    dialogue = Dialogue()
    dialogue.handler.request_received = lambda request: request.reply(success=True)  # type: ignore[method-assign]
    dialogue.say(*[PING] * 10)
    assert len(dialogue.carrier.sizes) == 1


def test_an_answer_after_the_end_goes_nowhere() -> None:
    dialogue = Dialogue()
    dialogue.say(PING)
    dialogue.connection.on_lost(ConnectionLost("cut"))
    dialogue.handler.requests[0].reply(success=True)
    assert dialogue.carrier.sent == 0


def test_a_request_cut_short_anywhere_is_refused() -> None:
    for size in range(1, len(PING)):
        with pytest.raises(ProtocolError, match="cut short"):
            Dialogue().say(PING[:size])


def test_a_request_whose_name_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        Dialogue().say(messages.global_request(b"\xff", b"", want_reply=True))


# ---- of a channel


def test_a_channel_request_is_refused_where_an_answer_is_wanted() -> None:
    dialogue = Dialogue()
    dialogue.accept(number=7)
    dialogue.say(channel_request(want_reply=True, extra=b"junk"), channel_request(want_reply=False))
    assert dialogue.heard() == [messages.about_channel(messages.CHANNEL_FAILURE, 7)]


def test_a_channel_request_cut_short_anywhere_is_refused() -> None:
    whole = channel_request(want_reply=True)
    for size in range(1, len(whole)):
        dialogue = Dialogue()
        dialogue.accept()
        with pytest.raises(ProtocolError, match="cut short"):
            dialogue.say(whole[:size])


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(channel_data(0, b"data"), id="data"),
        pytest.param(b"\x5f" + bytes(8) + messages.string(b"data"), id="extended-data"),
        pytest.param(messages.window_adjust(0, 5), id="window-adjust"),
        pytest.param(messages.about_channel(messages.CHANNEL_EOF, 0), id="eof"),
        pytest.param(messages.about_channel(messages.CHANNEL_CLOSE, 0), id="close"),
    ],
)
def test_a_channel_message_cut_short_anywhere_or_too_long_is_refused(whole: bytes) -> None:
    for payload in [*[whole[:size] for size in range(1, len(whole))], whole + b"\0"]:
        dialogue = Dialogue()
        dialogue.accept().attach(sink := RecordingSink())
        with pytest.raises(ProtocolError):
            dialogue.say(payload)
        assert sink.data == b""
        assert sink.told == []


# ---- others


@pytest.mark.parametrize("kind", [83, 89, 99, 100, 101, 127, 128, 192, 255])
def test_unknown_messages_are_answered_with_their_number_and_the_session_goes_on(kind: int) -> None:
    dialogue = Dialogue()
    dialogue.say(PING, bytes((kind,)) + b"x", PING)
    # The server's answers to the login were its packets 0 and 1.
    assert dialogue.heard() == [b"\x03\0\0\0\x03"]
    assert len(dialogue.handler.requests) == 2


def test_a_broken_rule_is_named_to_the_peer_before_the_end() -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError):
        dialogue.say(SUCCESS)
    assert dialogue.heard() == [
        messages.disconnect(2, "an answer to a request that nobody made"),
    ]


def test_disconnecting_says_why_until_the_connection_is_lost() -> None:
    dialogue = Dialogue()
    dialogue.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
    assert dialogue.heard() == [messages.disconnect(11, "closing")]
    dialogue.connection.on_lost(ConnectionLost("closed"))
    dialogue.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
    assert dialogue.carrier.kernel == b""


def test_a_disconnect_is_said_once() -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError):
        dialogue.say(SUCCESS)
    said = dialogue.carrier.sent
    dialogue.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, "closing")
    assert dialogue.carrier.sent == said > 0


def test_what_came_before_a_disconnect_in_the_same_read_is_delivered() -> None:
    dialogue = Dialogue()
    dialogue.accept().attach(sink := RecordingSink())
    with pytest.raises(ConnectionLost, match="bye"):
        dialogue.say(
            channel_data(0, b"last words"),
            messages.about_channel(messages.CHANNEL_EOF, 0),
            messages.disconnect(11, "bye"),
            channel_data(0, b"too late"),
        )
    assert sink.data == b"last words"
    assert sink.told == ["end"]


async def test_requests_pass_both_ways_at_once() -> None:
    pair = ConnectionPair()
    for handler in pair.handlers.values():
        handler.request_received = lambda request: request.reply(  # type: ignore[method-assign]
            request.kind.encode(), success=True
        )
    results = []

    async def ask(side: str, kind: str) -> None:
        results.append((kind, await pair.connections[side].request(kind)))  # type: ignore[index]

    async with trio.open_nursery() as nursery:
        for i in range(10):
            nursery.start_soon(ask, "client" if i % 2 else "server", f"kind {i}")
        await trio.testing.wait_all_tasks_blocked()
        pair.pump(size=13)
    assert all(answer == (True, kind.encode()) for kind, answer in results)
    assert len(results) == 10
