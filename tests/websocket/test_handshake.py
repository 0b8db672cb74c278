"""Becoming a WebSocket: our two ends with each other, and each with a peer written by hand."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio._version import __version__
from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError, UpgradeRefused
from cotun_trio.websocket import handshake
from cotun_trio.websocket.frames import FrameError
from tests.support.frames import BINARY, CLOSE, KEY, PING, PONG, frame, read_by_wsproto, xor
from tests.support.sockets import (
    receive,
    receive_rest,
    receive_until,
    send_all,
    tcp_pair,
    unix_pair,
    until,
)
from tests.support.wires import (
    ACCEPTED,
    REQUEST,
    Collector,
    accept_value,
    key_for,
    wire_and_peer,
    wire_on,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cotun_trio.websocket.wire import Wire
    from tests.support.wires import Pair

    Serve = Callable[[socket.socket], Awaitable[None]]

PROTOCOL = "chisel-v3"


async def connect_to(
    serve: Serve,
    *,
    host: str = "localhost",
    path: str = "/",
    headers: Sequence[tuple[str, str]] = (),
) -> CotunError | None:
    """Connect to `serve` at the other end of the wire; return the error, if it is one of ours."""
    with wire_and_peer(client=True) as (wire, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, peer)
            try:
                await handshake.connect(
                    nursery, wire, host=host, path=path, protocol=PROTOCOL, headers=headers
                )
            except CotunError as error:
                return error
            finally:
                nursery.cancel_scope.cancel()
    return None


def answering(response: bytes, *, then_close: bool = False) -> Serve:
    """Return a server that answers any request with `response`, in which %s is the accept value."""

    async def serve(sock: socket.socket) -> None:
        request = await receive_until(sock, b"\r\n\r\n")
        await send_all(sock, response.replace(b"%s", accept_value(request)))
        if then_close:
            sock.close()

    return serve


def with_header(line: bytes) -> bytes:
    """Return an accepting response with one more header."""
    return ACCEPTED[:-2] + line + b"\r\n\r\n"


# ---- our two ends


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair], ids=["unix", "tcp"])
@pytest.mark.parametrize("protocol", ["chisel-v3", "costrict-v3"])
async def test_our_two_ends_understand_each_other(pair: Pair, protocol: str) -> None:
    at_client, at_server = Collector(), Collector()
    with pair() as (ours, theirs), wire_on(ours, client=True) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: handshake.connect(nursery, client, host="h", path="/x", protocol=protocol)
            )
            head = await receive_until(theirs, b"\r\n\r\n")
            with wire_on(theirs, head=head) as server:
                await handshake.accept(nursery, server, protocol=protocol)
                client.attach(at_client)
                server.attach(at_server)
                server.carrier.send(bytearray(b"to the client"))
                client.carrier.send(bytearray(b"to the server"))
                await until(lambda: at_client.data and at_server.data)
                assert at_client.data == b"to the client"
                assert at_server.data == b"to the server"
                assert client.failure is server.failure is None
            await client.ended.wait()


# ---- connect, against a server written by hand


async def test_the_request_is_what_the_go_servers_want() -> None:
    requests = []

    async def serve(sock: socket.socket) -> None:
        request = await receive_until(sock, b"\r\n\r\n")
        requests.append(request)
        await send_all(sock, ACCEPTED % accept_value(request))

    error = await connect_to(
        serve,
        host="Example.COM:8080",
        path="/a%20b/?q=1&r=2",
        headers=[("User-Agent", "me"), ("X-Word", "naïve \t word"), ("X-Word", "again")],
    )
    assert error is None
    line, *headers = requests[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert line == b"GET /a%20b/?q=1&r=2 HTTP/1.1"
    names = [header.partition(b":")[0].lower() for header in headers]
    assert sorted(set(names) - {b"x-word"}) == sorted(name for name in names if name != b"x-word")
    assert b"Host: Example.COM:8080" in headers
    assert b"Upgrade: websocket" in headers
    assert b"Connection: Upgrade" in headers
    assert b"Sec-WebSocket-Version: 13" in headers
    assert b"Sec-WebSocket-Protocol: chisel-v3" in headers  # one token, the whole value
    assert b"User-Agent: me" in headers
    first, second = "X-Word: naïve \t word".encode("latin-1"), b"X-Word: again"
    assert headers.index(first) < headers.index(second)
    assert b"sec-websocket-extensions" not in names  # nothing would inflate within bounds
    (key,) = (header[19:] for header in headers if header.startswith(b"Sec-WebSocket-Key: "))
    assert len(base64.b64decode(key, validate=True)) == 16


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([], [f"User-Agent: cotun-trio/{__version__}"]),
        ([("X-Word", "x")], [f"User-Agent: cotun-trio/{__version__}"]),
        ([("User-Agent", "Mozilla/5.0")], ["User-Agent: Mozilla/5.0"]),
        ([("user-agent", "x")], ["user-agent: x"]),
    ],
)
async def test_the_request_names_its_user_agent_which_a_header_overrides(
    headers: list[tuple[str, str]], sent: list[str]
) -> None:
    requests: list[str] = []

    async def serve(sock: socket.socket) -> None:
        requests.append((await receive_until(sock, b"\r\n\r\n")).decode())
        sock.close()

    await connect_to(serve, headers=headers)
    lines = requests[0].split("\r\n")
    assert [line for line in lines if line.lower().startswith("user-agent:")] == sent


async def test_every_request_has_a_key_of_its_own() -> None:
    keys = set()

    async def serve(sock: socket.socket) -> None:
        keys.add(accept_value(await receive_until(sock, b"\r\n\r\n")))
        sock.close()

    for _ in range(3):
        await connect_to(serve)
    assert len(keys) == 3


@pytest.mark.parametrize("host", ["[2001:db8::1]:8080", "127.0.0.1", "under_score", "x" * 63])
async def test_the_host_header_is_sent_as_it_is_given(host: str) -> None:
    seen = []

    async def serve(sock: socket.socket) -> None:
        seen.append(await receive_until(sock, b"\r\n\r\n"))
        sock.close()

    await connect_to(serve, host=host)
    assert f"\r\nHost: {host}\r\n".encode() in seen[0]


@pytest.mark.parametrize(
    "response",
    [ACCEPTED, with_header(b"Sec-WebSocket-Protocol: chisel-v3"), with_header(b"Server: Go")],
    ids=["no protocol, as Go's", "the protocol", "other headers"],
)
async def test_a_101_with_our_protocol_or_with_none_is_taken(response: bytes) -> None:
    assert await connect_to(answering(response)) is None


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade\r\nConnection: keep-alive",
        b"Connection: keep-alive\r\nConnection: Upgrade",
        b"Connection: close\r\nX: y\r\nconnection: x, upgrade\r\nConnection:",
        b"Connection: Upgrade\r\nUpgrade: websocket",
    ],
)
async def test_a_header_of_the_101_may_come_in_several_lines(lines: bytes, step: int) -> None:
    response = ACCEPTED.replace(b"Connection: Upgrade", lines)

    async def serve(sock: socket.socket) -> None:
        whole = response % accept_value(await receive_until(sock, b"\r\n\r\n"))
        for at in range(0, len(whole), step):
            await send_all(sock, whole[at : at + step])
            await trio.lowlevel.checkpoint()

    assert await connect_to(serve) is None


@pytest.mark.parametrize(
    "response",
    [
        with_header(b"Sec-WebSocket-Protocol: costrict-v3"),
        with_header(b"Sec-WebSocket-Protocol: \xff"),
        with_header(b"Sec-WebSocket-Extensions: permessage-deflate"),
        ACCEPTED.replace(b"%s", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ACCEPTED.replace(b"%s", b""),
        ACCEPTED.replace(b"Sec-WebSocket-Accept: %s\r\n", b""),
        ACCEPTED.replace(b"Upgrade: websocket\r\n", b""),
        ACCEPTED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        ACCEPTED.replace(b"Connection: Upgrade", b"Connection: close"),
        b"HTTP/1.1 101 Switching\r\nno colon\r\n\r\n",
    ],
    ids=[
        "another protocol",
        "a protocol that is not ASCII",
        "an extension",
        "a wrong key",
        "an empty key",
        "no key",
        "no Upgrade",
        "another Upgrade",
        "no Connection: Upgrade",
        "a line that is no header",
    ],
)
async def test_any_other_101_is_against_the_protocol(response: bytes) -> None:
    error = await connect_to(answering(response))
    assert isinstance(error, ProtocolError)
    assert "role=CLIENT" not in str(error)  # what trio-websocket then did wrong is no reason


async def test_the_reason_is_the_peers_fault_and_not_what_it_led_to() -> None:
    error = await connect_to(answering(ACCEPTED.replace(b"%s", b"wrong")))
    assert str(error) == "WebSocket: Bad accept token"


@pytest.mark.parametrize("status", [200, 204, 301, 302, 400, 401, 404, 426, 500, 503])
async def test_any_other_status_is_a_refusal_that_says_which(status: int) -> None:
    error = await connect_to(
        answering(b"HTTP/1.1 %d Whatever\r\nContent-Length: 5\r\n\r\nhello" % status)
    )
    assert isinstance(error, UpgradeRefused)
    assert error.status == status


@pytest.mark.parametrize("then_close", [True, False])
@pytest.mark.parametrize("rest", [b"", b"Not found", b"x" * 30_000], ids=["none", "short", "long"])
async def test_a_refusal_is_one_however_its_body_ends(rest: bytes, then_close: bool) -> None:
    # Without a Content-Length a body ends with the connection, or for a bad server never.
    response = b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\n" + rest
    error = await connect_to(answering(response, then_close=then_close))
    assert isinstance(error, UpgradeRefused)
    assert error.status == 404


@pytest.mark.parametrize(
    ("response", "text", "wait"),
    [
        (b"302 Found\r\nLocation: https://b.example/login", "https://b.example/login", None),
        (b'401 No\r\nWWW-Authenticate: Basic realm="x"', "(Basic)", None),
        (b"429 Slowly\r\nRetry-After: 30", "try again after 30s", 30.0),
        (b"503 Busy\r\nRetry-After: 5", "try again after 5s", 5.0),
        (b"200 OK\r\nContent-Type: text/html", "a web page", None),
    ],
)
async def test_a_refusal_says_what_to_do(response: bytes, text: str, wait: float | None) -> None:
    error = await connect_to(answering(b"HTTP/1.1 " + response + b"\r\n\r\n"))
    assert isinstance(error, UpgradeRefused)
    assert "where a WebSocket upgrade was expected: " in str(error)
    assert text in str(error)
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the server speaks SSH (SSH-2.0-OpenSSH_9.6)"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "the server speaks TLS: write https://"),
        (b"220 mail ESMTP\r\n", "begins with '220 mail ESMTP'"),
    ],
)
async def test_a_server_of_another_kind_is_named_at_once(first: bytes, text: str) -> None:
    error = await connect_to(answering(first))  # which then waits for us
    assert isinstance(error, ProtocolError)
    assert text in str(error)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 101 x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 1010 x\r\n\r\n",
        b"\r\n\r\n",
        b"\0" * 100,
        b"x" * 10_000,
    ],
    ids=["TLS alert", "SSH", "HTTP/2", "no number", "a long number", "blank", "zeros", "endless"],
)
async def test_garbage_is_against_the_protocol(garbage: bytes) -> None:
    assert isinstance(await connect_to(answering(garbage)), ProtocolError)


async def test_a_server_that_closes_anywhere_in_its_answer_is_lost_and_nothing_hangs() -> None:
    whole = ACCEPTED.replace(b"%s", b"x" * 28)
    for at in range(0, len(whole), 5):
        error = await connect_to(answering(whole[:at], then_close=True))
        assert isinstance(error, ConnectionLost), at


async def test_a_server_that_closes_without_reading_is_lost() -> None:
    async def serve(sock: socket.socket) -> None:
        sock.close()

    assert isinstance(await connect_to(serve), ConnectionLost)


async def test_frames_that_come_with_the_101_are_kept() -> None:
    receiver = Collector()
    with wire_and_peer(client=True) as (wire, peer):
        async with trio.open_nursery() as nursery:
            response = ACCEPTED + frame(BINARY, b"first") + frame(PING, b"?")
            nursery.start_soon(answering(response), peer)
            await handshake.connect(nursery, wire, host="h", path="/", protocol=PROTOCOL)
            wire.attach(receiver)
            await receive(peer)  # the pong
            assert receiver.data == b"first"
            nursery.cancel_scope.cancel()


async def test_a_cancelled_connect_leaves_nothing_running(autojump: object) -> None:
    with wire_and_peer(client=True) as (wire, peer):
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(45) as scope:
                await handshake.connect(nursery, wire, host="h", path="/", protocol=PROTOCOL)
            assert scope.cancelled_caught
            wire.close()
        # The nursery has ended by itself: closing the wire has ended the reader in it.
        assert await receive_until(peer, b"\r\n\r\n")
        assert await receive_rest(peer) == b""


async def test_a_reader_that_just_ends_ends_the_wire() -> None:
    async def reader() -> None:
        await trio.lowlevel.checkpoint()

    with wire_and_peer() as (wire, _):
        async with trio.open_nursery() as nursery:
            handshake._Guard(nursery, wire).start_soon(reader)
        assert isinstance(wire.failure, ConnectionLost)


# ---- accept, against a client written by hand


@contextlib.asynccontextmanager
async def accepted(
    head: bytes = REQUEST, early: bytes = b""
) -> AsyncIterator[tuple[Wire, socket.socket, Collector]]:
    """Give a server's wire after its handshake, the client's socket, and what gets the data."""
    receiver = Collector()
    with wire_and_peer(head=head, early=early) as (wire, peer):
        async with trio.open_nursery() as nursery:
            await handshake.accept(nursery, wire, protocol=PROTOCOL)
            wire.attach(receiver)
            yield wire, peer, receiver
            nursery.cancel_scope.cancel()


async def test_a_client_is_answered_as_the_rfc_says() -> None:
    async with accepted() as (_, peer, _):
        line, *headers = (await receive_until(peer, b"\r\n\r\n")).split(b"\r\n")
        assert line == b"HTTP/1.1 101 Switching Protocols"
        assert {header.lower() for header in headers if header} == {
            b"upgrade: websocket",
            b"connection: upgrade",
            b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",  # the RFC's own example
            b"sec-websocket-protocol: chisel-v3",
        }


async def test_no_extension_is_agreed_to() -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    async with accepted(REQUEST[:-2] + offer) as (_, peer, _):
        assert b"xtensions" not in await receive_until(peer, b"\r\n\r\n")


async def test_frames_that_come_with_the_request_are_kept() -> None:
    early = frame(BINARY, b"early", key=KEY)
    async with accepted(early=early) as (_, peer, receiver):
        await send_all(peer, frame(BINARY, b" late", key=KEY) + frame(PING, key=KEY))
        await receive_until(peer, frame(PONG))
        assert receiver.data == b"early late"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", b"426"),
        (b"Sec-WebSocket-Version: 13\r\n", b"", b"400"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", b"400"),
        (b"Connection: Upgrade", b"Connection: close", b"400"),
    ],
)
async def test_an_upgrade_that_is_none_is_answered_and_closed(
    old: bytes, new: bytes, status: bytes
) -> None:
    with wire_and_peer(head=REQUEST.replace(old, new)) as (wire, peer):
        async with trio.open_nursery() as nursery:
            with pytest.raises(CotunError):
                await handshake.accept(nursery, wire, protocol=PROTOCOL)
        assert (await receive_rest(peer)).startswith(b"HTTP/1.1 " + status)


async def test_a_client_that_goes_before_the_answer_is_lost() -> None:
    with wire_and_peer(head=REQUEST) as (wire, peer):
        peer.close()
        async with trio.open_nursery() as nursery:
            with pytest.raises(ConnectionLost):
                await handshake.accept(nursery, wire, protocol=PROTOCOL)
            nursery.cancel_scope.cancel()  # its reader waits for somebody to read for


# ---- the control frames after it


@contextlib.asynccontextmanager
async def established(*, client: bool) -> AsyncIterator[tuple[Wire, socket.socket]]:
    """Give a wire after its handshake, and the socket of its peer, with nothing left to read."""
    if not client:
        async with accepted() as (wire, peer, _):
            await receive_until(peer, b"\r\n\r\n")
            yield wire, peer
        return
    with wire_and_peer(client=True) as (wire, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answering(ACCEPTED), peer)
            await handshake.connect(nursery, wire, host="h", path="/", protocol=PROTOCOL)
            wire.attach(Collector())
            yield wire, peer
            nursery.cancel_scope.cancel()


both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


@both_roles
async def test_a_ping_is_answered_by_its_pong(client: bool) -> None:
    async with established(client=client) as (wire, peer):
        for content in (b"", b"are you there?", b"x" * 125):
            await send_all(peer, frame(PING, content, key=key_for(client=client)))
            (event,) = read_by_wsproto(await receive(peer), from_client=client)
            assert event.payload == content  # type: ignore[attr-defined]
        assert not wire.ended.is_set()


@both_roles
async def test_a_pong_that_nobody_asked_for_is_passed_over(client: bool) -> None:
    key = key_for(client=client)
    async with established(client=client) as (wire, peer):
        await send_all(peer, frame(PONG, b"hello", key=key) + frame(PING, b"?", key=key))
        (event,) = read_by_wsproto(await receive(peer), from_client=client)
        assert event.payload == b"?"  # type: ignore[attr-defined]
        assert not wire.ended.is_set()


@both_roles
async def test_a_close_frame_is_answered_by_one_and_ends_the_wire(client: bool) -> None:
    # Also on a client, whose server should close the connection first and may not bother to.
    async with established(client=client) as (wire, peer):
        await send_all(peer, frame(CLOSE, b"\x03\xe9bye", key=key_for(client=client)))
        (event,) = read_by_wsproto(await receive(peer), from_client=client)
        assert event.code == 1001  # type: ignore[attr-defined]
        await wire.ended.wait()
        assert isinstance(wire.failure, ConnectionLost)


def close_code_in(answer: bytes) -> int:
    """Return the code of the close frame that is the last of some control frames."""
    while answer[0] != 0x88:
        size = 2 + (answer[1] & 0x7F) + (4 if answer[1] & 0x80 else 0)
        answer = answer[size:]
    payload = xor(answer[6:], answer[2:6]) if answer[1] & 0x80 else answer[2:]
    return int.from_bytes(payload[:2], "big")


@both_roles
@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 4000, 4999])
async def test_every_valid_close_code_is_answered_by_itself(client: bool, code: int) -> None:
    key = key_for(client=client)
    async with established(client=client) as (wire, peer):
        payload = code.to_bytes(2, "big") + "adiós".encode()
        await send_all(peer, frame(PING, b"?", key=key) + frame(CLOSE, payload, key=key))
        await wire.ended.wait()
        assert isinstance(wire.failure, ConnectionLost)
        assert close_code_in(await receive(peer)) == code


@both_roles
async def test_a_close_frame_without_a_code_is_answered(client: bool) -> None:
    async with established(client=client) as (wire, peer):
        await send_all(peer, frame(CLOSE, key=key_for(client=client)))
        await wire.ended.wait()
        assert isinstance(wire.failure, ConnectionLost)
        assert (await receive(peer))[0] == 0x88


@both_roles
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        *[
            (wrong.to_bytes(2, "big") + b"why", 1002)
            for wrong in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ],
        (b"\x03\xe8\xff", 1007),
        (b"\x03\xe8\xe2\x82", 1007),
        (b"\x03\xe8\xed\xa0\x80", 1007),
        (b"\x03\xf6\xff", 1007),
    ],
)
async def test_a_close_frame_that_is_wrong_is_answered_by_what_is_wrong(
    client: bool, payload: bytes, code: int
) -> None:
    async with established(client=client) as (wire, peer):
        await send_all(peer, frame(CLOSE, payload, key=key_for(client=client)))
        await wire.ended.wait()
        assert isinstance(wire.failure, FrameError)
        (event,) = read_by_wsproto(await receive(peer), from_client=client)
        assert event.code == code  # type: ignore[attr-defined]


@both_roles
async def test_a_peer_that_goes_ends_the_wire(client: bool) -> None:
    async with established(client=client) as (wire, peer):
        peer.close()
        await wire.ended.wait()
        assert isinstance(wire.failure, ConnectionLost)
