"""The PROXY header of a connection, on sockets."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.net.proxy_protocol import TIMEOUT, read_header
from cotun_trio.net.sockets import close
from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.proxy_header import MAX_BINARY, VERSIONS, ProxyHeader, proxy_header
from tests.support.sockets import receive_exactly, send_all, tcp_pair, waiting

ENDS = Endpoints(Endpoint("198.51.100.7", 1), Endpoint("2001:db8::1", 2))
REST = b"\r\n\0GET / HTTP/1.1"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("endpoints", [ENDS, None])
async def test_all_that_is_behind_it_stays_where_it_is(
    version: str, endpoints: Endpoints | None
) -> None:
    data = proxy_header(version, endpoints)
    with tcp_pair() as (sock, balancer):
        await send_all(balancer, data + REST)
        assert await read_header(sock) == ProxyHeader(endpoints)
        assert await receive_exactly(sock, len(REST)) == REST


@pytest.mark.parametrize("version", VERSIONS)
async def test_it_may_come_byte_by_byte(version: str) -> None:
    with tcp_pair() as (sock, balancer):

        async def send() -> None:
            for byte in proxy_header(version, ENDS) + b"rest":
                await send_all(balancer, bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await read_header(sock) == ProxyHeader(ENDS)
            assert await receive_exactly(sock, 4) == b"rest"


async def test_it_may_be_long() -> None:
    with tcp_pair() as (sock, balancer):
        head = proxy_header("v2", ENDS)
        long = head[:14] + (MAX_BINARY - 16).to_bytes(2) + head[16:].ljust(MAX_BINARY - 16, b"\0")
        await send_all(balancer, long + b"rest")
        assert await read_header(sock) == ProxyHeader(ENDS)
        assert await receive_exactly(sock, 4) == b"rest"


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 1.2.3.4 "])
async def test_it_has_little_time(
    begun: bytes, autojump_with_sockets: trio.testing.MockClock
) -> None:
    with tcp_pair() as (sock, balancer):
        await send_all(balancer, begun)
        before = trio.current_time()
        with pytest.raises(ProtocolError, match="no header in 5 s"):
            await read_header(sock)
        assert trio.current_time() - before == pytest.approx(TIMEOUT)


async def test_anything_else_is_refused_at_once() -> None:
    with tcp_pair() as (sock, stranger):
        await send_all(stranger, b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ProtocolError, match="does not begin with a header"):
            await read_header(sock)


@pytest.mark.parametrize("reset", [False, True])
async def test_one_that_goes_is_lost(reset: bool) -> None:
    with tcp_pair() as (sock, balancer):
        await send_all(balancer, b"PROXY ")
        close(balancer, reset=reset)
        with pytest.raises(ConnectionLost):
            await read_header(sock)


async def test_cancelled_it_has_taken_nothing_behind_the_header() -> None:
    with tcp_pair() as (sock, balancer):
        with trio.move_on_after(0):
            await read_header(sock)
        await send_all(balancer, b"all")
        await trio.lowlevel.wait_readable(sock)
        assert waiting(sock) == b"all"
