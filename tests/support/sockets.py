"""Plain non-blocking sockets in tests: connected pairs, whole reads and writes.

Pairs of Unix sockets hand over at once what is written, so that they go with the autojump clock.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two connected Unix sockets, closed in the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two sockets connected over loopback TCP, closed in the end."""
    with tcp_listener() as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@contextlib.contextmanager
def tcp_listener() -> Iterator[socket.socket]:
    """Give a socket that listens on a free port of 127.0.0.1; it is blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def send_all(sock: socket.socket, data: bytes | memoryview) -> None:
    """Send all of `data`."""
    rest = memoryview(data)
    while rest:
        await trio.lowlevel.wait_writable(sock)
        with contextlib.suppress(BlockingIOError):
            rest = rest[sock.send(rest) :]


async def receive(sock: socket.socket, limit: int = 1 << 20) -> bytes:
    """Return what one read gives; nothing at the end."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        with contextlib.suppress(BlockingIOError):
            return sock.recv(limit)


async def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes."""
    data = bytearray()
    while len(data) < size:
        more = await receive(sock, size - len(data))
        assert more, f"the peer closed after {len(data)} of {size} bytes"
        data += more
    return bytes(data)


async def receive_until(sock: socket.socket, end: bytes) -> bytes:
    """Return what comes up to and with `end`, reading not a byte more."""
    data = bytearray()
    while not data.endswith(end):
        more = await receive(sock, 1)
        assert more, f"the peer closed after {bytes(data)!r}"
        data += more
    return bytes(data)


async def receive_rest(sock: socket.socket) -> bytes:
    """Return all that comes until the peer closes its end."""
    data = bytearray()
    while more := await receive(sock):
        data += more
    return bytes(data)


def waiting(sock: socket.socket) -> bytes:
    """Return what has come and was not read yet, and leave it there."""
    try:
        return sock.recv(1 << 20, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until `condition` holds."""
    while not condition():
        await trio.lowlevel.checkpoint()
