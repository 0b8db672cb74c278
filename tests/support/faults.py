"""A proxy on the loopback interface that does to a connection what networks do."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import attrs
import trio

from tests.support.targets import CHUNK, connect, listening, reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@attrs.frozen
class Fault:
    """What happens to the bytes that travel in one direction of a connection."""

    delay: float = 0.0
    """Seconds that each byte is late."""
    cut_after: float = math.inf
    """Bytes after which the connection is reset, on both sides."""
    flip_at: int | None = None
    """The byte (counted from 0) of which one bit is turned round."""
    piece: int = CHUNK
    """Bytes sent at once."""


CLEAN = Fault()


class FaultProxy:
    """Passes connections on to `target`.  Each has the faults that were set when it came.

    `once` sets those of the next connection alone.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        """May be changed: the next connection goes there."""
        self.address = ""
        self.up: Fault = CLEAN
        """For what comes from who connects."""
        self.down: Fault = CLEAN
        """For what comes from the target."""
        self.once: tuple[Fault, Fault] | None = None
        """For the next connection, up and down, instead."""
        self.watch: Callable[[int, int], None] = lambda up, down: None
        """Called with the bytes that have gone up and down, whenever some have."""
        self.connections = 0
        """Connections that have come."""
        self.passed = [0, 0]
        """Bytes that went up and down in the latest connection."""
        self._streams: list[trio.SocketStream] = []
        self._flows = trio.Event()
        self._flows.set()

    def stall(self) -> None:
        """Pass nothing on from now on, but keep it."""
        if self._flows.is_set():
            self._flows = trio.Event()

    def heal(self) -> None:
        """Pass on again, beginning with what was kept."""
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection."""
        for stream in self._streams:
            reset(stream)

    async def handle(self, near: trio.SocketStream) -> None:
        """Serve one connection."""
        self.connections += 1
        self.passed = passed = [0, 0]
        faults, self.once = self.once or (self.up, self.down), None
        with contextlib.suppress(OSError):
            async with await connect(self.target) as far:
                pair = [near, far]
                self._streams += pair
                try:
                    async with trio.open_nursery() as nursery:
                        for way in (0, 1):

                            def count(size: int, way: int = way) -> None:
                                passed[way] += size
                                self.watch(*passed)

                            nursery.start_soon(self._pass, pair, way, faults[way], count)
                finally:
                    self._streams = [stream for stream in self._streams if stream not in pair]

    async def _pass(
        self,
        pair: list[trio.SocketStream],
        way: int,
        fault: Fault,
        count: Callable[[int], None],
    ) -> None:
        source, drain = pair if way == 0 else pair[::-1]
        sent = 0
        send, receive = trio.open_memory_channel[tuple[float, bytes]](math.inf)

        async def pump() -> None:
            # What was read is late by the delay, however much more is read meanwhile.
            async with send:
                while chunk := await source.receive_some(CHUNK):
                    await send.send((trio.current_time() + fault.delay, chunk))
                    await self._flows.wait()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump)
                async for due, whole in receive:
                    await trio.sleep_until(due)
                    data = bytearray(whole)
                    if fault.flip_at is not None and 0 <= fault.flip_at - sent < len(data):
                        data[fault.flip_at - sent] ^= 1
                    room = fault.cut_after - sent
                    for at in range(0, int(min(len(data), room)), fault.piece):
                        await self._flows.wait()
                        piece = data[at : int(min(at + fault.piece, room))]
                        await drain.send_all(piece)
                        count(len(piece))
                    sent += len(data)
                    if sent >= fault.cut_after:
                        reset(source)
                        reset(drain)
                await self._flows.wait()
                await drain.send_eof()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            for stream in pair:
                reset(stream)


@contextlib.asynccontextmanager
async def fault_proxy(target: str) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of `target`."""
    proxy = FaultProxy(target)
    async with listening(proxy.handle) as proxy.address:
        yield proxy
