"""A proxy through the tunnel, its entry: the listener that programs here name as their proxy.

It understands SOCKS 5, SOCKS 4 and 4a, and HTTP's CONNECT.  To the exit it speaks SOCKS 5 in any
case, on a channel to ``socks``, as the Go programs do, so that the exit can be one of theirs
(`cotun_trio.forwards.socks_exit` is ours).  But where their entry passes bytes on blindly, ours
takes the client's part of the conversation itself: that is what lets a listener ask for a password,
and what makes UDP ASSOCIATE possible, whose datagrams arrive at the entry
(`cotun_trio.forwards.association`).

Names are never looked up at the entry.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, CotunError, OpenRefused
from cotun_trio.forwards.association import associate
from cotun_trio.forwards.proxy_requests import receive_request, refuse
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.streams import carry
from cotun_trio.net.sockets import close
from cotun_trio.protocol.proxy_handshake import ProxyHandshake
from cotun_trio.protocol.proxy_request import Command, Reply
from cotun_trio.protocol.socks5 import ReplyReader, greeting
from cotun_trio.ssh import messages
from cotun_trio.ssh.stream import ChannelStream

if TYPE_CHECKING:
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.protocol.proxy_request import Request
    from cotun_trio.protocol.socks5 import Answer

ANSWER_TIMEOUT = 60.0
"""Seconds for the exit to answer: it gives up dialling before that."""


async def serve_client(
    session: OpenSession, sock: socket.socket, credentials: tuple[str, str] | None, log: Context
) -> None:
    """Serve a client of the proxy that has connected here.  Owns `sock`.

    With `credentials`, a user and a password, the client has to know them.
    """
    # Only up to the answer: the socket itself stays ours, and goes to the relay.
    near = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    handshake = ProxyHandshake(credentials)
    try:
        request = await receive_request(near, handshake)
        log = log.within(target=request.address)
        if request.command is Command.CONNECT:
            await _connect_through(session, sock, near, handshake, request, log)
        elif request.command is Command.UDP_ASSOCIATE and sock.family != socket.AF_UNIX:
            await associate(session, sock, near, request, log)
        else:
            await refuse(near, handshake.reply(Reply.COMMAND_NOT_SUPPORTED))
    except (CotunError, trio.BrokenResourceError) as error:
        log.failed(error)
    finally:
        close(sock)


async def _connect_through(
    session: OpenSession,
    sock: socket.socket,
    near: trio.SocketStream,
    handshake: ProxyHandshake,
    request: Request,
    log: Context,
) -> None:
    """Have the exit connect, tell the client what has come of it, and relay."""
    try:
        channel = await session.connection.open_channel(b"socks")
    except OpenRefused as error:
        prohibited = error.code == messages.OPEN_PROHIBITED
        code = Reply.NOT_ALLOWED if prohibited else Reply.GENERAL_FAILURE
        await refuse(near, handshake.reply(code))
        raise
    with contextlib.closing(channel):
        far = ChannelStream(channel)
        try:
            answer, behind = await _ask(far, request)
        except (CotunError, trio.BrokenResourceError):
            await refuse(near, handshake.reply(Reply.GENERAL_FAILURE))
            raise
        if answer.code is not Reply.SUCCEEDED:
            log.refused(answer.code.text)
            await refuse(near, handshake.reply(answer.code, answer.host, answer.port))
            return
        await near.send_all(handshake.reply(answer.code, answer.host, answer.port) + behind)
        if early := handshake.rest:
            await far.send_all(early)
        await carry(Relay(channel, sock), log)


async def _ask(far: ChannelStream, request: Request) -> tuple[Answer, bytes]:
    """Pass `request` on to the exit; return its answer, and the data behind that.

    Raises `ConnectionLost`, `ProtocolError` and `trio.BrokenResourceError`.
    """
    await far.send_all(greeting() + request.raw)
    reader = ReplyReader()
    with trio.move_on_after(ANSWER_TIMEOUT):
        while data := await far.receive_some():
            if (answer := reader.feed(data)) is not None:
                return answer, reader.rest
        raise ConnectionLost("SOCKS: the exit closed without an answer")
    raise ConnectionLost("SOCKS: no answer from the exit")
