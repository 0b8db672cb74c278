"""How a stream goes to its reader.

The reader sets the pace: the next part is made when the last one has been sent, so that a slow
reader costs a socket and no memory.
"""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.http.front import response_head

if TYPE_CHECKING:
    from cotun_trio.admin.answers import Stream
    from cotun_trio.net.transport import Transport

PATIENCE = 10.0
"""Seconds for which a reader may take nothing of what is for it."""
MAX_DROPPED = 64 * 1024
"""Bytes that a reader may send, which has nothing to say: they are dropped."""


async def send_stream(transport: Transport, stream: Stream, *, with_body: bool) -> None:
    """Send a stream until its reader closes the connection, or for `PATIENCE` takes nothing.

    Raises `ConnectionLost`.  When cancelled, it ends at once.
    """
    head = response_head(HTTPStatus.OK, stream.content_type, stream.lines)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_left, transport, nursery.cancel_scope)
        try:
            await transport.send_all(head, idle=PATIENCE)
            while with_body:
                await transport.send_all(await stream.next_part(), idle=PATIENCE)
        except (trio.TooSlowError, ConnectionLost):
            pass
        nursery.cancel_scope.cancel()


async def _until_left(transport: Transport, sending: trio.CancelScope) -> None:
    """Cancel `sending` when the reader has left, or says too much."""
    dropped = 0
    with contextlib.suppress(ConnectionLost):
        while dropped <= MAX_DROPPED and (data := await transport.receive()):
            dropped += len(data)
    sending.cancel()
