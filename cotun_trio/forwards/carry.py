"""Which kind of forward a connection gets: by its remote where it enters, by its target where it
leaves.

Both begin to carry it at once, as far as that goes without waiting, and return a function for the
rest, which has to be run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cotun_trio.forwards import proxy_entry, socks_exit, streams, udp_exit
from cotun_trio.protocol.proxy_header import proxy_header
from cotun_trio.protocol.visitor_address import with_visitor

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.forwards.visitor import Visitor
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.openings import IncomingOpen

Continuation: TypeAlias = Callable[[], Awaitable[None]]


def carry_out(
    session: OpenSession, sock: socket.socket, visitor: Visitor, remote: Remote, log: Context
) -> Continuation:
    """Carry a visitor's connection that was accepted here for `remote`.  Owns `sock`.

    A client is told whom it is from, if it is one of ours.  A server is not: what there is around
    the client is none of its business, and the header that a target may want goes in the channel.
    """
    if remote.socks:
        return partial(proxy_entry.serve_client, session, sock, remote.socks_auth, log)
    target, header = remote.channel_target, b""
    if remote.reverse:
        if session.flows.tells_visitors:
            target = with_visitor(target, visitor.endpoints(sock))
    elif remote.options.proxy:
        header = proxy_header(remote.options.proxy, visitor.endpoints(sock))
    return streams.Outgoing(session, sock, target, log, header).run


def carry_in(
    session: OpenSession,
    opening: IncomingOpen,
    target: Target,
    refusal: Callable[[Target], Awaitable[str | None]],
    check: Callable[[Target], AddressCheck | None],
    timings: Timings,
    log: Context,
    header: bytes = b"",
) -> Continuation:
    """Open a channel to `target`, which the peer may have, and carry it, `header` first.

    `refusal` says why a SOCKS client may not have a connection to a target; None if it may.
    `check` returns the check of the addresses that the name of a target leads to, if there is one.
    """
    if target.socks:
        return partial(
            socks_exit.serve_channel,
            session,
            opening,
            refusal,
            check,
            timeout=timings.dial_timeout,
            log=log,
        )
    if target.udp:
        return partial(
            udp_exit.serve_channel,
            session,
            opening,
            target.host,
            target.port,
            idle=timings.udp_deadline,
            max_size=timings.udp_max_size,
            most=timings.udp_max_conns,
            log=log,
            check=check(target),
        )
    return streams.Incoming(
        opening,
        target,
        share=session.share,
        timeout=timings.dial_timeout,
        log=log,
        check=check(target),
        header=header,
    ).run
