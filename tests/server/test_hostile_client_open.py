"""Clients that stall, and clients that have logged in and then break the rules.

As in `test_hostile_client`, somebody else's tunnel runs through the server meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import json
import random
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.forwards import streams
from cotun_trio.logs import limits
from cotun_trio.ssh import connection, messages
from cotun_trio.ssh.messages import (
    about_channel,
    channel_open,
    global_request,
    open_confirmation,
    open_failure,
    string,
    window_adjust,
)
from tests.support.bystander import bystander
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.peer import MAX_PACKET, WINDOW, Gone, Peer, peer_of, upgrade_request
from tests.support.targets import connect, echo, echoes, listening
from tests.support.tunnel import echo_tunnel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NOT_OPEN = "closed before it was open: "
TOO_LONG = NOT_OPEN + "the login took too long"


# ---- stalls


async def drip(peer: Peer, send: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
    """Send a byte each second, for as long as anybody listens."""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for at in range(len(data)):
                await send(data[at : at + 1])
                await trio.sleep(1)

        nursery.start_soon(write)
        await peer.gone()
        nursery.cancel_scope.cancel()


async def nothing(peer: Peer) -> None:
    await peer.gone()


async def half_a_head(peer: Peer) -> None:
    await peer.send_raw(upgrade_request()[:40])
    await peer.gone()


async def slow_head(peer: Peer) -> None:
    await drip(peer, peer.send_raw, b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 20)


async def half_a_frame(peer: Peer) -> None:
    await peer.send_raw(b"\x82\xfe")
    await peer.gone()


async def slow_version_line(peer: Peer) -> None:
    await drip(peer, peer.send_bytes, b"SSH-" + b"x" * 100)


async def version_line_only(peer: Peer) -> None:
    await peer.send_bytes(b"SSH-chisel-v3-client\r\n")
    await peer.gone()


async def half_a_packet(peer: Peer) -> None:
    await peer.send_bytes(b"SSH-chisel-v3-client\r\n" + struct.pack(">I", 1020) + bytes(500))
    await peer.gone()


async def slow_pings(peer: Peer) -> None:
    await drip(peer, lambda _: peer.send_raw(b"\x89\x80abcd"), bytes(100))


async def service_request_only(peer: Peer) -> None:
    await peer.send(b"\x05" + string(b"ssh-userauth"))
    await peer.gone()


async def ignored_messages(peer: Peer) -> None:
    await drip(peer, lambda _: peer.send(bytes([messages.IGNORE]) + string(b"")), bytes(100))


@pytest.mark.parametrize(
    ("stage", "stall", "seconds", "lines"),
    [
        ("connected", nothing, 10, []),  # a debug line only: whoever scans ports does this
        ("connected", half_a_head, 10, ["HTTP: a request head that does not end"]),
        ("connected", slow_head, 10, ["HTTP: a request head that does not end"]),
        ("upgraded", nothing, 30, [TOO_LONG]),
        ("upgraded", half_a_frame, 30, [TOO_LONG]),
        ("upgraded", slow_version_line, 30, [TOO_LONG]),
        ("upgraded", version_line_only, 30, [TOO_LONG]),
        ("upgraded", half_a_packet, 30, [TOO_LONG]),
        ("upgraded", slow_pings, 30, [TOO_LONG]),
        ("keyed", nothing, 30, [TOO_LONG]),
        ("keyed", service_request_only, 30, [TOO_LONG]),
        ("keyed", ignored_messages, 30, [TOO_LONG]),
        ("in", nothing, 10, [NOT_OPEN + "no config request after the login"]),
        ("in", ignored_messages, 10, [NOT_OPEN + "no config request after the login"]),
    ],
)
async def test_a_stall_before_the_config_is_cut_in_time(
    stage: str,
    stall: Callable[[Peer], Awaitable[None]],
    seconds: float,
    lines: list[str],
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with bystander(*lines) as address, peer_of(address, stage) as peer:
        since = trio.current_time()
        await stall(peer)
        assert trio.current_time() - since == pytest.approx(seconds, abs=1.1)


async def test_stalls_one_after_another_have_30_s_in_all(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with bystander(TOO_LONG) as address, await connect(address) as stream:
        peer = Peer(stream)
        since = trio.current_time()
        for step in (peer.upgrade, peer.agree_keys):
            await trio.sleep(9)
            await step()
        with contextlib.suppress(Gone):
            await trio.sleep(9)
            await peer.log_in()
            await peer.gone()
        assert trio.current_time() - since <= 30.1


async def test_a_client_that_does_not_take_its_response_is_cut_off(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with bystander() as address, await connect(address) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        since = trio.current_time()
        await Peer(stream).gone()  # the server ends its side
        await trio.sleep(20)  # but we do not end ours
        assert trio.current_time() - since < 21


# ---- the config request


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "Expecting value", id="nothing"),
        pytest.param(b"{", "Expecting property name", id="cut short"),
        pytest.param(b"\xff", "codec can't decode", id="not UTF-8"),
        pytest.param(b"[]", "not a JSON object", id="no object"),
        pytest.param(b"[" * 100_000, "JSON more than 8 deep", id="deep"),
        pytest.param(b'{"Remotes": 3}', "Remotes is of the wrong type", id="a number"),
        pytest.param(b'{"Remotes": [3]}', "remote 1: not an object", id="numbers"),
        pytest.param(b'{"Version": {}}', "Version is of the wrong type", id="version"),
        pytest.param(
            json.dumps({"Remotes": [{}] * 1025}).encode(), "more than 1024 remotes", id="many"
        ),
        pytest.param(
            json.dumps({"Remotes": [{"LocalPort": "٨٠", "RemotePort": "80"}]}).encode(),
            "is not a port",
            id="foreign digits",
        ),
        pytest.param(
            json.dumps({"Remotes": [{"RemoteHost": "a\x1b[2J", "RemotePort": "8"}]}).encode(),
            r"a\\x1b\[2J' is not a host",
            id="control characters",
        ),
    ],
)
async def test_a_config_that_makes_no_sense_is_refused_with_its_reason(
    payload: bytes, reason: str
) -> None:
    expected = NOT_OPEN + ".*" + reason
    async with bystander(expected) as address, peer_of(address, "in") as peer:
        answer = await peer.send_config(payload=payload)
        assert answer[0] == messages.REQUEST_FAILURE
        assert answer[1:].startswith(b"config request: ")
        assert b"\x1b" not in answer
        assert await peer.gone()


@pytest.mark.parametrize("remote", ["R:2222:127.0.0.1:22", "1080:socks", "1:unix:/run/x.sock"])
async def test_a_remote_that_this_server_does_not_do_is_refused(remote: str) -> None:
    expected = NOT_OPEN + ".* not enabled on server"
    async with bystander(expected) as address, peer_of(address, "in") as peer:
        answer = await peer.send_config(remote)
        assert answer[0] == messages.REQUEST_FAILURE
        assert await peer.gone()


async def test_a_config_request_that_is_cut_short_ends_its_connection() -> None:
    expected = NOT_OPEN + "SSH message 80 is cut short"
    async with bystander(expected) as address, peer_of(address, "in") as peer:
        await peer.send(bytes([messages.GLOBAL_REQUEST]) + struct.pack(">I", 2**31) + b"config")
        assert await peer.gone()


async def test_a_version_cannot_write_to_the_log_what_it_likes() -> None:
    payload = json.dumps({"Version": "1.0\x1b[2J\n%s%d" + "x" * 5000}).encode()
    async with watch_logs() as log, bystander("closed after") as address:
        async with peer_of(address, "in") as peer:
            assert await peer.send_config(payload=payload) == bytes([messages.REQUEST_SUCCESS])
        opened = await log.wait_for(r"open, client 1\.0\\x1b\[2J\\n%s%dx+, remotes: none", "server")
        assert len(opened.string) < 300


async def test_a_second_config_request_is_refused_and_changes_nothing() -> None:
    async with (
        bystander("closed after") as address,
        listening(echo) as target,
        peer_of(address, "open") as peer,
    ):
        answer = await peer.send_config()
        assert answer == b"\x52there was a config request already"
        await peer.open_channel(target)


async def test_a_channel_before_the_config_is_refused_and_one_after_it_is_not() -> None:
    lines = "refused: no channel before the config request is accepted", "closed after"
    async with (
        bystander(*lines) as address,
        listening(echo) as target,
        peer_of(address, "in") as peer,
    ):
        await peer.send(channel_open(b"chisel", 7, WINDOW, MAX_PACKET, target.encode()))
        answer = await peer.receive()
        assert answer[:9] == struct.pack(
            ">BII", messages.CHANNEL_OPEN_FAILURE, 7, messages.OPEN_PROHIBITED
        )
        assert await peer.send_config() == bytes([messages.REQUEST_SUCCESS])
        await peer.open_channel(target)


# ---- channels


def data(number: int, content: bytes) -> bytes:
    return about_channel(messages.CHANNEL_DATA, number) + string(content)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (data(99, b"x"), "a message for channel 99, which is not open"),
        (about_channel(messages.CHANNEL_CLOSE, 5), "a message for channel 5, which is not open"),
        (window_adjust(2**32 - 1, 1), "a message for channel 4294967295"),
        (b"\x5e\0\0", "a channel data message that is cut short"),
        (b"\x5e" + struct.pack(">II", 0, 5) + b"x", "a channel data message of the wrong length"),
        (b"\x5d\0", "SSH message 93 is cut short"),
        (b"\x60", "SSH message 96 is cut short"),
        (b"\x61\0\0\0", "SSH message 97 is cut short"),
        (b"\x62", "SSH message 98 is cut short"),
        (b"\x5a" + string(b"chisel"), "SSH message 90 is cut short"),
        (channel_open(b"chisel", 0, WINDOW, 0, b"x:1"), "a maximum packet size of 0"),
        (bytes([messages.REQUEST_SUCCESS]), "an answer to a request that nobody made"),
        (bytes([messages.REQUEST_FAILURE]), "an answer to a request that nobody made"),
        (open_confirmation(0, 0, 1, 1), "the opening of a channel that nobody opened"),
        (open_failure(0, 1, "no"), "the opening of a channel that nobody opened"),
        (b"\x50" + string(b"\xff") + b"\1", "SSH message 80 holds invalid UTF-8"),
    ],
)
async def test_a_message_that_breaks_the_rules_ends_its_session(
    message: bytes, reason: str
) -> None:
    expected = f"closed after .*: .*{reason}"
    async with bystander(expected) as address, peer_of(address, "open") as peer:
        await peer.send(message)
        assert await peer.gone()


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ([data(0, bytes(MAX_PACKET))] * 500, "channel data beyond the window"),
        ([about_channel(messages.CHANNEL_EOF, 0), data(0, b"x")], "channel data after EOF"),
        ([window_adjust(0, 2**32 - 1)], "a channel window of more than"),
        ([about_channel(messages.CHANNEL_CLOSE, 0)] * 2, ".*channel 0, which is not open"),
    ],
)
async def test_misuse_of_an_open_channel_ends_its_session_and_its_connection(
    after: list[bytes], reason: str
) -> None:
    async def lazy(stream: trio.SocketStream) -> None:
        await trio.lowlevel.wait_readable(stream.socket)  # that is to say, until it is reset

    async with (
        listening(lazy) as target,
        bystander(f"closed after .*: {reason}") as address,
        peer_of(address, "open") as peer,
    ):
        number = await peer.open_channel(target)
        assert number == 0
        await peer.send(*after)
        assert await peer.gone()


async def test_what_is_unknown_is_answered_so_and_the_session_goes_on() -> None:
    async with (
        bystander("closed after .*: the peer closed") as address,
        listening(echo) as target,
        peer_of(address, "open") as peer,
    ):
        number = await peer.open_channel(target)
        for message, answer in [
            (bytes([101]) + b"what?", None),
            (bytes([200]), None),
            (global_request(b"tcpip-forward", b"", want_reply=True), b"\x52"),
            (global_request(b"no-more-sessions@openssh.com", b"", want_reply=False), None),
            (
                about_channel(messages.CHANNEL_REQUEST, number) + string(b"shell") + b"\1",
                about_channel(messages.CHANNEL_FAILURE, 0),
            ),
            (
                about_channel(messages.CHANNEL_EXTENDED_DATA, number) + b"\0\0\0\1" + string(b"x"),
                None,
            ),
            (bytes([messages.DEBUG]) + b"\1" + string(b"\x1b[2J") + string(b""), None),
            (bytes([messages.UNIMPLEMENTED]) + bytes(4), None),
            (data(number, b"still here"), data(0, b"still here")),
        ]:
            await peer.send(message)
            if answer is not None:
                assert await peer.receive() == answer


async def test_1000_refused_opens_are_answered_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LINES", 2000)  # tests/logs/test_limits.py has the log's rate
    counts: list[int] = []
    refusal = "refused a channel: .*"
    async with (
        bystander(*[refusal] * 1000, "closed after") as address,
        peer_of(address, "open") as peer,
    ):
        gc.collect()  # what other tests have left
        ours = [c for c in gc.get_objects() if isinstance(c, connection.Connection)]
        for start in range(0, 1000, 100):
            opens = [channel_open(b"chisel", start + n, 1, 1, b"nonsense") for n in range(100)]
            await peer.send(*opens)
            for _ in opens:
                assert (await peer.receive())[0] == messages.CHANNEL_OPEN_FAILURE
            counts.append(
                sum(len(c.channels) + len(c._table._opens) + c._table._incoming for c in ours)
            )
    # The bystander has a channel, at both ends.
    assert counts == [2] * 10


async def test_channels_over_the_limit_are_refused_and_the_others_go_on() -> None:
    async with (
        bystander("closed after", max_session_connections=3) as address,
        listening(echo) as target,
        peer_of(address, "open") as peer,
    ):
        for number in range(5):
            await peer.send(channel_open(b"chisel", number, 9, 9, target.encode()))
        answers = sorted([(await peer.receive())[0] for _ in range(5)])
        assert (
            answers
            == [messages.CHANNEL_OPEN_CONFIRMATION] * 3 + [messages.CHANNEL_OPEN_FAILURE] * 2
        )
        await peer.send(data(0, b"x"))
        answer = await peer.receive()
        assert (answer[0], answer[5:]) == (messages.CHANNEL_DATA, string(b"x"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["keyed", "in", "open"])
async def test_no_message_of_any_type_with_any_body_is_an_internal_error(stage: str) -> None:
    chance = random.Random(7)
    async with watch_logs() as log, echo_tunnel() as both, await both.connect() as stream:
        async with nothing_left():
            for kind in range(256):
                async with peer_of(both.server.addresses[0], stage) as peer:
                    for size in (0, 4, chance.randrange(5, 200)):
                        await peer.send(bytes([kind]) + chance.randbytes(size))
        assert await echoes(stream)
        assert len(both.client.sessions) == 1
        assert [r for r in log.records if r.levelname == "ERROR"] == []
        assert log.find("peer=.*session=", "server")


async def test_an_error_of_our_own_ends_one_session_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("ours")

    lines = "closed after .*: internal error", "internal error, the connection is closed"
    async with bystander(*lines) as address, peer_of(address, "open") as peer:
        monkeypatch.setattr(streams.Incoming, "run", broken)
        await peer.send(channel_open(b"chisel", 0, 1, 1, b"127.0.0.1:1"))
        assert await peer.gone()
