"""The listening end of a remote, whatever its kind, for either role.

A client's listeners live as long as the client and see sessions come and go; a server's are part of
the session that asked for them.  Both open them here, before a peer is promised anything.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import UsageError
from cotun_trio.forwards.admission import EVERYBODY, Gate
from cotun_trio.forwards.drops import Drops
from cotun_trio.forwards.udp_listener import UdpListener
from cotun_trio.forwards.visitor import Visitor
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.descriptors import is_reserved
from cotun_trio.net.dial import open_listeners, show_addresses
from cotun_trio.net.sockets import close, duplicates
from cotun_trio.net.unix import listen_unix, remove_socket_file
from cotun_trio.protocol.addresses import is_wildcard

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.forwards.admission import Admission
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote

    Accepted = Callable[[Remote, socket.socket, Visitor], None]
    """Takes over a connection of a visitor."""


class Listener:
    """The open sockets of one remote.  Made by `open_listener`; `close` it."""

    def __init__(self, remote: Remote, sockets: list[socket.socket]) -> None:
        self.remote = remote
        self.addresses = (
            [f"unix:{remote.local_path}"] if remote.local_path else show_addresses(sockets)
        )
        """Where it listens: ``host:port``, with the real port, or ``unix:/path``."""
        self._sockets = sockets

    @property
    def is_in_reserve(self) -> bool:
        """Whether it has descriptors that are not for forwards."""
        return any(map(is_reserved, self._sockets))

    def duplicates(self) -> list[socket.socket]:
        """Return its sockets once more, for another listener at the same place.

        They stay open when this one is closed.  None where there are no descriptors left.
        """
        return duplicates(self._sockets)

    async def serve(
        self,
        accepted: Accepted,
        current: Callable[[], OpenSession | None],
        *,
        udp_max_size: int,
        log: Context,
        admission: Admission = EVERYBODY,
    ) -> None:
        """Give connections to `accepted`; send datagrams through the session of `current`.

        The visitors have to be those of `admission`, and those that the remote allows; but who may
        come to a Unix socket, the modes of its file say.  Ends when it is cancelled, and when
        it is closed.
        """
        remote = self.remote
        log = log.within(remote=remote)
        admission = EVERYBODY if remote.local_path else admission.limited_to(remote.options.allow)

        def let_in(sock: socket.socket, visitor: Visitor) -> None:
            accepted(remote, sock, visitor)

        def take(sock: socket.socket, address: object) -> None:
            if is_reserved(sock):
                close(sock, reset=True)
            else:
                enter(sock, Visitor(address))

        async with trio.open_nursery() as nursery:
            enter = let_in
            if not admission.is_open:
                enter = Gate(admission, let_in, nursery.start_soon, log).take
            drops = Drops(log, nursery.start_soon)
            async with trio.open_nursery() as listening:
                for sock in self._sockets:
                    if remote.udp:
                        listener = UdpListener(
                            sock, remote, drops, max_size=udp_max_size, log=log, admission=admission
                        )
                        listening.start_soon(listener.serve, current)
                    else:
                        listening.start_soon(accept_forever, sock, take)
            nursery.cancel_scope.cancel()  # it is closed: nobody else comes in

    def close(self) -> None:
        """Close the sockets, and remove a Unix socket's file.  Can be called again."""
        for sock in self._sockets:
            close(sock)
        if self.remote.local_path and self._sockets:
            remove_socket_file(self.remote.local_path)
        self._sockets = []


async def open_listener(
    remote: Remote, share: Share | None = None, *, interface: str | None = None
) -> Listener:
    """Listen for `remote`.  Raises `UsageError`, with nothing left open.

    For a peer, names are looked up in its `share`, and the reserve of descriptors is not used.  A
    remote for all interfaces listens on `interface` only, if that is given.
    """
    if remote.local_path:
        listener = Listener(remote, [listen_unix(remote.local_path)])
    else:
        kind = socket.SOCK_DGRAM if remote.udp else socket.SOCK_STREAM
        host = remote.local_host
        if interface is not None and is_wildcard(host):
            host = interface
        sockets = await open_listeners(host, remote.local_port, kind, share=share)
        listener = Listener(remote, sockets)
    if share is not None and listener.is_in_reserve:
        listener.close()
        where = listener.addresses[0]
        raise UsageError(f"cannot listen on {where}: {os.strerror(errno.EMFILE)}")
    return listener
