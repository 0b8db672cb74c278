"""Wires in tests: one with a raw socket at its other end, and what takes its bytes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import Budget
from cotun_trio.websocket.wire import Wire
from tests.support.frames import KEY
from tests.support.sockets import unix_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.errors import CotunError

Pair = Callable[[], AbstractContextManager[tuple[socket.socket, socket.socket]]]
"""`unix_pair` or `tcp_pair`."""

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)
REQUEST = (
    b"GET / HTTP/1.1\r\n"
    b"Host: localhost\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: chisel-v3\r\n\r\n"
)


def accept_value(request: bytes) -> bytes:
    """Return what RFC 6455 section 4.2.2 has a server answer to the key in `request`."""
    found = re.search(rb"(?im)^sec-websocket-key: *(\S+)\r$", request)
    assert found
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest)


class Collector:
    """A receiver that keeps everything, and can be paused."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.batches: list[int] = []
        """The size of each batch that has ended."""
        self.refusal: CotunError | None = None
        """To be raised instead of taking anything."""
        self.budget = Budget()
        """See `Receiver`."""
        self.unfinished = False
        """See `Receiver`: it takes everything at once."""
        self._resumed = trio.Event()
        self._resumed.set()
        self._size: int | None = None

    @property
    def paused(self) -> bool:
        """Whether `pause` was called."""
        return not self._resumed.is_set()

    def pause(self) -> None:
        """Want nothing until `resume`."""
        self._resumed = trio.Event()

    def resume(self) -> None:
        """Want more."""
        self._resumed.set()

    async def wait_resumed(self) -> None:
        """See `Receiver`."""
        await self._resumed.wait()

    def start_batch(self) -> None:
        """See `Receiver`."""
        assert self._size is None
        self._size = 0
        self.budget.begin()

    def receive(self, data: memoryview) -> None:
        """See `Receiver`."""
        assert self._size is not None
        if self.refusal is not None:
            raise self.refusal
        self._size += len(data)
        self.data += data

    def end_batch(self) -> None:
        """See `Receiver`."""
        assert self._size is not None
        self.batches.append(self._size)
        self._size = None


@contextlib.contextmanager
def wire_on(
    sock: socket.socket,
    *,
    client: bool = False,
    head: bytes = b"",
    early: bytes = b"",
    trusted: bool = True,
) -> Iterator[Wire]:
    """Give a wire on `sock`, closed in the end; unless `trusted`, its peer has yet to log in."""
    area = memoryview(bytearray(64 * 1024))
    wire = Wire(sock, area, client=client, head=head, early=early)
    if trusted:
        wire.trust_peer(is_go=False)
    try:
        yield wire
    finally:
        wire.close()


@contextlib.contextmanager
def wire_and_peer(
    *,
    client: bool = False,
    head: bytes = b"",
    early: bytes = b"",
    trusted: bool = True,
    pair: Pair = unix_pair,
) -> Iterator[tuple[Wire, socket.socket]]:
    """Give a wire, and the socket at the other end of it."""
    with (
        pair() as (ours, theirs),
        wire_on(ours, client=client, head=head, early=early, trusted=trusted) as wire,
    ):
        yield wire, theirs


def key_for(*, client: bool) -> bytes | None:
    """Return a mask key for what the peer of a wire sends, if it has to mask."""
    return None if client else KEY


def shrink_buffers(wire: Wire) -> None:
    """Let the kernel take little of what the wire sends."""
    # With less than this, TCP waits for acknowledgements that are late on purpose.
    wire._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
