"""A wire without a network: all that one end sends, the other receives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.ssh.scratch import READ
from cotun_trio.websocket.pace import MAX_TURN

if TYPE_CHECKING:
    from cotun_trio.websocket.wire_protocol import Carrier, Receiver

CAPACITY = 1024 * 1024
"""Bytes on the way beyond which the sender has to wait, as for the kernel's buffers."""


class MemoryWire:
    """One of two ends, from `memory_wires`.

    The WebSocket handshake and its control frames pass as they are; SSH's bytes go without frames.
    """

    def __init__(self) -> None:
        self.ended = trio.Event()
        """Set when nothing will be received any more."""
        self.failure: CotunError | None = None
        """Why, once `ended` is set."""
        self.bytes_in = self.bytes_out = 0
        self.peer_address = ""
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`: there is none."""
        self.peer = self
        self._control: deque[bytes] = deque()  # for trio-websocket
        self._data = bytearray()
        self._peer_is_done = False
        self._receiver: Receiver | None = None
        self._attached = trio.Event()
        self._news = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()

    @property
    def in_reserve(self) -> bool:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`: there is no descriptor."""
        return False

    def attach(self, receiver: Receiver) -> None:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`."""
        self._receiver = receiver
        self._attached.set()

    def trust_peer(self, *, is_go: bool) -> None:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`: nothing is limited here."""

    # ---- receiving

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """See `cotun_trio.websocket.wire.Wire.receive_some`."""
        while True:
            await trio.lowlevel.checkpoint()
            if self.ended.is_set():
                raise trio.BrokenResourceError("the connection is lost")
            if self._control:
                return self._control.popleft()
            if self._data or self._rest_waits:
                await self._receive_data()
            elif self._peer_is_done:
                self._end(ConnectionLost("the peer closed the connection"))
                return b""
            else:
                await self._news.park()

    @property
    def _rest_waits(self) -> bool:
        return self._receiver is not None and self._receiver.unfinished

    async def _receive_data(self) -> None:
        if self._receiver is None:
            await self._attached.wait()
        receiver = self._receiver
        assert receiver is not None
        if receiver.paused:
            await receiver.wait_resumed()
        size = 0 if receiver.unfinished else READ
        data = bytes(self._data[:size])
        del self._data[:size]
        self.bytes_in += len(data)
        if len(self._data) <= CAPACITY:
            self.peer._idle.unpark_all()  # noqa: SLF001  both are one thing
        receiver.start_batch()
        try:
            receiver.receive(memoryview(data))
            receiver.end_batch()
        except CotunError as error:
            self.fail(error)
            raise trio.BrokenResourceError from error

    # ---- sending

    @property
    def carrier(self) -> Carrier:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`."""
        return self

    @property
    def busy(self) -> bool:
        """See `cotun_trio.websocket.wire_protocol.Carrier`."""
        return len(self.peer._data) > CAPACITY  # noqa: SLF001

    @property
    def turn(self) -> int:
        """See `cotun_trio.websocket.wire_protocol.Carrier`."""
        return MAX_TURN

    async def wait_idle(self, *, urgent: bool = False) -> None:  # noqa: ARG002
        """See `cotun_trio.websocket.wire_protocol.Carrier`."""
        while self.busy and not self.ended.is_set():
            await self._idle.park()
        if self.ended.is_set():
            raise trio.BrokenResourceError("the connection is lost")

    def send(self, data: memoryview | bytearray) -> None:
        """See `cotun_trio.websocket.wire_protocol.Carrier`."""
        if not self.ended.is_set():
            self.bytes_out += len(data)
            self.peer._data += data  # noqa: SLF001
            self.peer._news.unpark_all()  # noqa: SLF001

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes of trio-websocket."""
        if not self.ended.is_set():
            self.peer._control.append(bytes(data))  # noqa: SLF001
            self.peer._news.unpark_all()  # noqa: SLF001
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Return: `send_all` never blocks."""
        await trio.lowlevel.checkpoint()

    async def run_writer(self) -> None:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`: there is nothing left to do."""
        await self.ended.wait()

    # ---- ending

    def fail(self, error: CotunError) -> None:
        """End it because of `error`."""
        self._end(error)

    async def part(self) -> None:
        """Say that nothing more comes, and wait for the peer to say the same."""
        if self.ended.is_set():
            return
        self._tell_peer()
        while not self._peer_is_done:
            await self._news.park()

    def close(self) -> None:
        """Let the peer see that this end has gone."""
        self._end(ConnectionLost("the connection was closed"))
        self._tell_peer()

    async def aclose(self) -> None:
        """See `close`."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _tell_peer(self) -> None:
        self.peer._peer_is_done = True  # noqa: SLF001
        self.peer._news.unpark_all()  # noqa: SLF001

    def _end(self, failure: CotunError) -> None:
        if self.failure is None:
            self.failure = failure
        self.ended.set()
        self._news.unpark_all()
        self._idle.unpark_all()


def memory_wires() -> tuple[MemoryWire, MemoryWire]:
    """Return the two ends of a new connection."""
    one, other = MemoryWire(), MemoryWire()
    one.peer, other.peer = other, one
    return one, other
