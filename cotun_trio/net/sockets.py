"""The options of a TCP socket, and the end of a socket."""

from __future__ import annotations

import socket
import struct

from cotun_trio.net.poller import notify_closing

_RESET = struct.pack("ii", 1, 0)
KEEPALIVE = 15
"""Seconds without traffic until the first keepalive probe, and between two: the system's own two
hours are longer than NATs and load balancers remember a connection (240 to 350 s).  Go's figure."""
_KEEPALIVE_OPTIONS = tuple(
    getattr(socket, name)
    # On macOS the first one is TCP_KEEPALIVE.
    for name in (
        "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE",
        "TCP_KEEPINTVL",
    )
    if hasattr(socket, name)
)
"""The options for these seconds, as far as the platform has them."""


def set_nodelay_and_keepalive(sock: socket.socket) -> None:
    """Have a TCP socket send at once, and find out by itself when its peer is gone.

    It sends a probe after `KEEPALIVE` seconds without traffic, which also keeps NATs from
    forgetting it.  The connections of a listener inherit all of this (tcp(7)).
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in _KEEPALIVE_OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, KEEPALIVE)


def set_nonblocking_and_nodelay(sock: socket.socket) -> None:
    """Have a socket never block, and a TCP socket send at once."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def peer_address(sock: socket.socket) -> str:
    """Return the address of a socket's peer, in digits; empty where it has none, or has gone."""
    try:
        name = sock.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def close(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a socket that tasks may be waiting for; with `reset`, so that its peer notices."""
    if sock.fileno() < 0:
        return
    if reset and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    notify_closing(sock)
    sock.close()
