"""Which kind of forward a connection gets: by its remote where it enters, by its target where it
leaves.

Both begin to carry it at once, as far as that goes without waiting, and return what does the rest;
somebody has to run that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cotun_trio.forwards import socks5, streams, udp_exit

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.link import Link
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.openings import IncomingOpen

Rest: TypeAlias = Callable[[], Awaitable[None]]


def carry_out(link: Link, sock: socket.socket, remote: Remote, log: Context) -> Rest:
    """Carry a connection that was accepted here for `remote`.  Owns `sock`."""
    if remote.socks:
        return partial(socks5.carry_out, link, sock, remote.socks_auth, log)
    return streams.Outgoing(link, sock, remote.channel_target, log).run


def carry_in(
    link: Link,
    opening: IncomingOpen,
    target: Target,
    refusal: Callable[[Target], Awaitable[str | None]],
    timings: Timings,
    log: Context,
) -> Rest:
    """Open a channel to `target`, which the peer may have, and carry it.

    `refusal` says why a SOCKS client may not have a connection to what it asks for; None if it may.
    """
    if target.socks:
        return partial(
            socks5.carry_in, link, opening, refusal, timeout=timings.dial_timeout, log=log
        )
    if target.udp:
        return partial(
            udp_exit.carry_in,
            link,
            opening,
            target.host,
            target.port,
            idle=timings.udp_deadline,
            max_size=timings.udp_max_size,
            log=log,
        )
    return streams.Incoming(
        opening, target, share=link.share, timeout=timings.dial_timeout, log=log
    ).run
