"""A `Transport` without a socket."""

from __future__ import annotations

import trio


class MemoryTransport:
    """Gives `pieces` one by one, none of them empty, and then the end; keeps what is sent."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in reversed(pieces) if piece]
        self.sent = bytearray()
        self.unread = b""

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._pieces.pop() if self._pieces else b""

    async def send_all(self, data: bytes) -> None:
        """See `Transport.send_all`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.sent += data

    def left(self) -> bytes:
        """Return what nobody has received."""
        return b"".join(reversed(self._pieces))
