"""The two ends of a stream: one opens a channel for a connection, the other dials for it."""

from __future__ import annotations

import contextlib
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
from cotun_trio.net.dial import dial_at_once, open_listeners
from cotun_trio.net.names import share_of
from cotun_trio.protocol.target import Target
from cotun_trio.ssh import messages
from tests.support.leaks import descriptors
from tests.support.sockets import (
    receive,
    receive_exactly,
    receive_rest,
    send_all,
    tcp_listener,
    tcp_pair,
    unix_pair,
    until,
)
from tests.support.ssh_connection import ConnectionPair
from tests.support.targets import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.ssh.openings import IncomingOpen

pytestmark = pytest.mark.usefixtures("each_way_to_wait")

LOG = Context(logging.getLogger("cotun.test"))
TIMEOUT = 30.0


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Collect what is logged, the lines about single connections included."""
    caplog.set_level(logging.DEBUG, LOG.name)
    return caplog


@contextlib.asynccontextmanager
async def network() -> AsyncIterator[tuple[ConnectionPair, trio.Nursery]]:
    """Give two connections that can talk, and a nursery that is cancelled in the end."""
    pair = ConnectionPair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.pump_forever)
        yield pair, nursery
        nursery.cancel_scope.cancel()


def link(pair: ConnectionPair) -> Any:
    """Return what a forward needs of the client's session."""
    return types.SimpleNamespace(connection=pair.client)


async def next_opening(pair: ConnectionPair) -> IncomingOpen:
    """Return the channel that the client asks the server for."""
    await until(lambda: pair.handlers["server"].openings)
    return pair.handlers["server"].openings.pop()


async def check_reset(sock: socket.socket) -> None:
    """Check that `sock` was reset."""
    with pytest.raises(ConnectionResetError):
        await receive(sock)


async def never(*_: object, **__: object) -> Any:
    await trio.sleep_forever()


def incoming(opening: IncomingOpen, host: str, port: int) -> streams.Incoming:
    """Take a peer's wish for a connection."""
    share = share_of("a peer")
    return streams.Incoming(opening, Target(host, port), share=share, timeout=TIMEOUT, log=LOG)


async def test_a_connection_is_carried_from_one_end_to_the_other(
    said: pytest.LogCaptureFixture,
) -> None:
    with tcp_pair() as (sock, app), tcp_listener() as listener:
        host, port = listener.getsockname()
        async with network() as (pair, nursery):
            carried = trio.Event()

            async def carry_out() -> None:
                await streams.Outgoing(link(pair), sock, b"the target", LOG).run()
                carried.set()

            nursery.start_soon(carry_out)
            opening = await next_opening(pair)
            assert opening.extra == b"the target"
            nursery.start_soon(incoming(opening, host, port).run)
            await trio.lowlevel.wait_readable(listener)
            with listener.accept()[0] as target:
                target.setblocking(False)
                await send_all(app, b"hello")
                assert await receive_exactly(target, 5) == b"hello"
                await send_all(target, b"hi!")
                target.shutdown(socket.SHUT_WR)
                assert await receive_rest(app) == b"hi!"
                app.shutdown(socket.SHUT_WR)
                await carried.wait()
            await until(lambda: len(said.messages) == 4)
        assert sorted(said.messages) == [
            "closed, 3B sent and 5B received",
            "closed, 5B sent and 3B received",
            "open",
            "open",
        ]
        assert {record.levelno for record in said.records} == {logging.DEBUG}


async def test_a_refusal_resets_the_connection_and_is_logged_with_its_reason(
    said: pytest.LogCaptureFixture,
) -> None:
    with tcp_pair() as (sock, app):
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            opening.refuse(messages.OPEN_PROHIBITED, "you may not\n")
            await check_reset(app)
            assert said.messages == [r"refused: you may not\n"]
            assert not pair.client.channels


async def test_a_target_that_refuses_is_a_refusal_that_says_so(
    said: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    with tcp_pair() as (sock, app):
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            codes = []
            refuse = pair.server._table.refuse

            def noting(opening: IncomingOpen, code: int, reason: str) -> None:
                codes.append(code)
                refuse(opening, code, reason)

            pair.server._table.refuse = noting  # type: ignore[method-assign]
            await streams.Incoming(
                opening,
                Target("127.0.0.1", port),
                share=share_of("a peer"),
                timeout=TIMEOUT,
                log=LOG,
            ).run()
            await check_reset(app)
            assert codes == [messages.OPEN_CONNECT_FAILED]
            reason = f"127.0.0.1:{port}: Connection refused"
            assert said.messages == [reason, f"refused: {reason}"]


async def test_a_target_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    async def connect(*_: object, timeout: float, spare: bool) -> Any:
        with trio.fail_after(timeout):
            await trio.sleep_forever()

    monkeypatch.setattr("cotun_trio.net.dial._connect", connect)
    with unix_pair() as (sock, app):
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            await incoming(opening, "192.0.2.1", 80).run()
            assert trio.current_time() == pytest.approx(TIMEOUT)
            assert await receive(app) == b""  # a Unix socket knows no reset


async def test_a_channel_is_confirmed_only_once_the_target_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = trio.Event()

    async def slow(*_: object, **__: object) -> socket.socket:
        await answer.wait()
        return target_sock

    monkeypatch.setattr(streams, "dial_tcp", slow)
    with tcp_pair() as (sock, app), tcp_pair() as (target_sock, target):
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            nursery.start_soon(incoming(opening, "h", 1).run)
            await send_all(app, b"impatient")
            await trio.testing.wait_all_tasks_blocked()
            assert not pair.client.channels
            assert not pair.server.channels
            answer.set()
            assert await receive_exactly(target, 9) == b"impatient"


async def test_a_session_lost_while_a_channel_is_opened_resets_the_connection(
    said: pytest.LogCaptureFixture,
) -> None:
    with tcp_pair() as (sock, app):
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            await next_opening(pair)
            pair.client.on_lost(ConnectionLost("cut"))
            await check_reset(app)
            assert said.messages == ["refused: cut"]


async def test_a_connection_for_a_session_that_is_lost_already_is_reset() -> None:
    pair = ConnectionPair()
    pair.client.on_lost(ConnectionLost("cut"))
    with tcp_pair() as (sock, app):
        await streams.Outgoing(link(pair), sock, b"x", LOG).run()
        await check_reset(app)


async def test_a_connection_beyond_the_limit_of_channels_is_reset() -> None:
    pair = ConnectionPair(max_channels=0)
    with tcp_pair() as (sock, app):
        await streams.Outgoing(link(pair), sock, b"x", LOG).run()
        await check_reset(app)


async def test_cancelled_while_a_channel_is_opened_the_connection_is_reset() -> None:
    before = descriptors()
    with tcp_pair() as (sock, app):
        async with network() as (pair, _):
            async with trio.open_nursery() as inner:
                inner.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
                opening = await next_opening(pair)
                inner.cancel_scope.cancel()
            await check_reset(app)
            # What the peer still opens is closed again.
            channel = opening.confirm()
            await until(lambda: channel.close_received)
            assert not pair.client.channels
    assert descriptors() == before


async def test_a_session_that_ends_while_a_target_is_dialled_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "dial_at_once", lambda *_: None)
    monkeypatch.setattr(streams, "dial_tcp", never)
    before = descriptors()
    with tcp_pair() as (sock, app), tcp_listener() as listener:
        host, port = listener.getsockname()
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            nursery.start_soon(incoming(opening, host, port).run)
            await trio.testing.wait_all_tasks_blocked()
        await check_reset(app)
    assert descriptors() == before


async def test_a_target_found_after_the_session_was_lost_is_reset() -> None:
    with tcp_listener() as listener:
        host, port = listener.getsockname()
        pair = ConnectionPair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: pair.client.open_channel(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            pair.pump()
            opening = pair.handlers["server"].openings.pop()
            pair.server.on_lost(ConnectionLost("cut"))
            await incoming(opening, host, port).run()
            nursery.cancel_scope.cancel()
        with listener.accept()[0] as target:
            target.setblocking(False)
            await check_reset(target)


async def test_the_sockets_at_both_ends_send_at_once_and_notice_who_has_died() -> None:
    (own,) = await open_listeners(LOOPBACK, 0)
    with own, tcp_listener() as listener, socket.create_connection(own.getsockname()):
        host, port = listener.getsockname()
        await trio.lowlevel.wait_readable(own)
        sock, _ = own.accept()
        sock.setblocking(False)
        async with network() as (pair, nursery):
            nursery.start_soon(streams.Outgoing(link(pair), sock, b"x", LOG).run)
            opening = await next_opening(pair)
            dialled: list[socket.socket | None] = []

            def noting(host: str, port: int) -> socket.socket | None:
                dialled.append(dial_at_once(host, port))
                return dialled[0]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(streams, "dial_at_once", noting)
                nursery.start_soon(
                    streams.Incoming(
                        opening,
                        Target(host, port),
                        share=share_of("a peer"),
                        timeout=TIMEOUT,
                        log=LOG,
                    ).run
                )
                await until(lambda: pair.client.channels)
            await trio.testing.wait_all_tasks_blocked()
            for end in (sock, dialled[0]):
                assert end is not None
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
