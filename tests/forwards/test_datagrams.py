"""Datagrams on a channel: a bounded number in a turn, in their order, the end after the last."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.budget import DATAGRAM
from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.forwards.datagrams import TURN, Datagrams, Turns
from cotun_trio.protocol.datagram_runs import RunEncoder
from cotun_trio.protocol.gob import MAX_MESSAGE
from cotun_trio.protocol.gob_encoder import Encoder
from tests.support.datagrams import Datagram, batch
from tests.support.sockets import until
from tests.support.ssh_connection import ConnectionPair, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.protocol.datagram_codec import DatagramEncoder, Run
    from cotun_trio.ssh.channel import Channel


class Receiver:
    """Receives the datagrams of a channel, whose other end is `far`."""

    def __init__(
        self,
        pair: ConnectionPair,
        far: Channel,
        near: Channel,
        turns: Turns,
        *,
        in_runs: bool = False,
    ) -> None:
        self.pair = pair
        self.far = far
        self.got: list[bytes] = []
        self.over = trio.Event()
        """Set when nothing more will come."""
        self.channel = near
        self.datagrams = Datagrams(near, self._arrived, turns, in_runs=in_runs)
        self.encoder: DatagramEncoder = RunEncoder() if in_runs else Encoder()
        self.runs = 0
        """How often it was given something."""

    def _arrived(self, run: Run) -> None:
        assert run.source == "a:1"
        self.got += map(bytes, run.each())
        self.runs += 1

    async def run(self) -> None:
        """Receive, up to the end."""
        await self.datagrams.run()
        self.over.set()

    def encoded(self, count: int, size: int = 0) -> bytes:
        """Return the stream of so many datagrams, each with its number."""
        return b"".join(self.encoder.encode("a:1", b"%d" % n + bytes(size)) for n in range(count))

    def send(self, data: bytes) -> None:
        """Have the other end send all of `data`, in one read."""
        assert send(self.far, data) == len(data)
        self.pair.pump()


@contextlib.asynccontextmanager
async def receiving(*, in_runs: bool = False) -> AsyncIterator[Receiver]:
    """Receive datagrams."""
    pair = ConnectionPair()
    receiver = Receiver(pair, *await pair.open(), Turns(), in_runs=in_runs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        await trio.testing.wait_all_tasks_blocked()
        yield receiver
        nursery.cancel_scope.cancel()


FORMS = pytest.mark.parametrize("in_runs", [False, True], ids=["gob", "runs"])


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_a_datagram_is_there_in_the_read_that_brings_it() -> None:
    async with receiving() as receiver:
        receiver.send(receiver.encoded(1))
        assert receiver.got == numbers(1)


@FORMS
async def test_of_thousands_in_one_read_a_turns_worth_is_passed_on_at_a_time_and_in_order(
    in_runs: bool,
) -> None:
    async with receiving(in_runs=in_runs) as receiver:
        receiver.send(receiver.encoded(10_000))
        turns = [len(receiver.got)]
        while turns[-1] < 10_000:
            await trio.lowlevel.checkpoint()
            turns.append(len(receiver.got))
        # Trio runs what is runnable in any order: two turns can come between two looks at them.
        assert max(after - before for before, after in itertools.pairwise(turns)) <= 2 * TURN
        assert receiver.got == numbers(10_000)
        # What comes afterwards is passed on in its read again.
        receiver.send(receiver.encoded(1))
        assert len(receiver.got) == 10_001


@FORMS
async def test_many_channels_of_a_session_have_no_more_in_a_turn_than_one(in_runs: bool) -> None:
    pair, turns = ConnectionPair(), Turns()
    receivers = [Receiver(pair, *await pair.open(), turns, in_runs=in_runs) for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for receiver in receivers:
            nursery.start_soon(receiver.run)
            send(receiver.far, receiver.encoded(200))
        pair.pump()
        passed_on = [sum(len(receiver.got) for receiver in receivers)]
        while passed_on[-1] < 20 * 200:
            await trio.lowlevel.checkpoint()
            passed_on.append(sum(len(receiver.got) for receiver in receivers))
        assert passed_on[0] == TURN - in_runs  # a definition was work as well
        assert max(after - before for before, after in itertools.pairwise(passed_on)) <= 2 * TURN
        assert all(receiver.got == numbers(200) for receiver in receivers)
        nursery.cancel_scope.cancel()


async def test_a_run_of_thousands_takes_as_many_turns_as_so_many_datagrams() -> None:
    async with receiving(in_runs=True) as receiver:
        datagrams = [Datagram("a:1", b"x")] * 10_000
        receiver.send(batch(RunEncoder(), datagrams))
        turns = [len(receiver.got)]
        while turns[-1] < len(datagrams):
            await trio.lowlevel.checkpoint()
            turns.append(len(receiver.got))
        assert turns[0] == TURN - 1  # the definition was work as well
        assert max(after - before for before, after in itertools.pairwise(turns)) <= 2 * TURN


async def test_definitions_without_a_datagram_are_work_as_well() -> None:
    pair, turns = ConnectionPair(), Turns()
    receiver = Receiver(pair, *await pair.open(), turns, in_runs=True)
    receiver.channel.budget.take()
    receiver.send(b"\0\0\0\3\0\0a:1" * 200 + b"\0\0\0\1\0\1x")
    assert receiver.channel.budget.take()[0] == TURN * DATAGRAM
    assert receiver.got == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        await until(lambda: receiver.got == [b"x"])
        nursery.cancel_scope.cancel()
    assert receiver.channel.budget.take()[0] == (201 - TURN) * DATAGRAM


@FORMS
async def test_what_is_alike_is_passed_on_at_once_though_each_came_in_a_packet(
    in_runs: bool,
) -> None:
    async with receiving(in_runs=in_runs) as receiver:
        for number in range(10):
            assert send(receiver.far, receiver.encoder.encode("a:1", b"%d" % number))
        receiver.pair.pump()
        assert receiver.got == numbers(10)
        assert receiver.runs == 1


async def test_what_came_before_an_error_in_the_same_read_is_passed_on_first() -> None:
    pair = ConnectionPair()
    receiver = Receiver(pair, *await pair.open(), Turns())
    with pytest.raises(ProtocolError):
        receiver.send(receiver.encoded(5) + b"\0")
    assert receiver.got == numbers(5)


@FORMS
async def test_no_view_of_a_read_is_kept(in_runs: bool) -> None:
    async with receiving(in_runs=in_runs) as receiver:
        read = bytearray(receiver.encoded(20) + receiver.encoded(1)[:-1])
        receiver.datagrams.write([memoryview(read)])
        read += b"x"  # an error where there is a view


async def test_what_comes_while_others_wait_comes_after_them() -> None:
    async with receiving() as receiver:
        first = receiver.encoded(TURN + 10)
        receiver.send(first[:-1])
        receiver.send(first[-1:] + receiver.encoded(5))
        assert receiver.got == numbers(TURN)
        await until(lambda: len(receiver.got) == TURN + 15)
        assert receiver.got == numbers(TURN + 10) + numbers(5)


async def test_the_window_is_not_opened_for_what_was_not_passed_on() -> None:
    async with receiving() as receiver:
        data = receiver.encoded(30_000, size=20)
        window = receiver.far.out_window
        assert len(data) > window // 2
        receiver.send(data[: window // 2])
        assert receiver.far.out_window == window - window // 2
        while len(receiver.got) < 15_000:
            await trio.lowlevel.checkpoint()
        receiver.pair.pump()
        assert receiver.far.out_window > window - window // 2


@pytest.mark.parametrize("end", ["eof", "close", "both"])
async def test_the_end_comes_after_the_last_datagram(end: str) -> None:
    async with receiving() as receiver:
        assert send(receiver.far, receiver.encoded(1000)) > 0
        if end != "close":
            receiver.far.send_eof()
        if end != "eof":
            receiver.far.close()
        receiver.pair.pump()
        assert len(receiver.got) == TURN
        assert not receiver.datagrams.over
        await receiver.over.wait()
        assert receiver.got == numbers(1000)


async def test_what_has_come_when_the_connection_is_lost_is_passed_on() -> None:
    async with receiving() as receiver:
        receiver.send(receiver.encoded(1000))
        receiver.pair.lose(ConnectionLost("cut"))
        await receiver.over.wait()
        assert receiver.got == numbers(1000)


async def test_an_error_far_behind_in_a_read_is_raised_after_what_came_before_it() -> None:
    pair = ConnectionPair()
    receiver = Receiver(pair, *await pair.open(), Turns())
    receiver.send(receiver.encoded(1000) + b"\0")
    with pytest.raises(ProtocolError):
        await receiver.run()
    assert receiver.got == numbers(1000)


async def test_when_it_is_closed_here_what_waits_is_dropped() -> None:
    async with receiving() as receiver:
        receiver.send(receiver.encoded(1000))
        receiver.channel.close()
        receiver.pair.pump()
        await receiver.over.wait()
        assert len(receiver.got) == TURN


async def test_no_more_than_one_message_is_kept_beside_the_backlog() -> None:
    async with receiving() as receiver:
        data = receiver.encoded(30, size=60_000)
        for start in range(0, len(data), 100_000):
            receiver.send(data[start : start + 100_000])
            assert len(receiver.datagrams._decoder._buffer) <= MAX_MESSAGE + 10
        await until(lambda: len(receiver.got) == 30)


async def test_a_datagram_without_room_in_the_window_is_not_sent_and_that_is_said() -> None:
    async with receiving() as end:
        assert end.datagrams.send_all([("a:1", b"")]) == 0
        count = 0
        while not end.datagrams.send_all([("a:1", bytes(60_000))]):
            count += 1
        assert count > 0
        assert end.datagrams.send_all([("a:1", bytes(60_000))] * 3) == 3
