"""The flows of a session: counted from the beginning, and cut one by one."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.protocol.target import Target

WEB, MAIL = Target("web", 80), Target("mail", 25)


async def test_one_counts_from_its_beginning_to_the_end_of_its_block() -> None:
    quota = Quota(1)
    flows = Flows(quota)
    flow = flows.begin(WEB)
    assert quota.used_up
    assert not flows.idle
    with flow:
        assert quota.used_up
    assert not quota.used_up
    assert flows.idle


async def test_one_that_is_cut_before_its_block_gets_no_further_than_the_first_checkpoint() -> None:
    flows = Flows(Quota(0))
    flow = flows.begin(WEB)
    assert flows.cut(lambda _: False) == 1
    with flow:
        await trio.lowlevel.checkpoint()
        pytest.fail("it goes on")
    assert flow.scope.cancelled_caught
    assert flows.idle


async def test_the_others_go_on() -> None:
    flows = Flows(Quota(0))
    ended = []

    async def run(target: Target) -> None:
        with flows.begin(target):
            await trio.sleep_forever()
        ended.append(target)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, WEB)
        nursery.start_soon(run, MAIL)
        await trio.testing.wait_all_tasks_blocked()
        assert flows.cut(lambda flow: flow.uses == WEB) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [MAIL]
        nursery.cancel_scope.cancel()
    assert flows.idle


async def test_an_error_passes_through_and_ends_it() -> None:
    flows = Flows(Quota(0))
    with pytest.raises(RuntimeError, match="ours"), flows.begin(WEB):
        raise RuntimeError("ours")
    assert flows.idle


async def test_the_end_of_the_last_flow_wakes_tasks_that_wait_for_no_flow() -> None:
    flows = Flows(Quota(0))
    woken = trio.Event()

    async def wait() -> None:
        await flows.wait_idle()
        woken.set()

    async with trio.open_nursery() as nursery:
        first, second = flows.begin(WEB), flows.begin(MAIL)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        with first:
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        with second:
            pass
        await woken.wait()
