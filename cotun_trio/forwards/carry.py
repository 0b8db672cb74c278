"""Which kind of forward a connection gets: by its remote where it enters, by its target where it
leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.forwards import socks5, streams, udp

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from cotun_trio.forwards.link import Link
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.requests import Opening


async def carry_out(link: Link, sock: socket.socket, remote: Remote, log: Context) -> None:
    """Carry a connection that was accepted here for `remote`.  Owns `sock`."""
    if remote.socks:
        await socks5.carry_out(link, sock, remote.socks_auth, log)
    else:
        await streams.carry_out(link, sock, remote.channel_target, log)


async def carry_in(
    opening: Opening,
    target: Target,
    refusal: Callable[[Target], Awaitable[str | None]],
    timings: Timings,
    log: Context,
) -> None:
    """Open a channel to `target`, which the peer may have, and carry it.

    `refusal` says why a SOCKS client may not have a connection to what it asks for; None if it may.
    """
    if target.socks:
        await socks5.carry_in(opening, refusal, timeout=timings.dial_timeout, log=log)
    elif target.udp:
        await udp.carry_in(
            opening,
            target.host,
            target.port,
            idle=timings.udp_deadline,
            max_size=timings.udp_max_size,
            log=log,
        )
    else:
        await streams.carry_in(opening, target, timeout=timings.dial_timeout, log=log)
