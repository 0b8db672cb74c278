"""The PROXY header at the beginning of an accepted connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.protocol.proxy_header import MAX_BINARY, HeaderReader

if TYPE_CHECKING:
    from cotun_trio.protocol.proxy_header import ProxyHeader

TIMEOUT = 5.0
"""Seconds for the whole header: it leaves before anything else, so a lost segment is the worst."""


async def read_header(sock: socket.socket) -> ProxyHeader:
    """Take the header from `sock`, and leave every byte behind it there.

    So the next reader has a connection like any other, with TLS on it or not.  Raises
    `ProtocolError` where there is none in time, and `ConnectionLost`.
    """
    reader = HeaderReader()
    with trio.move_on_after(TIMEOUT):
        while True:
            try:
                data = sock.recv(MAX_BINARY, socket.MSG_PEEK)
                if not data:
                    raise ConnectionLost("closed without a PROXY header")
                header = reader.feed(data)
                sock.recv(len(data) - len(reader.rest))
            except BlockingIOError:
                await wait_readable(sock)
            except OSError as error:
                raise ConnectionLost(f"connection lost: {error.strerror}") from None
            else:
                if header is not None:
                    return header
    raise ProtocolError(f"PROXY: no header in {TIMEOUT:g} s")
