"""SOCKS5 through the tunnel: an entry that understands the request, and an exit that dials.

Entry and exit speak SOCKS to each other on a channel to ``socks``, as the Go programs do, so that
either can be one of theirs.  But where theirs passes bytes on blindly, our entry takes the greeting
itself: that is what lets a listener ask for a password, and what makes UDP ASSOCIATE possible,
whose datagrams arrive at the entry (`cotun_trio.forwards.association`).

Names are never looked up at the entry.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, CotunError, DialFailed, OpenRefused, ProtocolError
from cotun_trio.forwards.association import associate
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.streams import carry
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.sockets import close
from cotun_trio.protocol.socks5 import (
    Command,
    Reply,
    ReplyReader,
    ServerHandshake,
    SocksError,
    greeting,
    reply,
)
from cotun_trio.protocol.target import Target
from cotun_trio.ssh import messages
from cotun_trio.ssh.stream import ChannelStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.protocol.socks5 import (
        Answer,
        Request,
    )
    from cotun_trio.ssh.openings import IncomingOpen

GREETING_TIMEOUT = 10.0
"""Seconds for everything up to the request."""
DRAIN_TIMEOUT = 1.0
"""Seconds for a client that is refused to notice."""
MAX_DRAINED = 16
"""Reads of data that it sends meanwhile."""
ANSWER_TIMEOUT = 60.0
"""Seconds for the exit to answer: it gives up dialling before that."""

_REPLIES = {
    errno.ECONNREFUSED: Reply.CONNECTION_REFUSED,
    errno.ENETUNREACH: Reply.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reply.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Reply.TTL_EXPIRED,
    errno.EACCES: Reply.NOT_ALLOWED,
}


async def _receive_request(
    stream: trio.abc.HalfCloseableStream, credentials: tuple[str, str] | None
) -> tuple[Request, bytes]:
    """Take a client's part of the greeting; return its request, and the data behind it.

    Raises `CotunError` after the client has had an answer, where there is one for the error.
    """
    handshake = ServerHandshake(credentials)
    try:
        with trio.fail_after(GREETING_TIMEOUT):
            request = None
            while request is None:
                data = await stream.receive_some()
                if not data:
                    raise ConnectionLost("SOCKS: closed before there was a request")
                request = handshake.feed(bytes(data))
                if out := handshake.take_out():
                    await stream.send_all(out)
            return request, handshake.rest
    except trio.TooSlowError:
        raise ProtocolError(f"SOCKS: no request in {GREETING_TIMEOUT:g} s") from None
    except SocksError as error:
        await stream.send_all(handshake.take_out() + error.reply)
        await _drain(stream)
        raise


async def _drain(stream: trio.abc.HalfCloseableStream) -> None:
    """Let the client read its answer: a socket that is closed with bytes unread is reset at
    once."""
    await stream.send_eof()
    with trio.move_on_after(DRAIN_TIMEOUT):
        for _ in range(MAX_DRAINED):
            if not await stream.receive_some():
                return


# ---- the entry


async def serve_client(
    session: OpenSession, sock: socket.socket, credentials: tuple[str, str] | None, log: Context
) -> None:
    """Serve a SOCKS client that has connected here.  Owns `sock`.

    With `credentials`, a user and a password, the client has to know them.
    """
    # Only for the greeting: the socket itself stays ours, and goes to the relay.
    near = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    try:
        request, early = await _receive_request(near, credentials)
        log = log.within(target=request.address)
        if request.command is Command.CONNECT:
            await _connect_through(session, sock, near, request, early, log)
        elif request.command is Command.UDP_ASSOCIATE and sock.family != socket.AF_UNIX:
            await associate(session, sock, near, request, log)
        else:
            await near.send_all(reply(Reply.COMMAND_NOT_SUPPORTED))
    except (CotunError, trio.BrokenResourceError) as error:
        log.failed(error)
    finally:
        close(sock)


async def _connect_through(
    session: OpenSession,
    sock: socket.socket,
    near: trio.SocketStream,
    request: Request,
    early: bytes,
    log: Context,
) -> None:
    """Have the exit connect, pass its answer on, and relay."""
    try:
        channel = await session.connection.open_channel(b"socks")
    except OpenRefused as error:
        prohibited = error.code == messages.OPEN_PROHIBITED
        code = Reply.NOT_ALLOWED if prohibited else Reply.GENERAL_FAILURE
        await near.send_all(reply(code))
        raise
    far = ChannelStream(channel)
    try:
        await far.send_all(greeting() + request.raw)
        answer, behind = await _receive_answer(far)
        await near.send_all(answer.raw + behind)
        if answer.code is not Reply.SUCCEEDED:
            reason = answer.code.name.lower().replace("_", " ")
            log.refused(reason)
            return
        if early:
            await far.send_all(early)
        await carry(Relay(channel, sock), log)
    finally:
        channel.close()


async def _receive_answer(far: ChannelStream) -> tuple[Answer, bytes]:
    """Return the exit's answer, and the data behind it."""
    reader = ReplyReader()
    with trio.move_on_after(ANSWER_TIMEOUT):
        while data := await far.receive_some():
            if (answer := reader.feed(data)) is not None:
                return answer, reader.rest
        raise ConnectionLost("SOCKS: the exit closed without an answer")
    raise ConnectionLost("SOCKS: no answer from the exit")


# ---- the exit


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
    try:
        request, early = await _receive_request(far, None)
        log = log.within(to=request.address)
        if request.command is not Command.CONNECT:
            await far.send_all(reply(Reply.COMMAND_NOT_SUPPORTED))
            await far.send_eof()
            return
        # Port 0 is no target; that it cannot be reached, the system says.
        target = Target(request.host, request.port) if request.port else None
        reason = None if target is None else await refusal(target)
        if reason is not None:
            await far.send_all(reply(Reply.NOT_ALLOWED))
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
            await far.send_all(reply(_REPLIES.get(error.errno, Reply.GENERAL_FAILURE)))
            await far.send_eof()
            raise
        try:
            await far.send_all(reply(Reply.SUCCEEDED, *sock.getsockname()[:2]))
            if early:
                await trio.SocketStream(trio.socket.from_stdlib_socket(sock)).send_all(early)
        except BaseException:
            close(sock, reset=True)
            raise
        await carry(Relay(channel, sock), log)
    except (CotunError, trio.BrokenResourceError) as error:
        log.failed(error)
    finally:
        channel.close()
