"""The options of a TCP socket, and the end of a socket."""

from __future__ import annotations

import socket
import struct

from trio.lowlevel import notify_closing

_RESET = struct.pack("ii", 1, 0)


def set_nodelay_and_keepalive(sock: socket.socket) -> None:
    """Have a TCP socket send at once, and find out by itself when its peer is gone.

    The connections of a listener inherit both (tcp(7)).
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def close(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a socket that tasks may be waiting for; with `reset`, so that its peer notices."""
    if sock.fileno() < 0:
        return
    if reset and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    notify_closing(sock)
    sock.close()
