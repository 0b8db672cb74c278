"""A link that is slow: a proxy with a small buffer that passes so many bytes a second each way."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio

from tests.support.targets import LOOPBACK, background, split_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PACKET = 1500
"""Bytes passed on at once."""
BUFFER = 4096
"""Bytes that the proxy's sockets keep, as far as the system has so small buffers."""


def small_socket() -> trio.socket.SocketType:
    """Return a socket whose buffer is small before it offers it to anybody."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return sock


@contextlib.asynccontextmanager
async def slow_link(target: str, rate: float) -> AsyncIterator[str]:
    """Give an address from which connections lead to `target`, at `rate` bytes per second."""

    async def handle(near: trio.SocketStream) -> None:
        try:
            sock = small_socket()
            await sock.connect(split_address(target))
            async with near, trio.SocketStream(sock) as far, trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, far, near)
                await pass_on(near, far)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the link goes with its ends

    async def pass_on(source: trio.SocketStream, drain: trio.SocketStream) -> None:
        while data := await source.receive_some(PACKET):
            await trio.sleep(len(data) / rate)
            await drain.send_all(data)

    sock = small_socket()
    await sock.bind((LOOPBACK, 0))
    sock.listen()
    async with background() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [trio.SocketListener(sock)])
        host, port = sock.getsockname()
        yield f"{host}:{port}"
