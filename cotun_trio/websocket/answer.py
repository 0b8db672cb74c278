"""The answer to an upgrade, as wsproto has to see it.

It looks at the last line of a header only, where there are several (RFC 9110 section 5.3), so it is
shown a head with one line for each of the headers that count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cotun_trio.protocol.http_answer import members, read_fields

if TYPE_CHECKING:
    from cotun_trio.websocket.trace import TracedStream
    from cotun_trio.websocket.wire_protocol import WireProtocol

BLANK_LINE = re.compile(rb"\n\r?\n")
"""The end of a head, as h11 sees it: it takes bare line feeds."""
_SHOWN = (
    (b"Upgrade", True),
    (b"Connection", True),
    (b"Sec-WebSocket-Accept", False),
    (b"Sec-WebSocket-Protocol", False),
    (b"Sec-WebSocket-Extensions", False),
)
"""The headers that count, and whether their case does not."""


def one_line_each(head: bytes) -> bytes:
    """Return the head of an answer with one line for each header that counts, and no other.

    What h11 may find fault with is left as it is.
    """
    fields = read_fields(head)
    if head.count(b"\n") != len(fields) + 2:  # a line that is no header, or goes on in the next
        return head
    lines = [head.partition(b"\n")[0].rstrip(b"\r")]
    for name, any_case in _SHOWN:
        found = members(fields, name.lower())
        if any_case:
            found = [member.lower() for member in found]
        if found:
            lines.append(name + b": " + b", ".join(dict.fromkeys(found)))
    return b"\r\n".join(lines) + b"\r\n\r\n"


class AnswerStream:
    """The stream of a client under trio-websocket, with the head of the answer rewritten."""

    def __init__(self, stream: WireProtocol | TracedStream) -> None:
        self._stream = stream
        self._head: bytearray | None = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `cotun_trio.websocket.wire.Wire`: the head comes as a whole."""
        while self._head is not None:
            data = await self._stream.receive_some(max_bytes)
            self._head += data
            if not data:
                return data
            if BLANK_LINE.search(self._head):
                head, self._head = bytes(self._head), None
                return one_line_each(head)
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `cotun_trio.websocket.wire.Wire`."""
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        """See `cotun_trio.websocket.wire.Wire`."""
        await self._stream.aclose()
