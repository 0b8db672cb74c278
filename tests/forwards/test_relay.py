"""The relay: an application and a target, each at its own socket, with an SSH channel between them.

Both connections and everything between them are ours and in memory; the sockets are real.
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
from cotun_trio.forwards.turn_length import SHORT_TURN
from cotun_trio.net.sockets import close
from cotun_trio.ssh.window import WINDOW
from tests.support.leaks import descriptors
from tests.support.sockets import (
    receive,
    receive_exactly,
    receive_rest,
    send_all,
    tcp_pair,
    unix_pair,
    until,
)
from tests.support.ssh_connection import ConnectionPair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.ssh.channel import Channel
    from tests.support.wires import Pair

pytestmark = pytest.mark.usefixtures("each_way_to_wait")

MiB = 1024 * 1024


@attrs.frozen
class Relayed:
    """What `relayed` gives: the ends, and what is between them."""

    app: socket.socket
    target: socket.socket
    near: Channel
    far: Channel
    relays: list[Relay]
    done: list[trio.Event]
    """Set when the near and the far relay have returned."""
    scopes: list[trio.CancelScope]
    """Of the near and the far relay."""
    pair: ConnectionPair

    def tasks(self) -> int:
        """Return how many tasks the near relay has started."""
        return int(self.relays[0]._draining is not None)


@contextlib.asynccontextmanager
async def relayed(
    *, sockets: Pair = tcp_pair, connections: ConnectionPair | None = None
) -> AsyncIterator[Relayed]:
    """Join an application and a target by two relays and a channel."""
    pair = connections or ConnectionPair()
    near, far = await pair.open()
    with sockets() as (near_sock, app), sockets() as (far_sock, target):
        for sock in (near_sock, app, far_sock, target):
            keep_little(sock)
        relays = [Relay(near, near_sock), Relay(far, far_sock)]
        done = [trio.Event(), trio.Event()]
        scopes = [trio.CancelScope(), trio.CancelScope()]

        async def run(number: int) -> None:
            with scopes[number]:
                try:
                    await relays[number].run()
                finally:
                    done[number].set()

        async with trio.open_nursery() as nursery:
            if connections is None:
                nursery.start_soon(pair.pump_forever)
            for number in (0, 1):
                nursery.start_soon(run, number)
            yield Relayed(app, target, near, far, relays, done, scopes, pair)
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


# ---- both ways


@pytest.mark.parametrize("sockets", [tcp_pair, unix_pair], ids=["tcp", "unix"])
async def test_bytes_travel_both_ways(sockets: Pair) -> None:
    async with relayed(sockets=sockets) as ends:
        await send_all(ends.app, b"question")
        assert await receive_exactly(ends.target, 8) == b"question"
        await send_all(ends.target, b"answer")
        assert await receive_exactly(ends.app, 6) == b"answer"


async def test_both_ways_at_once_are_whole_and_in_order() -> None:
    data = pattern(3 * MiB)
    async with relayed() as ends, trio.open_nursery() as nursery:
        got = {}

        async def take(name: str, sock: socket.socket) -> None:
            got[name] = await receive_rest(sock)

        async def give(sock: socket.socket) -> None:
            await send_all(sock, data)
            sock.shutdown(socket.SHUT_WR)

        for name, sock in (("app", ends.app), ("target", ends.target)):
            nursery.start_soon(take, name, sock)
            nursery.start_soon(give, sock)
        for event in ends.done:
            await event.wait()
        await until(lambda: len(got) == 2)
        assert got == {"app": data, "target": data}
        assert ends.near.bytes_in == ends.near.bytes_out == len(data)


# ---- each direction ends by itself


@pytest.mark.parametrize("first", ["app", "target"])
async def test_after_one_end_has_finished_the_other_can_answer_at_length(first: str) -> None:
    answer = pattern(10 * MiB)
    async with relayed() as ends:
        one, other = (ends.app, ends.target) if first == "app" else (ends.target, ends.app)
        await send_all(one, b"that is all")
        one.shutdown(socket.SHUT_WR)
        assert await receive_rest(other) == b"that is all"
        assert not any(event.is_set() for event in ends.done)

        async def reply() -> None:
            await send_all(other, answer)
            other.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            assert await receive_rest(one) == answer
        for event in ends.done:
            await event.wait()
        assert ends.near.close_sent
        assert ends.near.close_received
        assert not ends.pair.client.channels
        assert not ends.pair.server.channels


async def test_an_end_that_comes_with_a_backlog_comes_behind_it() -> None:
    data = pattern(WINDOW - 1)
    async with relayed() as ends:
        await send_all(ends.target, data)  # the application does not read yet
        ends.target.shutdown(socket.SHUT_WR)
        await until(lambda: ends.near.eof_received)
        assert ends.near._backlog
        assert await receive_rest(ends.app) == data


@pytest.mark.parametrize("backlog", [False, True])
async def test_a_close_without_eof_ends_both_ways_behind_the_data(backlog: bool) -> None:
    # What Go's programs send at the first end of file.
    data = pattern(WINDOW if backlog else 1000)
    pair = ConnectionPair()
    near, far = await pair.open()
    with tcp_pair() as (sock, app):
        keep_little(sock)
        keep_little(app)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Relay(near, sock).run)
            nursery.start_soon(pair.pump_forever)
            await trio.testing.wait_all_tasks_blocked()
            send_on(far, data)
            far.close()
            pair.pump()
            assert bool(near._backlog) is backlog
            assert await receive_rest(app) == data
            nursery.cancel_scope.cancel()
        assert sock.fileno() < 0
        assert near.close_sent


def send_on(channel: Channel, data: bytes) -> None:
    """Send `data` on `channel`, whose window is wide enough."""
    rest = memoryview(data)

    def fill(slots: list[memoryview]) -> int:
        count = min(len(slots[0]), len(rest))
        slots[0][:count] = rest[:count]
        return count

    while rest:
        assert channel.sendable
        rest = rest[channel.send_from(fill, len(rest)) :]


async def test_a_close_ends_well_even_where_nothing_more_could_be_sent() -> None:
    pair = ConnectionPair()
    near, far = await pair.open()  # nobody takes what the far end gets
    data = pattern(WINDOW)
    with tcp_pair() as (sock, app):
        keep_little(sock)
        keep_little(app)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Relay(near, sock).run)
            await send_all(app, bytes(WINDOW))
            await until(lambda: near.out_window == 0)
            await trio.testing.wait_all_tasks_blocked()
            pair.pump()
            send_on(far, data)
            far.close()
            pair.pump()
            assert near._backlog
            assert await receive_rest(app) == data


# ---- breaks


async def test_a_lost_session_resets_both_sockets() -> None:
    async with relayed() as ends:
        await send_all(ends.app, b"half a fi")
        await receive_exactly(ends.target, 9)
        ends.pair.lose(ConnectionLost("cut"))
        for event in ends.done:
            await event.wait()
        await check_reset(ends.app)
        await check_reset(ends.target)


async def test_a_session_lost_behind_a_backlog_resets_the_socket_all_the_same() -> None:
    async with relayed() as ends:
        await send_all(ends.target, pattern(WINDOW))
        await until(lambda: ends.near._backlog)
        ends.pair.lose(ConnectionLost("cut"))
        await ends.done[0].wait()
        await check_reset(ends.app)


async def test_a_session_lost_before_the_relay_runs_resets_the_socket() -> None:
    pair = ConnectionPair()
    near, _ = await pair.open()
    pair.lose(ConnectionLost("cut"))
    with tcp_pair() as (sock, app):
        await Relay(near, sock).run()
        await check_reset(app)


@pytest.mark.parametrize("half_closed", [False, True])
async def test_an_application_that_resets_its_connection_closes_the_channel(
    half_closed: bool,
) -> None:
    async with relayed() as ends:
        if half_closed:  # the target has said all that it had to say
            ends.target.shutdown(socket.SHUT_WR)
            assert await receive(ends.app) == b""
        close(ends.app, reset=True)
        for event in ends.done:
            await event.wait()
        assert ends.near.close_sent
        assert ends.far.close_received
        assert not ends.pair.client.channels


async def test_an_application_that_has_gone_is_noticed_by_what_is_sent_to_it() -> None:
    async with relayed() as ends:
        ends.app.close()
        assert await receive(ends.target) == b""
        await until(lambda: ends.far.eof_received)
        await send_all(ends.target, b"first")  # answered by a reset
        while not ends.done[0].is_set():
            with contextlib.suppress(OSError):
                ends.target.send(b"more")
            await trio.testing.wait_all_tasks_blocked()
        assert ends.near.close_sent


async def test_a_cancelled_relay_resets_its_socket_and_closes_its_channel() -> None:
    async with relayed() as ends:
        ends.scopes[0].cancel()
        await ends.done[0].wait()
        assert ends.near.close_sent
        await check_reset(ends.app)
        await ends.done[1].wait()
        assert ends.far.close_received


async def test_nothing_stays_open_however_it_ends() -> None:
    before = descriptors()
    async with relayed() as ends:
        ends.app.shutdown(socket.SHUT_WR)
        ends.target.shutdown(socket.SHUT_WR)
        for event in ends.done:
            await event.wait()
        ends.app.close()
        ends.target.close()
        assert descriptors() == before
    for number in range(2):
        async with relayed() as ends:
            ends.scopes[number].cancel()
            await ends.done[number].wait()
            ends.app.close()
            ends.target.close()
            await ends.done[1 - number].wait()
            assert descriptors() == before


# ---- back-pressure


async def test_a_reader_that_stalls_costs_a_window_and_nobody_else_notices() -> None:
    data = pattern(7 * MiB)
    pair = ConnectionPair()
    async with trio.open_nursery() as nursery:
        async with relayed(connections=pair) as stalled, relayed(connections=pair) as other:
            nursery.start_soon(pair.pump_forever)
            nursery.start_soon(send_all, stalled.target, data)
            await until(lambda: stalled.far.out_window == 0)
            await trio.testing.wait_all_tasks_blocked()
            assert 0 < len(stalled.near._backlog) <= WINDOW
            assert not stalled.far.sendable
            await send_all(other.app, b"still there?")
            assert await receive_exactly(other.target, 12) == b"still there?"
            await send_all(other.target, b"yes")
            assert await receive_exactly(other.app, 3) == b"yes"
            assert await receive_exactly(stalled.app, len(data)) == data
            await until(lambda: not stalled.near._backlog)
        nursery.cancel_scope.cancel()


async def test_bulk_takes_long_turns_alone_and_short_ones_beside_who_sends_little() -> None:
    pair = ConnectionPair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.pump_forever)
        async with relayed(connections=pair) as bulk, relayed(connections=pair) as other:
            sizes = pair.carriers["client"].sizes
            data = bytes(8 * MiB)
            for chatty in (False, True):
                sizes.clear()
                async with trio.open_nursery() as transfer:
                    transfer.start_soon(send_all, bulk.app, data)

                    async def chat() -> None:
                        while True:
                            await send_all(other.app, b"x")
                            await receive_exactly(other.target, 1)

                    if chatty:
                        transfer.start_soon(chat)
                    assert await receive_exactly(bulk.target, len(data)) == data
                    transfer.cancel_scope.cancel()
                if chatty:
                    assert max(sizes[len(sizes) // 2 :]) <= SHORT_TURN + 4096
                else:
                    assert max(sizes) > SHORT_TURN + 4096
        nursery.cancel_scope.cancel()


async def test_while_the_network_is_busy_the_socket_is_not_read() -> None:
    async with relayed() as ends:
        await send_all(ends.app, b"first")
        await receive_exactly(ends.target, 5)
        carrier = ends.pair.carriers["client"]
        carrier.clogged = True
        # The relay waits for the socket when it becomes readable, and must look again then.
        await send_all(ends.app, b"second")
        await trio.testing.wait_all_tasks_blocked()
        assert ends.near.bytes_out == 5
        carrier.unclog()
        assert await receive_exactly(ends.target, 6) == b"second"


async def test_a_second_task_exists_only_while_the_socket_is_full() -> None:
    async with relayed() as ends:
        await trio.testing.wait_all_tasks_blocked()
        assert ends.tasks() == 0
        await send_all(ends.target, b"taken at once")
        await receive_exactly(ends.app, 13)
        assert ends.tasks() == 0
        for _ in range(2):
            await send_all(ends.target, bytes(WINDOW))
            await until(lambda: ends.tasks() == 1)
            await receive_exactly(ends.app, WINDOW)
            await until(lambda: ends.tasks() == 0)


async def test_what_came_before_the_relay_is_delivered() -> None:
    pair = ConnectionPair()
    near, far = await pair.open()
    send_on(far, b"greeting ")
    pair.pump()
    send_on(far, b"and more")
    far.send_eof()
    pair.pump()
    with tcp_pair() as (sock, app):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Relay(near, sock).run)
            assert await receive_rest(app) == b"greeting and more"
            nursery.cancel_scope.cancel()


async def test_one_that_is_cancelled_at_once_leaves_those_beside_it_alone() -> None:
    pair = ConnectionPair()
    near, far = await pair.open()
    for _ in range(16):
        send_on(far, bytes(65536))
    pair.pump()
    with tcp_pair() as (sock, app):
        keep_little(sock)
        keep_little(app)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            scope.cancel()

            async def run() -> None:
                with scope:
                    await Relay(near, sock).run()

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
        assert sock.fileno() < 0


# ---- closing a socket


@pytest.mark.parametrize("reset", [False, True])
async def test_closing_says_whether_it_was_an_end_or_a_break(reset: bool) -> None:
    with tcp_pair() as (sock, peer):
        sock.send(b"last words")
        close(sock, reset=reset)
        close(sock, reset=reset)  # does nothing
        if reset:
            await check_reset(peer)
        else:
            assert await receive_rest(peer) == b"last words"


async def test_closing_wakes_who_waits_for_the_socket() -> None:
    with unix_pair() as (sock, _):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await trio.lowlevel.wait_readable(sock)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            close(sock, reset=True)  # a Unix socket knows no reset: it is just closed
