"""Visitors: those who connect to a listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.endpoints import Endpoint, Endpoints

if TYPE_CHECKING:
    import socket


class Visitor:
    """A visitor, by the peer's `address` of the `socket` module, or by what a PROXY header said.

    `str` gives ``host:port``, or ``local`` for one on a Unix socket, which has no address.
    """

    __slots__ = ("_address", "_said")

    def __init__(self, address: object, said: Endpoints | None = None) -> None:
        self._address = address
        self._said = said

    @property
    def host(self) -> str:
        """The IP address; empty where there is none."""
        if self._said is not None:
            return self._said.source.host
        return self._address[0] if isinstance(self._address, tuple) else ""

    def endpoints(self, sock: socket.socket) -> Endpoints | None:
        """Return both ends of its connection, which is `sock`; None where they have no address."""
        if self._said is not None:
            return self._said
        source = Endpoint.from_socket(self._address)
        try:
            destination = Endpoint.from_socket(sock.getsockname())
        except OSError:  # it was reset meanwhile
            return None
        return None if source is None or destination is None else Endpoints(source, destination)

    def __str__(self) -> str:
        if self._said is not None:
            return str(self._said.source)
        address = self._address
        return join_host_port(*address[:2]) if isinstance(address, tuple) else "local"
