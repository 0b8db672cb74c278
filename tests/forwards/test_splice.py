"""The splice: two channels of two connections, with an application and a target behind them.

Everything is in memory but for the sockets at both ends, whose relays are tested by themselves.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.splice import Splice
from cotun_trio.net.sockets import close
from cotun_trio.protocol.dialect import MARK
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import WINDOW
from tests.support.sockets import (
    receive,
    receive_exactly,
    receive_rest,
    send_all,
    tcp_pair,
    until,
)
from tests.support.ssh_connection import ConnectionPair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.ssh.channel import Channel

MiB = 1024 * 1024


@attrs.frozen
class Spliced:
    """What `spliced` gives: the ends, and what is between them."""

    app: socket.socket
    target: socket.socket
    near: Channel
    """The channel of the application, at the splice."""
    far: Channel
    """That of the target."""
    pairs: tuple[ConnectionPair, ConnectionPair]
    scope: trio.CancelScope
    over: trio.Event
    """Set when the splice has returned."""


@contextlib.asynccontextmanager
async def spliced() -> AsyncIterator[Spliced]:
    """Join an application and a target by a relay, a splice and another relay.

    All programs are of our own kind.
    """
    pairs = ConnectionPair(), ConnectionPair()
    for pair in pairs:
        for connection in pair.connections.values():
            connection.engine.peer_version += MARK
    begin, near = await pairs[0].open()
    far, end = await pairs[1].open()
    over, scope = trio.Event(), trio.CancelScope()

    async def splice() -> None:
        with scope:
            await Splice(near, far).run()
        over.set()

    with tcp_pair() as (app_side, app), tcp_pair() as (target_side, target):
        for sock in (app_side, app, target_side, target):
            keep_little(sock)
        async with trio.open_nursery() as nursery:
            for pair in pairs:
                nursery.start_soon(pair.pump_forever)
            nursery.start_soon(Relay(begin, app_side).run)
            nursery.start_soon(Relay(end, target_side).run)
            nursery.start_soon(splice)
            yield Spliced(app, target, near, far, pairs, scope, over)
            nursery.cancel_scope.cancel()


def keep_little(sock: socket.socket) -> None:
    """Let the kernel hold much less than a window for `sock`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)


def pattern(size: int) -> bytes:
    """Return `size` bytes in which every place looks different from those around it."""
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


async def check_reset(sock: socket.socket) -> None:
    """Check that `sock` was reset."""
    with pytest.raises(ConnectionResetError):
        while await receive(sock):
            pass


async def test_both_ways_at_once_are_whole_and_in_order() -> None:
    data = pattern(3 * MiB)
    async with spliced() as ends, trio.open_nursery() as nursery:
        got = {}

        async def take(name: str, sock: socket.socket) -> None:
            got[name] = await receive_rest(sock)

        async def give(sock: socket.socket) -> None:
            await send_all(sock, data)
            sock.shutdown(socket.SHUT_WR)

        for name, sock in (("app", ends.app), ("target", ends.target)):
            nursery.start_soon(take, name, sock)
            nursery.start_soon(give, sock)
        await ends.over.wait()
        await until(lambda: len(got) == 2)
        assert got == {"app": data, "target": data}
        ended = [each for pair in ends.pairs for each in (pair.client, pair.server)]
        await until(lambda: not any(each.channels for each in ended))


@pytest.mark.parametrize("first", ["app", "target"])
async def test_after_one_end_has_finished_the_other_can_answer_at_length(first: str) -> None:
    answer = pattern(3 * MiB)
    async with spliced() as ends:
        one, other = (ends.app, ends.target) if first == "app" else (ends.target, ends.app)
        await send_all(one, b"that is all")
        one.shutdown(socket.SHUT_WR)
        assert await receive_rest(other) == b"that is all"
        assert not ends.over.is_set()

        async def reply() -> None:
            await send_all(other, answer)
            other.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            assert await receive_rest(one) == answer
        await ends.over.wait()


async def test_a_reader_that_stalls_stops_the_sender_behind_the_splice() -> None:
    data = pattern(5 * MiB)
    async with spliced() as ends, trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.app, data)  # and the target does not read
        await until(lambda: ends.near._backlog)
        await trio.testing.wait_all_tasks_blocked()
        assert len(ends.near._backlog) <= WINDOW
        assert ends.far.bytes_out < len(data)
        # The other direction does not notice.
        await send_all(ends.target, b"still there?")
        assert await receive_exactly(ends.app, 12) == b"still there?"
        assert await receive_exactly(ends.target, len(data)) == data
        await until(lambda: not ends.near._backlog)


@pytest.mark.parametrize("end", ["app", "target"])
async def test_a_reset_goes_through_as_a_reset(end: str) -> None:
    async with spliced() as ends:
        one, other = (ends.app, ends.target) if end == "app" else (ends.target, ends.app)
        await send_all(one, b"half a fi")
        assert await receive_exactly(other, 9) == b"half a fi"
        close(one, reset=True)
        await check_reset(other)
        await ends.over.wait()


@pytest.mark.parametrize("number", [0, 1])
async def test_a_lost_connection_breaks_off_the_other_channel(number: int) -> None:
    async with spliced() as ends:
        await send_all(ends.app, b"x")
        assert await receive_exactly(ends.target, 1) == b"x"
        ends.pairs[number].lose(ConnectionLost("cut"))
        await ends.over.wait()
        await check_reset(ends.app)
        await check_reset(ends.target)


async def test_a_cancelled_splice_breaks_both_off() -> None:
    async with spliced() as ends:
        await send_all(ends.app, b"x")
        assert await receive_exactly(ends.target, 1) == b"x"
        ends.scope.cancel()
        await ends.over.wait()
        await check_reset(ends.app)
        await check_reset(ends.target)


async def test_an_end_behind_a_backlog_comes_behind_it_also_from_go() -> None:
    # A CLOSE without EOF, as Go's programs send it, is a good end there.
    data = pattern(WINDOW)
    pairs = ConnectionPair(), ConnectionPair()
    begin, near = await pairs[0].open()
    far, end = await pairs[1].open()
    with tcp_pair() as (target_side, target):
        async with trio.open_nursery() as nursery:
            for pair in pairs:
                nursery.start_soon(pair.pump_forever)
            nursery.start_soon(Splice(near, far).run)
            await trio.testing.wait_all_tasks_blocked()
            rest = memoryview(data)
            while rest:
                count = begin.at_once
                begin.send_now(rest[:count])
                rest = rest[count:]
            begin.close()
            nursery.start_soon(Relay(end, target_side).run)
            assert await receive_rest(target) == data
            nursery.cancel_scope.cancel()


async def test_a_channel_whose_peer_takes_no_more_ends_the_splice_when_the_rest_is_sent() -> None:
    async with spliced() as ends:
        await send_all(ends.app, b"question")
        ends.app.shutdown(socket.SHUT_WR)
        assert await receive_exactly(ends.target, 8) == b"question"
        close(ends.app, reset=True)  # it does not want the answer, ...
        while not ends.over.is_set():  # ... which is noticed when there is one
            with contextlib.suppress(OSError):
                ends.target.send(b"answer")
            await trio.testing.wait_all_tasks_blocked()
        assert ends.far.close_sent


@contextlib.asynccontextmanager
async def spliced_in_memory() -> AsyncIterator[tuple[ConnectionPair, ConnectionPair, Channel]]:
    """Splice two connections; the channel is the one of the end that sends."""
    pairs = ConnectionPair(), ConnectionPair()
    begin, near = await pairs[0].open()
    far, _ = await pairs[1].open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Splice(near, far).run)
        await trio.testing.wait_all_tasks_blocked()
        yield *pairs, begin
        nursery.cancel_scope.cancel()


async def test_the_packets_of_one_read_go_on_in_one_piece() -> None:
    async with spliced_in_memory() as (before, after, channel):
        channel.send_now(pattern(5 * MAX_PACKET))
        sizes = after.carriers["client"].sizes
        sizes.clear()
        assert before.move("server")
        (size,) = sizes
        assert size > 5 * MAX_PACKET


async def test_tiny_packets_go_on_as_a_large_one() -> None:
    async with spliced_in_memory() as (before, after, channel):
        for _ in range(100):
            channel.send_now(b"x")
        sizes = after.carriers["client"].sizes
        sizes.clear()
        assert before.move("server")
        (size,) = sizes
        assert 100 < size < 200


async def test_a_peer_that_takes_a_byte_in_a_packet_lets_others_have_their_turns() -> None:
    pairs = ConnectionPair(), ConnectionPair()
    begin, near = await pairs[0].open()
    far, end = await pairs[1].open()
    far.out_max = 1
    turns = 0

    async def bystander() -> None:
        nonlocal turns
        while end.backlog < 1000:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Splice(near, far).run)
        await trio.testing.wait_all_tasks_blocked()
        begin.send_now(bytes(1000))
        pairs[0].pump()
        nursery.start_soon(pairs[1].pump_forever)
        await bystander()
        assert turns > 500
        nursery.cancel_scope.cancel()
