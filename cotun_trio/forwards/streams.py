"""The two ends of a stream: TCP and Unix sockets, in any combination."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cotun_trio.errors import CotunError, DialFailed
from cotun_trio.forwards.relay import Relay
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.sockets import close
from cotun_trio.net.unix import dial_unix
from cotun_trio.ssh import messages
from cotun_trio.stats import show_bytes

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.link import Link
    from cotun_trio.protocol.target import Target
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.requests import Opening

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


async def carry_out(link: Link, sock: socket.socket, target: bytes, log: Log) -> None:
    """Carry a connection that was accepted here to `target` at the peer.  Owns `sock`.

    Where the peer refuses, the socket is reset, and the reason logged.
    """
    try:
        channel = await link.connection.open_channel(target)
    except CotunError as error:
        log.info("refused: %s", error)
        close(sock, reset=True)
        return
    except BaseException:
        close(sock, reset=True)
        raise
    await relay(channel, sock, log)


async def carry_in(opening: Opening, target: Target, *, timeout: float, log: Log) -> None:
    """Dial a target for the peer, and only then accept its channel."""
    try:
        if target.path:
            sock = await dial_unix(target.path, timeout=timeout)
        else:
            sock = await dial_tcp(target.host, target.port, timeout=timeout)
    except DialFailed as error:
        log.info("%s", error)
        opening.refuse(messages.OPEN_CONNECT_FAILED, str(error))
        return
    await relay(opening.confirm(), sock, log)


async def relay(channel: Channel, sock: socket.socket, log: Log) -> None:
    """Relay between a channel and a socket, and log it.  Owns both."""
    log.debug("open")
    try:
        await Relay(channel, sock).run()
    finally:
        if log.isEnabledFor(logging.DEBUG):
            sent, received = show_bytes(channel.bytes_out), show_bytes(channel.bytes_in)
            log.debug("closed, %s sent and %s received", sent, received)
