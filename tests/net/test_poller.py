"""The poller: steps for readable sockets, the end of their tasks, rounds, shares and the cork."""

from __future__ import annotations

import contextvars
import gc
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.net import poller as module
from cotun_trio.net.fast_wait import MOST
from cotun_trio.net.poller import FEW, notify_closing, poller, while_readable
from tests.support.leaks import nothing_left
from tests.support.pollers import Waiting
from tests.support.sockets import unix_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

each_way = pytest.mark.usefixtures("each_way_to_wait")


@pytest.fixture(params=[Waiting.TASK, Waiting.FAST])
def each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Run the test with each kind of poller."""
    way: Waiting = request.param
    way.choose(monkeypatch)
    return way


each_poller_ = pytest.mark.usefixtures("each_poller")


@pytest.fixture
def pairs() -> Iterator[Callable[[int], list[tuple[socket.socket, socket.socket]]]]:
    """Give a function that opens so many pairs of sockets, closed in the end."""
    opened: list[tuple[socket.socket, socket.socket]] = []

    def open_pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
        made = [socket.socketpair() for _ in range(count)]
        for pair in made:
            for each in pair:
                each.setblocking(False)
        opened.extend(made)
        return made

    yield open_pairs
    for pair in opened:
        for each in pair:
            each.close()


@each_way
async def test_the_step_is_called_for_each_message_until_it_has_a_result() -> None:
    seen = []
    with unix_pair() as (ours, theirs):

        def step() -> str | None:
            seen.append(ours.recv(100))
            return "done" if seen[-1] == b"end" else None

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                for message in (b"one", b"two", b"end"):
                    theirs.send(message)
                    await trio.testing.wait_all_tasks_blocked(0.001)

            assert await while_readable(ours, step) == "done"
    assert seen == [b"one", b"two", b"end"]


@each_way
async def test_an_error_of_the_step_is_that_of_its_task_alone() -> None:
    results: list[object] = []
    with unix_pair() as (ours, theirs), unix_pair() as (others, far):

        def wrong() -> None:
            ours.recv(1)
            raise ZeroDivisionError

        async def first() -> None:
            with pytest.raises(ZeroDivisionError):
                await while_readable(ours, wrong)
            results.append("raised")

        async def second() -> None:
            results.append(await while_readable(others, lambda: others.recv(1)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(b"!")
            far.send(b"?")
    assert sorted(map(str, results)) == ["b'?'", "raised"]


@each_way
async def test_a_cancelled_task_has_no_more_steps() -> None:
    calls = []
    with unix_pair() as (ours, theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(while_readable, ours, lambda: calls.append(1))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        theirs.send(b"!")
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert not calls
        # And the socket can be waited for again.
        assert await while_readable(ours, lambda: ours.recv(1)) == b"!"


@each_way
async def test_a_step_can_end_its_own_task() -> None:
    with unix_pair() as (ours, theirs), trio.CancelScope() as scope:
        theirs.send(b"!")

        def step() -> bytes:
            scope.cancel()
            return ours.recv(1)

        await while_readable(ours, step)
    assert len(poller()) == 0


@each_way
async def test_closing_wakes_the_task_and_a_closed_socket_is_an_error() -> None:
    with unix_pair() as (ours, _theirs):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await while_readable(ours, lambda: None)

            await trio.testing.wait_all_tasks_blocked()
            notify_closing(ours)
            ours.close()
        with pytest.raises(trio.ClosedResourceError):
            await while_readable(ours, lambda: None)


@each_way
async def test_two_tasks_cannot_read_the_same_socket() -> None:
    with unix_pair() as (ours, _theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(while_readable, ours, lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await while_readable(ours, lambda: None)
            nursery.cancel_scope.cancel()


@each_way
async def test_the_step_has_the_context_of_its_task() -> None:
    variable = contextvars.ContextVar[str]("variable")
    with unix_pair() as (ours, theirs):
        theirs.send(b"!")
        variable.set("mine")
        assert await while_readable(ours, variable.get) == "mine"


@each_way
async def test_a_peer_that_has_gone_is_one_step_and_no_spinning() -> None:
    calls = []
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)

        def step() -> bytes | None:
            calls.append(1)
            return ours.recv(100)

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                assert await while_readable(ours, step) == b""

            await trio.testing.wait_all_tasks_blocked()
            theirs.close()  # EPOLLHUP from now on, asked for or not
        await trio.testing.wait_all_tasks_blocked(0.005)
    assert calls == [1]


@each_poller_
async def test_a_number_that_is_used_again_in_the_same_round_is_another_socket() -> None:
    """The first step closes the second socket and opens one that gets its number."""
    seen: list[str] = []
    a, far_a = socket.socketpair()
    b, far_b = socket.socketpair()
    fresh: list[socket.socket] = []
    number = max(a.fileno(), b.fileno())
    first, second = (b, a) if a.fileno() == number else (a, b)
    for each in (a, b):
        each.setblocking(False)

    def replace() -> str:
        first.recv(1)
        notify_closing(second)
        second.close()
        near, far = socket.socketpair()
        near.setblocking(False)
        if near.fileno() != number:
            os.dup2(near.fileno(), number)
            near.close()
            near = socket.socket(fileno=number)
        fresh.extend((near, far))
        return "replaced"

    async def wait_first() -> None:
        seen.append(await while_readable(first, replace))
        nursery.start_soon(wait_fresh)

    async def wait_second() -> None:
        try:
            await while_readable(second, lambda: seen.append("the wrong one") or "")
        except trio.ClosedResourceError:
            seen.append("closed")

    async def wait_fresh() -> None:
        seen.append((await while_readable(fresh[0], lambda: fresh[0].recv(9))).decode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_first)
        nursery.start_soon(wait_second)
        await trio.testing.wait_all_tasks_blocked()
        far_a.send(b"!")
        far_b.send(b"!")
        await trio.testing.wait_all_tasks_blocked(0.005)
        fresh[1].send(b"fresh")
    for each in (a, b, far_a, far_b, *fresh):
        each.close()
    assert "the wrong one" not in seen or seen.index("the wrong one") == 0
    assert seen[-1] == "fresh"


# ---- rounds


async def wait_for_all(
    pairs: list[tuple[socket.socket, socket.socket]], step: Callable[[int], object], groups: int
) -> None:
    """Have `step` called with the number of each pair, once, when all of them are readable."""

    def once(number: int) -> bool:
        pairs[number][0].recv(1)
        step(number)
        return True

    async with trio.open_nursery() as nursery:
        for number, (near, _) in enumerate(pairs):
            group = min(number, groups - 1)
            nursery.start_soon(while_readable, near, lambda number=number: once(number), group)
        await trio.testing.wait_all_tasks_blocked()
        for _, far in pairs:
            far.send(b"!")


@each_poller_
@pytest.mark.parametrize("busy", [50, 2 * MOST])
async def test_each_session_has_a_step_before_any_has_its_second(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]], busy: int
) -> None:
    """One session has all sockets but the first three, which are of three others."""
    order: list[int] = []
    made = pairs(busy + 3)
    await wait_for_all(made[3:][::-1] + made[:3], order.append, 1)  # all alike: any order
    order.clear()
    await wait_for_all(made, order.append, 4)
    assert len(order) == busy + 3
    # Epoll gives 128 at a time: of these, the three are among the first four.
    assert max(order.index(number) for number in range(3)) < (4 if busy < MOST else MOST)


@each_poller_
async def test_a_round_ends_and_the_rest_comes_first_in_the_next(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no time at all, a round is one step; another task has a turn in between."""
    monkeypatch.setattr(module, "ROUND", -1.0)
    turns = [0]
    seen: list[tuple[int, int]] = []
    made = pairs(FEW + 8)

    async def others() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    async with trio.open_nursery() as nursery:

        async def readers() -> None:
            await wait_for_all(made, lambda number: seen.append((turns[0], number)), 99)
            nursery.cancel_scope.cancel()

        nursery.start_soon(readers)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(others)
    assert sorted(number for _, number in seen) == list(range(FEW + 8))
    # Each in a pass of its own, in which the other task may be before it or behind.
    assert max(Counter(turn for turn, _ in seen).values()) <= 2


class Sender:
    """Counts how often it is uncorked; notes whether the cork was in when it was used."""

    def __init__(self) -> None:
        self.corked: list[bool] = []
        self.uncorked = 0

    def send(self, *, fail: bool = False) -> None:
        """Use it."""
        cork = poller().cork
        self.corked.append(cork.on)
        if cork.on and not cork.holding:
            cork.holding.append(self)
        if fail:
            raise ZeroDivisionError

    def uncork(self) -> None:
        """See `cotun_trio.net.poller.Corked`."""
        assert not poller().cork.on
        self.uncorked += 1


@each_poller_
@pytest.mark.parametrize("count", [2, FEW + 2])
async def test_what_a_round_sends_is_held_until_its_end(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]], count: int
) -> None:
    sender = Sender()
    await wait_for_all(pairs(count), lambda _: sender.send(), 1)
    assert sender.corked == [True] * count
    assert sender.uncorked == 1


@each_poller_
async def test_a_lone_message_is_not_held(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]],
) -> None:
    sender = Sender()
    await wait_for_all(pairs(1), lambda _: sender.send(), 1)
    assert sender.corked == [False]
    assert not sender.uncorked


@each_poller_
async def test_the_cork_is_pulled_where_a_step_fails(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]],
) -> None:
    sender = Sender()
    with pytest.raises(ExceptionGroup):
        await wait_for_all(pairs(2), lambda _: sender.send(fail=True), 1)
    assert sender.uncorked == 1
    assert not poller().cork.on


@each_poller_
async def test_a_sender_that_fails_keeps_no_other_one_from_sending(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(Sender):
        def uncork(self) -> None:
            raise ZeroDivisionError

    senders = [Wrong(), Sender()]
    await wait_for_all(pairs(2), lambda number: poller().cork.holding.append(senders[number]), 1)
    assert senders[1].uncorked == 1
    assert "internal error" in caplog.text


# ---- its life


@pytest.mark.parametrize("fast", [False, True])
async def test_nothing_is_left_when_the_last_holder_has_gone(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 0)
    async with nothing_left():
        with unix_pair() as (ours, theirs):
            for _ in range(3):
                with poller().hold(fast=fast):
                    theirs.send(b"!")
                    assert await while_readable(ours, lambda: ours.recv(1)) == b"!"
                    with poller().hold(fast=False):
                        assert poller().is_fast == fast
                    theirs.send(b"?")
                    assert await while_readable(ours, lambda: ours.recv(1)) == b"?"
                assert not poller().is_fast


async def test_it_can_become_fast_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROWD", 0)
    with unix_pair() as (ours, theirs), poller().hold(fast=False):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                assert await while_readable(ours, lambda: ours.recv(1)) == b"!"

            await trio.testing.wait_all_tasks_blocked()
            with poller().hold(fast=True):
                theirs.send(b"!")


@pytest.mark.parametrize("fast", [False, True])
async def test_a_task_that_sleeps_when_it_is_closed_goes_on_in_trios_way(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 0)
    with unix_pair() as (ours, theirs):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                assert await while_readable(ours, lambda: ours.recv(1)) == b"!"

            with poller().hold(fast=fast):
                await trio.testing.wait_all_tasks_blocked()
                assert len(poller()) == 1
            theirs.send(b"!")


async def test_few_sockets_wait_in_trios_way_where_a_task_would_do_it(
    pairs: Callable[[int], list[tuple[socket.socket, socket.socket]]],
) -> None:
    made = pairs(module.CROWD + 2)
    with poller().hold(fast=False):
        async with trio.open_nursery() as nursery:
            for near, _ in made:
                nursery.start_soon(while_readable, near, lambda near=near: near.recv(1) and None)
            await trio.testing.wait_all_tasks_blocked()
            assert len(poller()) == 2
            for _, far in made:  # they see that they are many now
                far.send(b"!")
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert len(poller()) == len(made)
            nursery.cancel_scope.cancel()
        assert poller().waiting == 0


@pytest.mark.slow
@each_poller_
async def test_thousands_of_sockets_come_and_go() -> None:
    gc.collect()
    async with nothing_left():
        for _ in range(3):
            made = [socket.socketpair() for _ in range(400)]
            async with trio.open_nursery() as nursery:
                for near, _ in made:
                    near.setblocking(False)
                    nursery.start_soon(while_readable, near, lambda near=near: near.recv(1))
                await trio.testing.wait_all_tasks_blocked()
                assert len(poller()) == 400
                for _, far in made[:200]:
                    far.send(b"!")
                for _, far in made[200:]:
                    far.close()
            assert len(poller()) == 0
            for pair in made:
                for each in pair:
                    each.close()
