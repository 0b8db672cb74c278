"""A balancer of the tests' own, in TCP mode: a PROXY header says whom a connection is from."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.proxy_header import proxy_header
from tests.support.targets import connect_from, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BALANCER = "127.0.0.5"
"""Where its connections come from."""


def header(host: str = "198.51.100.7", port: int = 1234, version: str = "v2") -> bytes:
    """Return the header for a visitor at `host`."""
    there = Endpoint("2001:db8::1" if ":" in host else "203.0.113.1", 443)
    return proxy_header(version, Endpoints(Endpoint(host, port), there))


@contextlib.asynccontextmanager
async def by_balancer(address: str, first: bytes) -> AsyncIterator[trio.SocketStream]:
    """Connect to `address` from the balancer, and send `first`."""
    async with await connect_from(BALANCER, address) as stream:
        await stream.send_all(first)
        yield stream


@contextlib.asynccontextmanager
async def balancer(address: str, first: bytes) -> AsyncIterator[str]:
    """Run a balancer in front of `address`, which sends `first` in front of each connection."""

    async def serve(near: trio.SocketStream) -> None:
        async with by_balancer(address, first) as far, trio.open_nursery() as nursery:

            async def pass_on(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in source:
                        await sink.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, near, far)
            nursery.start_soon(pass_on, far, near)

    async with listening(serve) as own:
        yield own
