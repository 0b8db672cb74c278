"""Visitors of a server and of its clients' reverse remotes, and what a balancer says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.counts import meters
from cotun_trio.errors import ProtocolError
from cotun_trio.forwards.admission import BAD_HEADER, Admission
from cotun_trio.net.proxy_protocol import read_header

if TYPE_CHECKING:
    import socket

    from cotun_trio.logs import Context
    from cotun_trio.settings import ServerSettings


def admission_by(settings: ServerSettings) -> Admission:
    """Return the rules for the visitors of reverse remotes."""
    return Admission(accept_proxy=settings.accept_proxy).limited_to(settings.reverse_allow)


async def announced(sock: socket.socket, log: Context) -> tuple[str, int] | None:
    """Return the host and the port that a balancer's connection is from, by its PROXY header.

    None where it is from the balancer itself.  Raises `CotunError`; a missing header is logged.
    """
    try:
        header = await read_header(sock)
    except ProtocolError as error:
        meters().visitors.add(BAD_HEADER)
        log.refused(error)
        raise
    if header.endpoints is None:
        return None
    source = header.endpoints.source
    log.debug("from %s, by its PROXY header", source)
    return source.host, source.port
