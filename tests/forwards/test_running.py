"""The running forwards: counted from the beginning, and cut one by one."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.forwards.running import Forwards, Quota
from cotun_trio.protocol.target import Target

WEB, MAIL = Target("web", 80), Target("mail", 25)


async def test_one_counts_from_its_beginning_to_the_end_of_its_block() -> None:
    quota = Quota(1)
    forwards = Forwards(quota)
    forward = forwards.begin(WEB)
    assert quota.used_up
    assert not forwards.idle
    with forward:
        assert quota.used_up
    assert not quota.used_up
    assert forwards.idle


async def test_one_that_is_cut_before_its_block_gets_no_further_than_the_first_checkpoint() -> None:
    forwards = Forwards(Quota(0))
    forward = forwards.begin(WEB)
    assert forwards.cut(lambda _: False) == 1
    with forward:
        await trio.lowlevel.checkpoint()
        pytest.fail("it goes on")
    assert forward.scope.cancelled_caught
    assert forwards.idle


async def test_the_others_go_on() -> None:
    forwards = Forwards(Quota(0))
    ended = []

    async def run(target: Target) -> None:
        with forwards.begin(target):
            await trio.sleep_forever()
        ended.append(target)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, WEB)
        nursery.start_soon(run, MAIL)
        await trio.testing.wait_all_tasks_blocked()
        assert forwards.cut(lambda forward: forward.uses == WEB) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [MAIL]
        nursery.cancel_scope.cancel()
    assert forwards.idle


async def test_an_error_passes_through_and_ends_it() -> None:
    forwards = Forwards(Quota(0))
    with pytest.raises(RuntimeError, match="ours"), forwards.begin(WEB):
        raise RuntimeError("ours")
    assert forwards.idle


async def test_the_last_connection_wakes_those_who_wait_for_no_more() -> None:
    forwards = Forwards(Quota(0))
    woken = trio.Event()

    async def wait() -> None:
        await forwards.wait_idle()
        woken.set()

    async with trio.open_nursery() as nursery:
        first, second = forwards.begin(WEB), forwards.begin(MAIL)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        with first:
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        with second:
            pass
        await woken.wait()
