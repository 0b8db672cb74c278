"""Hostile servers against a real client: it says what is wrong, sends no secret, and lives on."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.client.client import Client
from cotun_trio.client.session import _refused
from cotun_trio.errors import ConfigRefused, FingerprintMismatch
from cotun_trio.net.dial import LOW_PORT
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import LoginRequested
from cotun_trio.ssh.messages import channel_open, global_request, open_confirmation, string
from tests.support.frames import BINARY, KEY, PING, TEXT, frame, xor
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.peer import MAX_PACKET, WINDOW, scripted_server, upgrade_response
from tests.support.ssh import channel_data
from tests.support.targets import LOOPBACK, connect, listening, receive_all
from tests.support.tunnel import client_settings, running_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.peer import Peer

    Script = Callable[[Peer], Awaitable[object]]


host_key = functools.cache(generate_host_key)
SECRET = Credentials("alice", "open sesame")


async def error_from(script: Script, **settings: Any) -> str:
    """Return what a client says of a server that runs `script`, before it tries again."""
    async with (
        watch_logs() as log,
        scripted_server(script, host_key()) as address,
        nothing_left(),
    ):
        async with running_client(address, protocol="chisel", auth=SECRET, **settings):
            said = await log.wait_for("^(Connection error|Disconnected): (.*)$", "client")
            await log.wait_for("^Retrying in ", "client")
        assert SECRET.password not in "".join(log.lines(level=0))
    return said[2]


# ---- HTTP


def answering(response: bytes) -> Script:
    async def script(peer: Peer) -> None:
        request = await peer.receive_head()
        accepted = upgrade_response(request).partition(b"Accept: ")[2].partition(b"\r\n")[0]
        await peer.send_raw(response.replace(b"ACCEPT", accepted))
        await peer.gone()

    return script


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200", id="200"),
        pytest.param(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "HTTP 301", id="301"),
        pytest.param(b"HTTP/1.1 502 \x1b[2J\r\n\r\n" + b"x" * 70_000, "HTTP 502", id="long body"),
        pytest.param(b"HTTP/1.1 404\r\n\r\n", "HTTP 404", id="no phrase"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "Bad HTTP", id="not HTTP"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28\n\n", "Bad HTTP", id="TLS"),
        pytest.param(b"x" * 10_000, "an HTTP response head of over 8192 bytes", id="endless"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 2000, "head of over 8192 bytes", id="headers"
        ),
        pytest.param(SWITCH + b"\r\n", "accept", id="no key"),
        pytest.param(SWITCH + b"Sec-WebSocket-Accept: AAAA\r\n\r\n", "accept", id="wrong key"),
        pytest.param(
            SWITCH + b"Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: other\r\n\r\n",
            "subprotocol other",
            id="another protocol",
        ),
        pytest.param(
            SWITCH
            + b"Sec-WebSocket-Accept: ACCEPT\r\n"
            + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            "extension",
            id="an extension",
        ),
    ],
)
async def test_a_response_that_is_no_upgrade_is_an_error_and_tried_again(
    response: bytes, error: str
) -> None:
    assert error in await error_from(answering(response))


async def test_an_upgrade_that_is_echoed_with_its_token_is_taken() -> None:
    response = SWITCH + b"Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: chisel-v3\r\n\r\n"
    wrong_line = frame(BINARY, b"SSH?\r\n")
    assert "not an SSH version line" in await error_from(answering(response + wrong_line))


async def test_a_server_that_closes_at_once_is_an_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()

    assert "the peer closed the connection" in await error_from(script)


async def test_an_endless_response_body_is_not_read() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.receive_head()
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:  # up to BrokenResourceError
            await peer.stream.send_all(bytes(65536))
            sent += 65536

    assert "HTTP 200" in await error_from(script)
    assert sent < 16 * 2**20  # what two kernels hold, and not what we would send


@pytest.mark.parametrize("stage", ["connected", "upgraded", "keyed", "in"])
async def test_a_server_that_stalls_is_left_within_30_seconds_in_all(
    stage: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async def script(peer: Peer) -> None:
        steps: list[Callable[[], Awaitable[object]]] = [
            peer.upgrade,
            peer.agree_keys,
            peer.let_in,
        ]
        for step in steps[: ["connected", "upgraded", "keyed", "in"].index(stage)]:
            await step()
        await trio.sleep_forever()

    since = trio.current_time()
    with trio.fail_after(60):
        await error_from_stalled(script)
    assert trio.current_time() - since <= 31


async def error_from_stalled(script: Script) -> None:
    """Wait for the first error of a client; as `error_from`, with time for it."""
    async with (
        watch_logs() as log,
        scripted_server(script, host_key()) as address,
        running_client(address, protocol="chisel", keepalive=0),
    ):
        await log.wait_for("^Connection error: ", "client", timeout=1000)


# ---- frames and SSH


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(frame(BINARY, b"SSH-", key=KEY), "a server must not", id="masked"),
        pytest.param(frame(TEXT, b"SSH-"), "a text message", id="text"),
        pytest.param(frame(BINARY, claims=2**40), "a message of over", id="huge"),
        pytest.param(frame(BINARY, b"HTTP/1.1\r\n"), "not an SSH version line", id="not SSH"),
        pytest.param(frame(BINARY, b"x" * 300), "line of over 255 bytes", id="endless"),
        pytest.param(frame(BINARY, b"SSH-\0\r\n"), r"not an SSH version line", id="NUL"),
        pytest.param(frame(BINARY, b"SSH-x\r\n" + bytes(8)), "packet length 0", id="length 0"),
        pytest.param(frame(8, b"\x03\xe8bye"), "WebSocket", id="a close frame"),
    ],
)
async def test_what_is_no_ssh_server_is_an_error_and_tried_again(data: bytes, error: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.send_raw(data)
        await peer.gone()

    assert error in await error_from(script)


@pytest.mark.parametrize("message", [b"\x34", b"\x33" + string(b"") + b"\0", b"\x06" + string(b"")])
async def test_an_answer_to_a_login_that_was_not_sent_is_an_error(message: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        # Right behind our NEWKEYS, to which the client answers with its login.
        packetizer = peer.engine.packetizer
        set_cipher = packetizer.set_outbound_cipher

        def and_answer(*args: Any, **kwargs: Any) -> None:
            set_cipher(*args, **kwargs)
            packetizer.send_payload(message)

        packetizer.set_outbound_cipher = and_answer  # type: ignore[method-assign]
        await peer.agree_keys()
        await peer.gone()

    assert f"SSH message {message[0]} before we asked" in await error_from(script)


async def test_a_wrong_host_key_is_fatal_and_no_credential_is_sent() -> None:
    arrived: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        while True:  # up to Gone
            arrived.append(await peer.next_event())

    expected = fingerprint(generate_host_key().asbytes())
    got = fingerprint(host_key().asbytes())
    async with watch_logs() as log, scripted_server(script, host_key()) as address:
        client = Client(client_settings(address, fingerprint=expected, auth=SECRET))
        with pytest.raises(FingerprintMismatch):
            await client.run()
        await trio.testing.wait_all_tasks_blocked(0.005)
    assert log.find(
        re.escape(f"Invalid fingerprint ({got}): --fingerprint is {expected}."), "client"
    )
    assert not [event for event in arrived if isinstance(event, LoginRequested)]


async def test_the_right_host_key_is_taken_and_then_the_credentials_are_sent() -> None:
    logins: list[tuple[str, str]] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        await peer.accept_config()
        logins.extend(peer.logins)
        await peer.gone()

    async with scripted_server(script, host_key()) as address:
        expected = fingerprint(host_key().asbytes())
        async with running_client(address, fingerprint=expected, auth=SECRET) as client:
            await client.opened()
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert logins == [("alice", "open sesame")]


# ---- the config request


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(b"\x52no \x1b[2J\nfor you", r"refused: no \x1b[2J\nfor you", id="failure"),
        pytest.param(b"\x51server listen error", "refused: server listen error", id="success"),
        pytest.param(b"\x52", "refused: no reason given", id="no reason"),
        pytest.param(b"\x52\xff", r"refused: \xff", id="not UTF-8"),
        pytest.param(b"\x52" + b"x" * 100_000, "refused: " + "x" * 500 + "…", id="long"),
    ],
)
async def test_a_refused_config_is_fatal_and_its_text_is_harmless(answer: bytes, text: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        await peer.receive_type(messages.GLOBAL_REQUEST)
        await peer.send(answer)
        await peer.gone()

    async with watch_logs() as log, scripted_server(script, host_key()) as address:
        with pytest.raises(ConfigRefused) as caught:
            await Client(client_settings(address)).run()
    assert str(caught.value).endswith(text)
    assert log.lines("client")[-1].endswith(text)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x52server: Server cannot listen on R:8080=>80", id="Go"),
        pytest.param(b"\x51server: Server cannot listen on R:8080=>80", id="Go, by success"),
        pytest.param(b"\x52it is held\0not now", id="ours"),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_config_that_is_refused_for_now_is_asked_for_again(
    answer: bytes, at_once: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        await peer.receive_type(messages.GLOBAL_REQUEST)
        if at_once:
            await peer.send(answer, messages.disconnect(11, "closing"))
        else:
            await peer.send(answer)
        await peer.gone()

    said = await error_from(script)
    assert said == "the server refused: " + answer[1:].partition(b"\0")[0].decode()


async def test_a_final_refusal_counts_though_a_disconnect_comes_in_the_same_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        await peer.receive_type(messages.GLOBAL_REQUEST)
        await peer.send(b"\x52no", messages.disconnect(11, "closing"))
        await peer.gone()

    for _ in range(20):  # tasks that can run at the same time run in any order
        async with scripted_server(script, host_key()) as address:
            with pytest.raises(ConfigRefused, match=r"refused: no$"):
                await Client(client_settings(address, protocol="chisel")).run()


# ---- a session


async def open_session(peer: Peer) -> None:
    """Be a good server up to the point where forwards are allowed."""
    await peer.upgrade()
    await peer.agree_keys()
    await peer.let_in()
    await peer.accept_config()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (bytes([messages.REQUEST_SUCCESS]), "an answer to a request that nobody made"),
        (open_confirmation(9, 0, 1, 1), "the opening of a channel that nobody opened"),
        (messages.about_channel(messages.CHANNEL_EOF, 3), "channel 3, which is not open"),
        (channel_open(b"x", 0, 1, 0, b"x:1"), "a maximum packet size of 0"),
        (messages.disconnect(2, "go\x1b[2J\naway"), r"the peer disconnected: go\x1b[2J\naway (2)"),
    ],
)
async def test_a_server_that_breaks_the_rules_loses_its_session(message: bytes, error: str) -> None:
    async def script(peer: Peer) -> None:
        await open_session(peer)
        await peer.send(message)
        await peer.gone()

    assert error in await error_from(script)


async def test_a_channel_that_the_server_opens_is_refused_and_the_session_goes_on() -> None:
    answers: list[bytes] = []

    async def target(stream: trio.SocketStream) -> None:
        raise AssertionError("the client connected to what the server named")

    async def script(peer: Peer) -> None:
        await open_session(peer)
        for name in (address, "socks", "127.0.0.1:1/udp", "\x1b[2J"):
            await peer.send(channel_open(b"chisel", 0, WINDOW, MAX_PACKET, name.encode()))
            answers.append(await peer.receive())
        await peer.send(global_request(b"config", b"{}", want_reply=True))
        answers.append(await peer.receive())
        await peer.send(global_request(b"ping", b"", want_reply=True))
        answers.append(await peer.receive())
        done.set()
        await peer.gone()

    done = trio.Event()
    async with (
        listening(target) as address,
        scripted_server(script, host_key()) as server,
        running_client(server),
    ):
        await done.wait()
    prohibited = bytes([messages.CHANNEL_OPEN_FAILURE, 0, 0, 0, 0, 0, 0, 0, 1])
    assert [answer[:9] for answer in answers[:4]] == [prohibited] * 4
    assert answers[4:] == [b"\x52", b"\x51pong"]


@pytest.mark.parametrize("confirmed", [(0, WINDOW, 0), (0, 0, 1)])
async def test_a_server_that_confirms_nonsense_cannot_hang_the_client(
    confirmed: tuple[int, int, int],
) -> None:
    async def script(peer: Peer) -> None:
        await open_session(peer)
        await peer.receive_type(messages.CHANNEL_OPEN)
        await peer.send(open_confirmation(0, *confirmed))
        await peer.stream.send_eof()

    async with (
        scripted_server(script, host_key()) as server,
        nothing_left(),
        running_client(server, f"{LOOPBACK}:0:{LOOPBACK}:9") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await receive_all(stream)


@pytest.mark.slow
async def test_all_pings_are_answered_and_of_the_websockets_the_last_in_a_turn() -> None:
    pongs = 0
    done = trio.Event()

    async def script(peer: Peer) -> None:
        nonlocal pongs
        await open_session(peer)
        async with trio.open_nursery() as nursery:
            ping = global_request(b"ping", b"", want_reply=True)
            nursery.start_soon(lambda: peer.send(*[ping] * 100))
            while pongs < 100:
                assert await peer.receive() == b"\x51pong"
                pongs += 1
        async with trio.open_nursery() as nursery:
            pings = frame(PING, b"x") * 10_000 + frame(PING, b"last")
            nursery.start_soon(peer.send_raw, pings)
            received = bytearray()
            while xor(received[-4:], received[-8:-4]) != b"last":  # the mask, and what it masks
                received += await peer.stream.receive_some()
            assert len(received) < 10_000
        done.set()
        await peer.gone()

    async with scripted_server(script, host_key()) as server, running_client(server) as client:
        await done.wait()
        assert len(client.sessions) == 1


async def test_a_whole_stream_reaches_a_slow_reader_though_the_session_ends_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cotun_trio.session.PARTING", 30.0)
    data = b"x" * 1_500_000  # more than a socket takes at once
    served = trio.Event()

    async def script(peer: Peer) -> None:
        await open_session(peer)
        opened = messages.Reader(memoryview(await peer.receive_type(messages.CHANNEL_OPEN)))
        opened.string()
        number = opened.u32()
        parts = [data[at : at + MAX_PACKET] for at in range(0, len(data), MAX_PACKET)]
        await peer.send(
            open_confirmation(number, 0, WINDOW, MAX_PACKET),
            *(channel_data(number, part) for part in parts),
            messages.about_channel(messages.CHANNEL_EOF, number),
            messages.about_channel(messages.CHANNEL_CLOSE, number),
            messages.disconnect(11, "closing"),
        )
        served.set()
        await peer.gone()

    async with (
        watch_logs() as log,
        scripted_server(script, host_key()) as address,
        running_client(address, f"{LOOPBACK}:0:target:1", protocol="chisel") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            await served.wait()
            await log.wait_for("^Disconnected: the peer disconnected: closing", "client")
            assert await receive_all(stream) == data


def test_a_reason_with_advice_is_shown_to_its_end() -> None:
    reason = f"Server cannot listen on 0.0.0.0:80: Permission denied: {LOW_PORT}"
    assert str(_refused(reason.encode())) == f"the server refused: {reason}"
    endless = str(_refused(b"\x1b" * 5000))
    assert endless.endswith("\\x1b…")
    assert len(endless) < 2500
