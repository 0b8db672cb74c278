"""What goes wrong between a client, a server and its back end, and what each of them sees."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.settings import ServerUrl, Timings
from tests.support.leaks import nothing_left
from tests.support.sockets import until
from tests.support.targets import (
    MiB,
    connect,
    receive_all,
    refused_address,
)
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from tests.support.gateway import Stream
from tests.support.gateway import GET, OK, Reader, asked, gateway, saying


async def test_a_back_end_that_is_down_is_502() -> None:
    url = ServerUrl.parse(f"http://{refused_address()}")
    async with running_server(backend=url) as server, nothing_left():
        assert (await asked(server, GET)).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


@pytest.mark.parametrize(
    "response",
    [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000],
)
async def test_a_back_end_that_makes_no_sense_is_502(response: bytes) -> None:
    async with gateway(saying(response)) as server, nothing_left():
        assert (await asked(server, GET)).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


async def test_a_back_end_that_does_not_answer_is_504(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def handler(stream: Stream) -> None:
        await receive_all(stream)

    async with gateway(handler, timings=Timings(backend_timeout=7.0)) as server:
        before = trio.current_time()
        assert (await asked(server, GET)).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        assert trio.current_time() - before == pytest.approx(7)


async def test_a_response_that_breaks_off_is_cut_here_too() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"
    async with gateway(saying(half)) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(GET)
        with pytest.raises(trio.BrokenResourceError):
            await receive_all(stream)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n" + GET,
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", None),
        (b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n", 405),
    ],
)
async def test_what_could_be_read_as_two_requests_is_one_or_none(
    request_: bytes, status: int | None
) -> None:
    heads: list[bytes] = []

    async def handler(stream: Stream) -> None:
        heads.append(await Reader(stream).until(b"\r\n\r\n"))
        await stream.send_all(OK)
        heads.append(await receive_all(stream))

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(request_)
        answer = await Reader(stream).until(b"\r\n\r\n")
        if status is not None:
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert not heads
    assert heads[1:] in ([], [b""])


async def test_a_bare_line_feed_makes_no_second_request() -> None:
    head = bytearray()

    async def handler(stream: Stream) -> None:
        async for data in stream:
            head.extend(data)

    request = b"GET /a HTTP/1.1\nHost: x\nX: y\n\nGET /b HTTP/1.1\nHost: x\n\n"
    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(request)
        await until(lambda: head.endswith(b"\r\n\r\n"))
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert head.count(b" HTTP/1.1\r\n") == 1


async def test_a_body_that_trickles_passes_however_long_it_takes(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    bodies: list[bytes] = []

    async def handler(stream: Stream) -> None:
        reader = Reader(stream)
        await reader.until(b"\r\n\r\n")
        bodies.append(await reader.exactly(60))
        await trio.sleep(6)
        await stream.send_all(OK)

    timings = Timings(backend_timeout=7.0)  # is not up while the client is waited for
    async with (
        gateway(handler, timings=timings) as server,
        await connect(server.addresses[0]) as stream,
    ):
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n")
        for _ in range(60):
            await trio.sleep(59)
            await stream.send_all(b"x")
        assert (await Reader(stream).until(b"ok")).startswith(b"HTTP/1.1 200 ")
    assert bodies == [b"x" * 60]


async def test_a_body_that_stops_is_cut_after_a_minute(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def handler(stream: Stream) -> None:
        await receive_all(stream)

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        before = trio.current_time()
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        head = await Reader(stream).until(b"\r\n\r\n")
        assert trio.current_time() - before == pytest.approx(60)
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in head


async def test_a_back_end_that_takes_nothing_of_a_body_is_504(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await trio.sleep(1000)

    timings = Timings(backend_timeout=7.0)
    async with (
        gateway(handler, timings=timings) as server,
        await connect(server.addresses[0]) as stream,
        trio.open_nursery() as nursery,
    ):
        size = 64 * MiB
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)

        async def pour() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await stream.send_all(bytes(65536))

        nursery.start_soon(pour)
        before = trio.current_time()
        assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")
        assert trio.current_time() - before == pytest.approx(7)
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_take_its_response_is_cut_in_the_end(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(bytes(MiB))

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(GET)
        await trio.sleep(100_000)  # of the mock clock
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
