"""Receiving the request of a proxy's client, at the entry of a tunnel and at its exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.protocol.proxy_request import RequestError

if TYPE_CHECKING:
    from cotun_trio.protocol.proxy_request import Handshake, Request

REQUEST_TIMEOUT = 10.0
"""Seconds for everything up to the request."""
DRAIN_TIMEOUT = 1.0
"""Seconds for a client that is refused to notice."""
MAX_DRAINED = 16
"""Reads of data that it sends meanwhile."""


async def receive_request(stream: trio.abc.HalfCloseableStream, handshake: Handshake) -> Request:
    """Return a client's request; the data behind it are the `handshake`'s `rest`.

    Raises `CotunError` after the client has had an answer, where there is one for the error.
    """
    try:
        with trio.fail_after(REQUEST_TIMEOUT):
            request = None
            while request is None:
                data = await stream.receive_some()
                if not data:
                    raise ConnectionLost("proxy: closed before there was a request")
                request = handshake.feed(bytes(data))
                if out := handshake.take_out():
                    await stream.send_all(out)
            return request
    except trio.TooSlowError:
        raise ProtocolError(f"proxy: no request in {REQUEST_TIMEOUT:g} s") from None
    except RequestError as error:
        await refuse(stream, handshake.take_out() + error.reply)
        raise


async def refuse(stream: trio.abc.HalfCloseableStream, reply: bytes) -> None:
    """Send a client its last answer, and let it read that: a socket that is closed with bytes
    unread is reset at once."""
    await stream.send_all(reply)
    await stream.send_eof()
    with trio.move_on_after(DRAIN_TIMEOUT):
        for _ in range(MAX_DRAINED):
            if not await stream.receive_some():
                return
