"""Targets to forward to, and what a test does to them: echo, swallow, pour, and count bytes.

All of them listen on the loopback interface on a port that the system chose.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import random
import socket
import struct
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LOOPBACK = "127.0.0.1"
CHUNK = 256 * 1024
MiB = 1024 * 1024


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host has brackets there, and none in the result."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def connect(address: str) -> trio.SocketStream:
    """Connect to ``host:port``."""
    return await trio.open_tcp_stream(*split_address(address))


async def connect_from(host: str, address: str) -> trio.SocketStream:
    """Connect to a listener's address from the address `host` of this machine."""
    sock = trio.socket.socket()
    await sock.bind((host, 0))
    await sock.connect(split_address(address))
    return trio.SocketStream(sock)


async def turned_away(address: str, *, source: str = "") -> bool:
    """Return whether a connection to ``host:port``, from the address `source`, is accepted and then
    reset.

    The reset can overtake us while we still wait to hear that we are connected.
    """
    with trio.socket.socket() as sock:
        if source:
            await sock.bind((source, 0))
        try:
            await sock.connect(split_address(address))
            await sock.recv(1)
        except ConnectionResetError:
            return True
    return False


@contextlib.asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """Give a nursery whose tasks end with the block.

    What the block itself raises comes out as it is, not in a group, so that a failure reads well.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001  it is raised again below
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def listening(
    handler: Callable[[trio.SocketStream], Awaitable[object]], host: str = LOOPBACK
) -> AsyncIterator[str]:
    """Run `handler` for each connection; give the address.  Broken connections are its end."""

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await handler(stream)

    async with background() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            lambda task_status: trio.serve_tcp(handle, 0, host=host, task_status=task_status)
        )
        name = listeners[0].socket.getsockname()
        yield f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OURS = range(20_000 + _WORKER, 32_000, _WORKERS)
_PORTS = iter(random.SystemRandom().sample(_OURS, len(_OURS)))
"""Below those that the system chooses from (from 32,768 on with Linux), in any order.  Each process
of the same test run has its own."""
BLOCK = 8
"""The most ports of a `free_range`."""
_OUR_BLOCKS = range(10_000 + _WORKER * BLOCK, 20_000 - BLOCK, _WORKERS * BLOCK)
_BLOCKS = iter(random.SystemRandom().sample(_OUR_BLOCKS, len(_OUR_BLOCKS)))


def free_port() -> int:
    """Return a port that is free for TCP and UDP, and that no other call has returned.

    It is for programs and remotes that have to be told one.  The system does not give it to others
    between the call and its use.
    """
    for port in _PORTS:
        if _can_be_had(port):
            return port
    raise AssertionError("no port is free")


def free_range(count: int) -> range:
    """Return ports in a row, up to `BLOCK`, each as from `free_port`."""
    assert count <= BLOCK
    for first in _BLOCKS:
        ports = range(first, first + count)
        if all(map(_can_be_had, ports)):
            return ports
    raise AssertionError("no ports in a row are free")


def as_text(ports: range) -> str:
    """Return a range of ports as remotes have it."""
    return f"{ports[0]}-{ports[-1]}"


def _can_be_had(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        tcp.bind((LOOPBACK, port))
        udp.bind((LOOPBACK, port))
        return True
    return False


def refused_address() -> str:
    """Return an address where nobody listens."""
    return f"{LOOPBACK}:{free_port()}"


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Return `size` bytes that nothing can compress or guess, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    """Return the digest of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


async def receive_digest(stream: trio.abc.ReceiveStream) -> tuple[int, str]:
    """Read up to the end; return how much came, and its digest."""
    digest, size = hashlib.sha256(), 0
    async for chunk in stream:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Read `size` bytes.  Raises `EOFError` where the stream ends before."""
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        if not chunk:
            raise EOFError(f"{len(data)} bytes where {size} were expected")
        data += chunk
    return bytes(data)


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read up to the end."""
    return b"".join([chunk async for chunk in stream])


async def echoes(stream: trio.abc.Stream, data: bytes = b"are you there?") -> bool:
    """Send `data`; return whether the same comes back."""
    await stream.send_all(data)
    return await receive_exactly(stream, len(data)) == data


async def exchange(stream: trio.abc.Stream, data: bytes) -> tuple[int, str]:
    """Send `data` and the end while reading; return how much came, and its digest."""
    results: list[tuple[int, str]] = []

    async def read() -> None:
        results.append(await receive_digest(stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stream.send_all(data)
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        await stream.send_eof()
    return results[0]


def reset(stream: trio.SocketStream) -> None:
    """Close `stream` so that its peer sees a reset, unless it is closed already."""
    if stream.socket.fileno() < 0:
        return
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# ---- handlers


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes, and the end when it comes."""
    async for chunk in stream:
        await stream.send_all(chunk)
    await stream.send_eof()


def pour(data: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a handler that sends `data` and the end, without waiting for anything."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        await stream.send_eof()
        await receive_all(stream)

    return handler


def answer_after_eof(reply: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a handler that reads up to the end and only then sends the digest and `reply`."""

    async def handler(stream: trio.SocketStream) -> None:
        _, digest = await receive_digest(stream)
        await stream.send_all(digest.encode() + reply)

    return handler


@contextlib.asynccontextmanager
async def range_of_targets(ports: range) -> AsyncIterator[None]:
    """Listen on `ports`, each of which says its number; see `what_answers`."""

    async def say(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(str(stream.socket.getsockname()[1]).encode())

    async with background() as nursery:
        for port in ports:
            serve = functools.partial(trio.serve_tcp, say, port, host=LOOPBACK)
            await nursery.start(serve)
        yield


async def what_answers(port: int) -> int:
    """Return the number that one of `range_of_targets` says behind `port`."""
    async with await connect(f"{LOOPBACK}:{port}") as stream:
        return int(await receive_all(stream))
