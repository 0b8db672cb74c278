"""What a client may ask of the back end, and what of a request gets there."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.http.front import MAX_HEAD, MAX_PROXY_HEAD, MAX_SITE_HEAD
from tests.support.gateway import GET, OK, Reader, asked, gateway
from tests.support.peer import upgrade_request
from tests.support.targets import MiB, connect, echo, echoes, receive_all
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from tests.support.gateway import Stream

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
LOOPBACK = ip_network("127.0.0.0/8")
CLOSE = b"Connection: close\r\n"


class Heard:
    """A back end that answers, and keeps the heads that it has got."""

    def __init__(self, answer: bytes = OK) -> None:
        self.heads: list[bytes] = []
        self._answer = answer

    async def serve(self, stream: Stream) -> None:
        while data := await stream.receive_some():
            self.heads.append(data.lower())
            await stream.send_all(self._answer)


def with_lines(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: example.com", *lines)) + b"\r\n\r\n"


# ---- other protocols


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"],
        [b"Connection: Upgrade", b"Upgrade: TLS/1.0"],
        [b"Connection: upgrade", b"Connection: x", b"Upgrade: h2c", b"Upgrade: mine"],
    ],
)
async def test_a_protocol_that_is_not_allowed_goes_on_as_an_ordinary_request(
    lines: list[bytes],
) -> None:
    heard = Heard()
    async with gateway(heard.serve) as server, await connect(server.addresses[0]) as stream:
        for _ in range(2):
            await stream.send_all(with_lines(*lines))
            assert (await Reader(stream).until(b"ok")).startswith(b"HTTP/1.1 200 ")
    assert len(heard.heads) == 2
    for head in heard.heads:
        assert b"upgrade" not in head
        assert b"http2-settings" not in head


async def test_of_several_protocols_only_the_allowed_ones_go_on() -> None:
    heard = Heard()
    lines = [b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: x"]
    async with gateway(heard.serve, backend_upgrades=("X",)) as server:
        await asked(server, with_lines(*lines, b"Upgrade: websocket"))
    assert b"\r\nconnection: upgrade\r\n" in heard.heads[0]
    assert b"\r\nupgrade: x, websocket\r\n" in heard.heads[0]


async def test_a_back_end_that_switches_to_what_nobody_asked_for_is_502() -> None:
    heard = Heard(SWITCH % b"h2c")
    lines = [b"Connection: Upgrade", b"Upgrade: websocket, h2c"]
    async with gateway(heard.serve) as server:
        assert (await asked(server, with_lines(*lines))).startswith(b"HTTP/1.1 502 ")


async def test_a_websocket_needs_no_option() -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await stream.send_all(SWITCH % b"websocket")
        await echo(stream)

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(with_lines(b"Connection: Upgrade", b"Upgrade: WebSocket"))
        assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await echoes(stream)


# ---- headers


FORGED = [
    b"Proxy: http://evil.example",
    b"X_Forwarded_For: 1.2.3.4",
    b"X-Forwarded-Port: 4443",
    b"X-Forwarded-Ssl: on",
    b"X-Forwarded-User: root",
    b"X-Original-URL: /admin",
    b"True-Client-IP: 1.2.3.4",
    b"Content_Length: 3",
    b"Transfer_Encoding: chunked",
]


@pytest.mark.parametrize("line", FORGED)
async def test_headers_that_claim_too_much_are_a_trusted_proxys_only(line: bytes) -> None:
    heard = Heard()
    name = line.partition(b":")[0].lower()
    for trusted in ((), (LOOPBACK,)):
        async with gateway(heard.serve, trusted_proxies=trusted) as server:
            await asked(server, with_lines(line, CLOSE[:-2]))
    assert [name + b": " in head for head in heard.heads] == [False, True]


async def test_a_trailer_claims_no_more_than_a_header() -> None:
    bodies: list[bytes] = []

    async def handler(stream: Stream) -> None:
        reader = Reader(stream)
        await reader.until(b"\r\n\r\n")
        bodies.append(await reader.until(b"\r\n\r\n"))
        await stream.send_all(OK)

    request = with_lines(b"Transfer-Encoding: chunked", CLOSE[:-2], first=b"PUT / HTTP/1.1")
    trailers = b"0\r\nX-Forwarded-For: 1.2.3.4\r\nX-Sum: 7\r\nContent-Length: 5\r\n\r\n"
    async with gateway(handler) as server:
        await asked(server, request + trailers)
    assert bodies == [b"0\r\nx-sum: 7\r\n\r\n"]


# ---- targets and hosts


@pytest.mark.parametrize(
    "head",
    [
        b"GET admin HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://user@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x,y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x;y\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_is_400_and_goes_no_further(head: bytes) -> None:
    heard = Heard()
    async with gateway(heard.serve) as server:
        answer = await asked(server, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert not heard.heads


async def test_the_host_of_a_whole_uri_is_the_one_that_the_back_end_learns() -> None:
    heard = Heard()
    head = b"GET http://right.example/a HTTP/1.1\r\nHost: wrong.example\r\n" + CLOSE + b"\r\n"
    async with gateway(heard.serve) as server:
        assert b" 200 " in await asked(server, head)
    assert heard.heads[0].startswith(b"get /a http/1.1\r\n")
    assert b"\r\nx-forwarded-host: right.example\r\n" in heard.heads[0]
    assert b'host="right.example"' in heard.heads[0]
    assert b"wrong" not in heard.heads[0]


async def test_raw_utf_8_in_a_target_gets_there_also_behind_another_request() -> None:
    heard = Heard()
    async with gateway(heard.serve) as server, await connect(server.addresses[0]) as stream:
        reader = Reader(stream)
        first = b"PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xc3\xa9"
        again = "GET /é?ü HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        await stream.send_all(first + again + again)
        for _ in range(3):
            assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200 ")
    heads = b"".join(heard.heads)
    assert heads.count(b"get /%c3%a9?%c3%bc http/1.1\r\n") == 2
    assert b"\r\n\r\n\xc3\xa9" in heads


async def test_options_may_be_for_the_whole_server() -> None:
    heard = Heard()
    async with gateway(heard.serve) as server:
        head = with_lines(CLOSE[:-2], first=b"OPTIONS * HTTP/1.1")
        assert b" 200 " in await asked(server, head)
    assert heard.heads[0].startswith(b"options * http/1.1\r\n")


# ---- uploads


async def test_a_live_upload_gets_there_piece_by_piece() -> None:
    async def handler(stream: Stream) -> None:
        reader = Reader(stream)
        await reader.until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (piece := await reader.until(b"\r\n")) != b"0\r\n":
            size = int(piece, 16)
            data = await reader.exactly(size + 2)
            await stream.send_all(b"%x\r\n" % size + data)
        await stream.send_all(b"0\r\n\r\n")

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        reader = Reader(stream)
        line = b"Transfer-Encoding: chunked"
        await stream.send_all(with_lines(line, first=b"POST / HTTP/1.1"))
        await reader.until(b"\r\n\r\n")
        for piece in (b"one", b"two", b"three"):
            await stream.send_all(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert await reader.until(piece + b"\r\n")
        await stream.send_all(b"0\r\n\r\n")
        assert (await receive_all(stream)).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [1000, 32 * MiB])
async def test_an_answer_before_the_end_of_the_body_closes_in_order(size: int) -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nbig\n")
        await receive_all(stream)

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        length = b"Content-Length: %d" % (size + 1)
        await stream.send_all(with_lines(length, first=b"PUT / HTTP/1.1"))
        # All of it, before the answer is looked at; a reset would take that away.
        await stream.send_all(bytes(size))
        answer = await receive_all(stream)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close" in head.lower()
    assert body == b"big\n"


async def test_an_answer_behind_the_body_closes_nothing() -> None:
    heard = Heard()
    async with gateway(heard.serve) as server, await connect(server.addresses[0]) as stream:
        for request in (GET, with_lines(b"Content-Length: 2", first=b"PUT / HTTP/1.1") + b"hi"):
            for _ in range(20):
                await stream.send_all(request)
                assert b"close" not in (await Reader(stream).until(b"ok")).lower()


async def test_a_back_end_that_is_down_is_told_to_who_uploads() -> None:
    async with gateway(_goes) as server, await connect(server.addresses[0]) as stream:
        length = b"Content-Length: %d" % (8 * MiB)
        await stream.send_all(with_lines(length, first=b"PUT / HTTP/1.1"))
        await stream.send_all(bytes(8 * MiB - 1))
        assert (await receive_all(stream)).startswith(b"HTTP/1.1 502 ")


async def _goes(stream: Stream) -> None:
    await stream.aclose()


# ---- the size of a head


def padded(size: int, request: bytes = GET) -> bytes:
    """Return `request` with a cookie, so that its head has `size` bytes."""
    return request[:-2] + b"Cookie: ".ljust(size - len(request) - 2, b"x") + b"\r\n\r\n"


async def test_visitors_of_a_site_may_have_many_cookies() -> None:
    heard = Heard()
    async with gateway(heard.serve) as server, await connect(server.addresses[0]) as stream:
        reader = Reader(stream)
        for size in (100, MAX_HEAD + 1, MAX_SITE_HEAD):
            await stream.send_all(padded(size))
            assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200 ")
        await stream.send_all(padded(MAX_SITE_HEAD + 1))
        assert (await reader.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("trusted", "most"), [((), MAX_HEAD), ((LOOPBACK,), MAX_PROXY_HEAD)])
async def test_a_tunnels_head_is_small_except_for_what_a_trusted_proxy_adds(
    trusted: tuple[object, ...], most: int
) -> None:
    async with running_server(trusted_proxies=trusted) as server:
        for size, status in ((most, b"101"), (most + 1, b"431")):
            async with await connect(server.addresses[0]) as stream:
                await stream.send_all(padded(size, upgrade_request()))
                head = await Reader(stream).until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + status)


async def test_a_tunnel_beside_a_site_takes_what_the_site_takes() -> None:
    async with gateway(Heard().serve) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(padded(MAX_SITE_HEAD, upgrade_request()))
        with trio.fail_after(5):
            assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
