"""The slow lane: one turn in a pass of the loop, in order, and never idle."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.net.lane import OVERTAKING, Lane, slow_lane


class Passes(trio.abc.Instrument):
    """Counts the passes of Trio's loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        """See `trio.abc.Instrument`."""
        self.count += 1


@pytest.fixture
def passes() -> Passes:
    return Passes()


async def test_of_many_each_has_its_turn_in_a_pass_of_its_own(passes: Passes) -> None:
    trio.lowlevel.add_instrument(passes)
    lane, seen = Lane(), []

    async def take_turns(who: int) -> None:
        for _ in range(3):
            await lane.enter(who, late=False)
            seen.append((passes.count, who))
            lane.leave()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for who in range(20):
            nursery.start_soon(take_turns, who)
    assert len({count for count, _ in seen}) == len(seen) == 60
    for turn in range(3):  # nobody has a second turn before all others have had their first
        assert sorted(who for _, who in seen[turn * 20 : turn * 20 + 20]) == list(range(20))


async def test_whoever_is_alone_goes_on_at_once(passes: Passes) -> None:
    trio.lowlevel.add_instrument(passes)
    lane = Lane()
    await lane.enter("it", late=True)
    lane.leave()
    before = passes.count
    for _ in range(10):
        await lane.enter("it", late=True)
        lane.leave()
    assert passes.count == before


async def test_late_ones_come_after_others_but_are_not_overtaken_for_ever() -> None:
    lane, order = Lane(), []

    async def take_turn(who: str, *, late: bool) -> None:
        await lane.enter(who, late=late)
        order.append(who)
        lane.leave()

    await lane.enter("first", late=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: take_turn("late", late=True))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2 * OVERTAKING):
            nursery.start_soon(lambda number=number: take_turn(str(number), late=False))
        await trio.testing.wait_all_tasks_blocked()
        lane.leave()
    assert order.index("late") == OVERTAKING


@pytest.mark.parametrize("taken", [True, False], ids=["in the queue", "in front of it"])
async def test_one_that_is_cancelled_leaves_the_lane_to_the_next(taken: bool) -> None:
    lane = Lane()
    await lane.enter("first", late=False)
    if not taken:
        lane.leave()
    with trio.CancelScope() as scope:
        scope.cancel()
        await lane.enter("second", late=False)
    assert scope.cancelled_caught
    if taken:
        lane.leave()
    with trio.fail_after(1):
        await lane.enter("third", late=True)


async def test_there_is_one_lane_in_a_run() -> None:
    assert slow_lane() is slow_lane()


async def test_in_a_round_of_sockets_one_connection_enters_at_once() -> None:
    lane = Lane()
    lane.new_round()
    assert lane.enter_now("one")
    lane.leave()
    assert lane.enter_now("one")  # it goes on, as nobody else is there
    lane.leave()
    assert not lane.enter_now("other")
    lane.new_round()
    assert lane.enter_now("other")
    assert not lane.enter_now("one")  # the lane is taken
    lane.leave()


async def test_who_waits_for_the_lane_comes_before_who_would_enter_at_once() -> None:
    lane, seen = Lane(), []

    async def wait() -> None:
        await lane.enter("waiting", late=True)
        seen.append("waiting")
        lane.leave()

    lane.new_round()
    assert lane.enter_now("one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        lane.leave()
        lane.new_round()
        assert not lane.enter_now("one")
    assert seen == ["waiting"]
