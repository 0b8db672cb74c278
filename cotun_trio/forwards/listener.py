"""The listening end of a remote, whatever its kind, for either role.

A client's listeners live as long as the client and see sessions come and go; a server's are part of
the session that asked for them.  Both open them here, before anything is promised to anybody.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.forwards.udp import UdpListener
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.net.sockets import close
from cotun_trio.net.unix import listen_unix, remove_socket_file
from cotun_trio.protocol.addresses import join_host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.forwards.link import Link
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote

    Accepted = Callable[[Remote, socket.socket, str], None]
    """Takes over a connection, and the address of the one who made it."""


class Listener:
    """The open sockets of one remote.  Made by `open_listener`; `close` it."""

    def __init__(self, remote: Remote, sockets: list[socket.socket]) -> None:
        self.remote = remote
        self.addresses = [_show(remote, sock) for sock in sockets]
        """Where it listens: ``host:port``, with the real port, or ``unix:/path``."""
        self._sockets = sockets

    async def serve(
        self,
        accepted: Accepted,
        current: Callable[[], Link | None],
        *,
        udp_max_size: int,
        log: Context,
    ) -> None:
        """Give connections to `accepted`; send datagrams through the session of `current`.

        Ends when it is cancelled, and when somebody closes it.
        """
        remote = self.remote
        async with trio.open_nursery() as nursery:
            for sock in self._sockets:
                if remote.udp:
                    listener = UdpListener(sock, remote, max_size=udp_max_size, log=log)
                    nursery.start_soon(listener.serve, current)
                else:
                    nursery.start_soon(
                        accept_forever,
                        sock,
                        lambda sock, peer: accepted(remote, sock, _show_peer(peer)),
                    )

    def close(self) -> None:
        """Free what was listened on.  Can be called again."""
        for sock in self._sockets:
            close(sock)
        if self.remote.local_path and self._sockets:
            remove_socket_file(self.remote.local_path)
        self._sockets = []


async def open_listener(remote: Remote) -> Listener:
    """Listen for `remote`.  Raises `UsageError`, with nothing left open."""
    if remote.local_path:
        return Listener(remote, [listen_unix(remote.local_path)])
    kind = socket.SOCK_DGRAM if remote.udp else socket.SOCK_STREAM
    return Listener(remote, await open_listeners(remote.local_host, remote.local_port, kind))


def _show(remote: Remote, sock: socket.socket) -> str:
    return f"unix:{remote.local_path}" if remote.local_path else show_address(sock)


def _show_peer(address: object) -> str:
    # Who connects to a Unix socket has no address.
    return join_host_port(*address[:2]) if isinstance(address, tuple) else "local"
