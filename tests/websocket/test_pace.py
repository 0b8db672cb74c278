"""Pace: the length of a turn, learned from the speed of the link."""

from __future__ import annotations

import contextlib
import socket
from itertools import pairwise

import pytest
import trio
import trio.testing

from cotun_trio.websocket.pace import BURST, DELAY, MAX_TURN, MIN_TURN, START_TURN, Pace
from tests.support.sockets import receive_exactly, tcp_pair
from tests.support.wires import wire_on

MBIT = 125_000
"""Bytes per second."""


def test_turns_begin_small_and_double_while_the_kernel_takes_them_at_once() -> None:
    pace = Pace()
    turns = [pace.turn]
    while pace.taken_at_once(pace.turn):
        turns.append(pace.turn)
    assert turns[0] == START_TURN
    assert turns[-1] == MAX_TURN
    assert all(later == 2 * earlier for earlier, later in pairwise(turns))


def test_less_than_a_turn_says_nothing_about_the_link() -> None:
    pace = Pace()
    assert not pace.taken_at_once(START_TURN - 1)
    assert pace.turn == START_TURN


@pytest.mark.parametrize("rate", [MBIT, 3 * MBIT, 10 * MBIT, 40 * MBIT])
def test_a_turn_is_what_the_link_takes_in_a_moment(rate: int) -> None:
    pace = Pace()
    pace.taken_in(100_000 / rate, 100_000)
    assert DELAY / 2 < pace.turn / rate <= DELAY


def test_there_is_a_least_and_a_longest_turn() -> None:
    pace = Pace()
    assert pace.taken_in(1000.0, 1)
    assert pace.turn == MIN_TURN
    assert not pace.taken_in(1000.0, -1)
    assert pace.taken_in(BURST, 2**30)
    assert pace.turn == MAX_TURN
    assert not pace.taken_in(0.001, 2**30)


def test_a_burst_makes_a_turn_twice_as_long_and_not_more() -> None:
    pace = Pace()
    pace.taken_in(1.0, MBIT)
    before = pace.turn
    assert pace.taken_in(0.001, 65_536)  # 500 times as fast, for a moment
    assert pace.turn == 2 * before
    assert pace.taken_in(0.0, 1)
    assert pace.turn == 4 * before


# ---- on a wire


def lowat(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


async def test_the_kernel_keeps_a_turn_and_no_more() -> None:
    with tcp_pair() as (sock, peer), wire_on(sock) as wire:
        assert lowat(sock) == wire.carrier.turn == START_TURN
        for _ in range(3):
            size = wire.carrier.turn
            wire.carrier.send(bytearray(size))
            await receive_exactly(peer, size)
        assert wire.carrier.turn == lowat(sock) == 8 * START_TURN


async def test_a_slow_peer_makes_turns_short(autojump_with_sockets: trio.testing.MockClock) -> None:
    with tcp_pair() as (sock, peer), wire_on(sock) as wire:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            for _ in range(12):
                wire.carrier.send(bytearray(MIN_TURN))
                while wire.carrier.busy:
                    await trio.sleep(1)
                    with contextlib.suppress(BlockingIOError):
                        peer.recv(1024)
            assert wire.carrier.turn == lowat(sock) <= 2 * MIN_TURN
            nursery.cancel_scope.cancel()


async def test_an_urgent_sender_goes_first() -> None:
    with tcp_pair() as (sock, peer), wire_on(sock) as wire:
        order: list[str] = []

        async def producer(name: str) -> None:
            await wire.carrier.wait_idle(urgent=name == "urgent")
            order.append(name)

        while not wire.carrier.busy:
            wire.carrier.send(bytearray(1 << 20))
        async with trio.open_nursery() as nursery:
            for name in ("bulk", "bulk", "urgent", "bulk"):
                nursery.start_soon(producer, name)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wire.run_writer)
            while len(order) < 4:
                await trio.lowlevel.wait_readable(peer)
                peer.recv(1 << 20)
                await trio.lowlevel.checkpoint()
                if not wire.carrier.busy:
                    await trio.testing.wait_all_tasks_blocked()
                    break
            nursery.cancel_scope.cancel()
        assert order[0] == "urgent"
        assert sorted(order[1:]) == ["bulk"] * 3
