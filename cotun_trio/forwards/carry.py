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

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.openings import IncomingOpen

Continuation: TypeAlias = Callable[[], Awaitable[None]]


def carry_out(
    session: OpenSession, sock: socket.socket, remote: Remote, log: Context
) -> Continuation:
    """Carry a connection that was accepted here for `remote`.  Owns `sock`."""
    if remote.socks:
        return partial(proxy_entry.serve_client, session, sock, remote.socks_auth, log)
    return streams.Outgoing(session, sock, remote.channel_target, log).run


def carry_in(
    session: OpenSession,
    opening: IncomingOpen,
    target: Target,
    refusal: Callable[[Target], Awaitable[str | None]],
    check: Callable[[Target], AddressCheck | None],
    timings: Timings,
    log: Context,
) -> Continuation:
    """Open a channel to `target`, which the peer may have, and carry it.

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
    ).run
