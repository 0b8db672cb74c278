"""A server with a back end that a test is, and HTTP read by hand."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.settings import ServerUrl
from tests.support.targets import (
    connect,
    listening,
    receive_all,
)
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cotun_trio.server.server import Server

Stream = trio.SocketStream
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


class Reader:
    """The parts of HTTP messages, off a stream, by hand."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.data = b""

    async def until(self, end: bytes) -> bytes:
        """Return what comes up to `end`, and that."""
        while end not in self.data:
            more = await self.stream.receive_some()
            assert more, self.data
            self.data += more
        found, _, self.data = self.data.partition(end)
        return found + end

    async def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            more = await self.stream.receive_some()
            assert more
            self.data += more
        found, self.data = self.data[:size], self.data[size:]
        return found


@contextlib.asynccontextmanager
async def gateway(
    handler: Callable[[Stream], Awaitable[object]], **settings: Any
) -> AsyncIterator[Server]:
    """Run a server with a back end that `handler` is."""
    async with listening(handler) as address:
        url = ServerUrl.parse(f"http://{address}")
        async with running_server(backend=url, **settings) as server:
            yield server


async def says(*responses: bytes, stream: Stream) -> None:
    """Be a back end that answers one request with each of `responses`."""
    reader = Reader(stream)
    for response in responses:
        await reader.until(b"\r\n\r\n")
        await stream.send_all(response)


def saying(*responses: bytes) -> Callable[[Stream], Awaitable[None]]:
    return lambda stream: says(*responses, stream=stream)


async def asked(server: Server, request: bytes) -> bytes:
    """Send `request` and the end; return all that comes."""
    async with await connect(server.addresses[0]) as stream:
        await stream.send_all(request)
        return await receive_all(stream)
