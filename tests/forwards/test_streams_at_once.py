"""Both ends of a stream: the steps that are made before any other task runs."""

from __future__ import annotations

import logging
import socket
import types
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost
from cotun_trio.forwards import streams
from cotun_trio.logs import Context
from cotun_trio.net.names import share_of
from cotun_trio.net.sockets import close
from cotun_trio.protocol.target import Target
from tests.forwards.test_relay import check_reset, keep_little, pattern
from tests.support.leaks import descriptors
from tests.support.sockets import (
    receive_exactly,
    receive_rest,
    send_all,
    tcp_listener,
    tcp_pair,
    until,
)
from tests.support.ssh_connection import ConnectionPair, send
from tests.support.targets import free_port

if TYPE_CHECKING:
    from cotun_trio.ssh.channel import Channel

pytestmark = pytest.mark.usefixtures("each_way_to_wait")

LOG = Context(logging.getLogger("cotun.test"))


def begin_out(pair: ConnectionPair, sock: socket.socket) -> streams.Outgoing:
    """Begin with a connection that the client has accepted."""
    link: Any = types.SimpleNamespace(connection=pair.client)
    return streams.Outgoing(link, sock, b"x", LOG)


def begin_out_with(pair: ConnectionPair, sock: socket.socket, header: bytes) -> streams.Outgoing:
    """Do the same with a header for the target."""
    link: Any = types.SimpleNamespace(connection=pair.client)
    return streams.Outgoing(link, sock, b"x", LOG, header)


def confirm(pair: ConnectionPair) -> Channel:
    """Have the server confirm the channel that the client asks for, and the client know."""
    pair.pump()
    far = pair.handlers["server"].openings.pop().confirm()
    pair.pump()
    return far


def begin_in(pair: ConnectionPair, port: int) -> list[streams.Incoming]:
    """Have the server begin with the next channel in the read that brings the wish for it."""
    begun = []

    def requested(opening: Any) -> None:
        target = Target("127.0.0.1", port)
        begun.append(
            streams.Incoming(opening, target, share=share_of("a peer"), timeout=30, log=LOG)
        )

    pair.handlers["server"].channel_requested = requested  # type: ignore[method-assign]
    return begun


async def test_the_wish_leaves_with_the_accepting() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, _):
        begin_out(pair, sock)
        pair.pump()
        assert [opening.extra for opening in pair.handlers["server"].openings] == [b"x"]
        close(sock)


async def test_what_waits_on_a_socket_leaves_in_the_read_that_brings_its_channel() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        await send_all(app, b"hello")
        await trio.lowlevel.wait_readable(sock)
        outgoing = begin_out(pair, sock)
        far = confirm(pair)
        assert far.take(100) == b"hello"
        await send_all(app, b" again")
        app.shutdown(socket.SHUT_WR)
        send(far, b"hi!")
        far.send_eof()
        pair.pump()
        await outgoing.run()
        pair.pump()
        assert far.take(100) == b" again"
        assert await receive_rest(app) == b"hi!"


async def test_a_header_goes_first_when_there_is_a_channel() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        await send_all(app, b"hello")
        app.shutdown(socket.SHUT_WR)
        await trio.lowlevel.wait_readable(sock)
        outgoing = begin_out_with(pair, sock, b"PROXY ...")
        far = confirm(pair)
        far.send_eof()
        pair.pump()
        await outgoing.run()
        pair.pump()
        assert far.take(100) == b"PROXY ...hello"


async def test_a_header_waits_for_new_keys() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        await send_all(app, b"hello")
        outgoing = begin_out_with(pair, sock, b"PROXY ...")
        far = confirm(pair)
        pair.client.engine.start_rekey()
        pair.client.start()
        assert not pair.client.channels[0].sendable
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outgoing.run)
            await trio.testing.wait_all_tasks_blocked()
            assert far.take(100) == b""
            nursery.start_soon(pair.pump_forever)
            await until(lambda: far.bytes_in >= len(b"PROXY ...hello"))
            assert far.take(100) == b"PROXY ...hello"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("by", ["cancelling", "a lost session"])
async def test_a_connection_that_ends_before_its_header_is_reset(by: str) -> None:
    before = descriptors()
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        outgoing = begin_out_with(pair, sock, b"PROXY ...")
        far = confirm(pair)
        pair.client.engine.start_rekey()
        pair.client.start()
        if by == "cancelling":
            with trio.move_on_after(0):
                await outgoing.run()
        else:
            pair.lose(ConnectionLost("cut"))
            await outgoing.run()
        await check_reset(app)
        assert far.take(100) == b""
    assert descriptors() == before


async def test_an_end_that_is_there_by_then_is_passed_on() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        app.shutdown(socket.SHUT_WR)
        await trio.lowlevel.wait_readable(sock)
        outgoing = begin_out(pair, sock)
        far = confirm(pair)
        assert far.eof_received
        send(far, b"and yet")
        far.send_eof()
        pair.pump()
        await outgoing.run()
        assert await receive_rest(app) == b"and yet"


async def test_a_connection_that_is_reset_by_then_closes_its_channel() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        close(app, reset=True)
        await trio.lowlevel.wait_readable(sock)
        outgoing = begin_out(pair, sock)
        far = confirm(pair)
        assert far.close_received
        await outgoing.run()
        assert sock.fileno() < 0


async def test_what_a_socket_does_not_take_before_there_is_a_task_is_written_by_it() -> None:
    pair = ConnectionPair()
    data = pattern(2**20)
    with tcp_pair() as (sock, app):
        keep_little(sock)
        keep_little(app)
        outgoing = begin_out(pair, sock)
        far = confirm(pair)
        assert send(far, data) == len(data)
        far.send_eof()
        pair.pump()
        assert pair.client.channels[0]._backlog
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outgoing.run)
            assert await receive_exactly(app, len(data)) == data
            nursery.cancel_scope.cancel()


async def test_a_session_that_is_lost_before_there_is_a_task_resets_the_connection() -> None:
    before = descriptors()
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        outgoing = begin_out(pair, sock)
        confirm(pair)
        pair.lose(ConnectionLost("cut"))
        await outgoing.run()
        await check_reset(app)
    assert descriptors() == before


async def test_cancelled_when_its_channel_is_there_a_connection_is_reset() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        outgoing = begin_out(pair, sock)
        far = confirm(pair)
        with trio.move_on_after(0):
            await outgoing.run()
        pair.pump()
        assert far.close_received
        await check_reset(app)


async def test_a_target_on_this_machine_is_there_in_the_read_that_brings_the_wish() -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app), tcp_listener() as listener:
        begun = begin_in(pair, listener.getsockname()[1])
        await send_all(app, b"hello")
        await trio.lowlevel.wait_readable(sock)
        outgoing = begin_out(pair, sock)
        pair.pump()
        (far,) = pair.server.channels.values()
        target, _ = listener.accept()
        with target:
            target.setblocking(False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.pump_forever)
                nursery.start_soon(outgoing.run)
                nursery.start_soon(begun[0].run)
                assert await receive_exactly(target, 5) == b"hello"
                await send_all(target, b"hi!")
                assert await receive_exactly(app, 3) == b"hi!"
                nursery.cancel_scope.cancel()
        assert far.close_sent


@pytest.mark.parametrize("cut", [False, True])
async def test_a_target_on_this_machine_that_refuses_is_found_out_by_the_task(cut: bool) -> None:
    pair = ConnectionPair()
    with tcp_pair() as (sock, app):
        begun = begin_in(pair, free_port())
        outgoing = begin_out(pair, sock)
        pair.pump()
        assert not pair.server.channels
        if cut:
            pair.lose(ConnectionLost("cut"))
        await begun[0].run()
        pair.pump()
        await outgoing.run()
        await check_reset(app)
