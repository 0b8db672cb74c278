"""The ends of remotes of every kind: Unix sockets, UDP, SOCKS clients."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import trio

from tests.support.targets import LOOPBACK, background, connect, receive_exactly, split_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Handler = Callable[[trio.SocketStream], Awaitable[object]]

LAST = struct.Struct("!H")


@contextlib.asynccontextmanager
async def listening_unix(handler: Handler, path: Path) -> AsyncIterator[str]:
    """Run `handler` for each connection to a socket at `path`; give ``unix:`` and the path."""

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await handler(stream)

    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(64)
        async with background() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, [trio.SocketListener(sock)])
            yield f"unix:{path}"


async def connect_to(address: str) -> trio.SocketStream:
    """Connect to ``host:port`` or ``unix:/path``."""
    if not address.startswith("unix:"):
        return await connect(address)
    return await trio.open_unix_socket(address.removeprefix("unix:"))


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a program could listen on `port` at this moment."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen()
        except OSError:
            return False
    return True


# ---- UDP


@contextlib.asynccontextmanager
async def udp_socket(
    host: str = LOOPBACK, port: int = 0
) -> AsyncIterator[tuple[trio.socket.SocketType, str]]:
    """Give a bound UDP socket and its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
        await sock.bind((host, port))
        name = sock.getsockname()
        yield sock, f"[{name[0]}]:{name[1]}" if family == socket.AF_INET6 else f"{host}:{name[1]}"


@contextlib.asynccontextmanager
async def udp_echo(host: str = LOOPBACK, port: int = 0) -> AsyncIterator[str]:
    """Answer every datagram with the same; give the address."""
    async with udp_socket(host, port) as (sock, address), background() as nursery:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        async def serve() -> None:
            while True:
                with contextlib.suppress(ConnectionError):
                    data, source = await sock.recvfrom(65_535)
                    await sock.sendto(data, source)

        nursery.start_soon(serve)
        yield address


async def ask(
    sock: trio.socket.SocketType, address: str, data: bytes, *, timeout: float = 5
) -> bytes | None:
    """Send a datagram; return the next that comes to `sock`, or None if none does."""
    await sock.sendto(data, split_address(address))
    with trio.move_on_after(timeout):
        answer, _ = await sock.recvfrom(65_535)
        return answer
    return None


# ---- SOCKS, written down from RFC 1928 for a second time


def socks_address(host: str, port: int) -> bytes:
    """Return an address as SOCKS has it."""
    for kind, family in ((b"\x01", socket.AF_INET), (b"\x04", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            return kind + socket.inet_pton(family, host) + LAST.pack(port)
    return bytes((3, len(host))) + host.encode() + LAST.pack(port)


async def receive_reply(stream: trio.abc.ReceiveStream) -> tuple[int, str, int]:
    """Read the answer to a request: the code, and the address in it."""
    version, code, _, kind = await receive_exactly(stream, 4)
    assert version == 5
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
    host = socket.inet_ntop(family, await receive_exactly(stream, size))
    return code, host, LAST.unpack(await receive_exactly(stream, 2))[0]


async def socks_request(
    stream: trio.abc.Stream, host: str, port: int, *, command: int = 1
) -> tuple[int, str, int]:
    """Greet, and ask for something; return what `receive_reply` does."""
    await stream.send_all(b"\x05\x01\x00")
    assert await receive_exactly(stream, 2) == b"\x05\x00"
    await stream.send_all(bytes((5, command, 0)) + socks_address(host, port))
    return await receive_reply(stream)
