"""For ``-vv``: a line in the log for each control frame of the WebSocket, and for its handshake.

Data frames never get to trio-websocket, and are traced as SSH messages (`cotun_trio.ssh.trace`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotun_trio.logs import Context
    from cotun_trio.websocket.wire_protocol import WireProtocol

_CONTROL = {8: "close", 9: "ping", 10: "pong"}  # RFC 6455 section 5.2


class TracedStream:
    """The stream of `wire` under trio-websocket, with its frames logged."""

    def __init__(self, wire: WireProtocol, log: Context) -> None:
        self._wire = wire
        self._log = log

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `cotun_trio.websocket.wire.Wire`."""
        data = await self._wire.receive_some(max_bytes)
        self._trace("received", data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `cotun_trio.websocket.wire.Wire`."""
        self._trace("sent", data)
        await self._wire.send_all(data)

    async def aclose(self) -> None:
        """See `cotun_trio.websocket.wire.Wire`."""
        await self._wire.aclose()

    def _trace(self, verb: str, data: bytes | bytearray | memoryview) -> None:
        at = 0
        while at + 1 < len(data):
            name = _CONTROL.get(data[at] & 0x0F) if data[at] & 0x80 else None
            if name is None:
                self._log.trace("%s %d bytes of the handshake", verb, len(data) - at)
                return
            size = data[at + 1] & 0x7F
            self._log.trace("%s WebSocket %s, %d bytes", verb, name, size)
            at += 2 + size + (4 if data[at + 1] & 0x80 else 0)
