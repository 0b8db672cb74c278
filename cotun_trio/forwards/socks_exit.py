"""A proxy through the tunnel, its exit: a SOCKS 5 server in a channel to ``socks``, which dials.

It is that of the Go programs, so that the entry can be one of theirs; ours is
`cotun_trio.forwards.proxy_entry`.  It asks for no login: the tunnel has one.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import CotunError, DialFailed
from cotun_trio.forwards.proxy_requests import receive_request
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.streams import carry
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.sockets import close
from cotun_trio.protocol.proxy_request import Command, Reply
from cotun_trio.protocol.socks5 import Socks5Handshake
from cotun_trio.protocol.target import Target
from cotun_trio.ssh.stream import ChannelStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.ssh.openings import IncomingOpen

_REPLIES = {
    errno.ECONNREFUSED: Reply.CONNECTION_REFUSED,
    errno.ENETUNREACH: Reply.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reply.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Reply.TTL_EXPIRED,
    errno.EACCES: Reply.NOT_ALLOWED,
}


async def serve_channel(
    session: OpenSession,
    opening: IncomingOpen,
    refusal: Callable[[Target], Awaitable[str | None]],
    check: Callable[[Target], AddressCheck | None],
    *,
    timeout: float,
    log: Context,
) -> None:
    """Serve the SOCKS client at the other end of a channel: dial for it, and relay.

    `refusal` returns why it may not have a connection to a target; None if it may.  `check` returns
    the check of the addresses that the name of a target leads to; None where there is none.
    """
    channel = opening.confirm()
    far = ChannelStream(channel)
    handshake = Socks5Handshake()
    try:
        request = await receive_request(far, handshake)
        log = log.within(to=request.address)
        if request.command is not Command.CONNECT:
            await far.send_all(handshake.reply(Reply.COMMAND_NOT_SUPPORTED))
            await far.send_eof()
            return
        # Port 0 is no target; that it cannot be reached, the system says.
        target = Target(request.host, request.port) if request.port else None
        reason = None if target is None else await refusal(target)
        if reason is not None:
            await far.send_all(handshake.reply(Reply.NOT_ALLOWED))
            await far.send_eof()
            log.refused(reason)
            return
        try:
            sock = await dial_tcp(
                request.host,
                request.port,
                timeout=timeout,
                share=session.share,
                check=None if target is None else check(target),
            )
        except DialFailed as error:
            await far.send_all(handshake.reply(_REPLIES.get(error.errno, Reply.GENERAL_FAILURE)))
            await far.send_eof()
            raise
        try:
            await far.send_all(handshake.reply(Reply.SUCCEEDED, *sock.getsockname()[:2]))
            if early := handshake.rest:
                await trio.SocketStream(trio.socket.from_stdlib_socket(sock)).send_all(early)
        except BaseException:
            close(sock, reset=True)
            raise
        await carry(Relay(channel, sock), log)
    except (CotunError, trio.BrokenResourceError) as error:
        log.failed(error)
    finally:
        channel.close()
