"""Workers that die, do not get ready, or have to go; here, they are no processes."""

from __future__ import annotations

import functools

import pytest
import trio
import trio.testing

from cotun_trio.errors import CotunError
from cotun_trio.workers import control
from cotun_trio.workers.attention import LATE, SILENT
from cotun_trio.workers.restarts import STABLE
from tests.support.log_watch import watch_logs
from tests.support.worker_stage import STEP, heard_drain, stage, until


async def test_each_worker_has_a_number_and_a_slot_and_the_same_host_key(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        one, two = (fake.start for fake in on.workers)
        assert one
        assert two
        assert (one.number, two.number) == (1, 2)
        assert one.slot != two.slot
        assert one.host_key.asbytes() == two.host_key.asbytes()


@pytest.mark.slow
async def test_a_dead_worker_is_replaced_at_once_but_not_again_and_again(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        for number in range(2, 8):
            worker = await on.worker(number)
            worker.say(control.Ready())
            await until(lambda: len(on.pool.dispatch.balancer) == 2)
            worker.die()
        await on.worker(8)
        waits = [b - a for a, b in zip(on.started_at[1:], on.started_at[2:], strict=False)]
        assert waits[0] <= 1
        assert waits[-1] >= 1.6
        assert len(log.find(r"worker \d \(process 1\): was killed by SIGKILL")) == 6
        # One that has lived for a while begins anew.
        await trio.sleep(20)
        on.workers[-1].die()
        died_at = trio.current_time()
        await on.worker(9)
        assert on.started_at[-1] - died_at < 0.1


async def test_the_system_may_have_no_process_for_a_while(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        on.failing = True
        on.workers[0].die()
        await log.wait_for("cannot start a worker: no process for you", times=3)
        on.failing = False
        await on.worker(3)
        assert on.numbers == [2, 3]


async def test_a_start_that_fails_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on, trio.open_nursery() as nursery:

        async def fail() -> None:
            worker = await on.worker(1)
            worker.say(control.CannotServe("there is no watch"))
            worker.die(1)

        nursery.start_soon(fail)
        with pytest.raises(CotunError, match="there is no watch"):
            await on.pool.start(on._nursery)
    async with stage(monkeypatch) as on:
        on.failing = True
        with pytest.raises(CotunError, match="no process for you"):
            await on.pool.start(on._nursery)


async def test_a_worker_ends_when_its_successor_is_ready(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on, trio.open_nursery() as nursery:
        await on.run()
        nursery.start_soon(on.pool.replace_all, on._nursery)
        for old, new in ((1, 3), (2, 4)):
            successor = await on.worker(new)
            retiring = on.workers[old - 1]
            assert control.Drain() not in retiring.heard
            successor.say(control.Ready())
            await until(functools.partial(heard_drain, retiring))
            retiring.die(0)
    assert len(on.workers) == 4


async def test_where_no_other_gets_ready_all_stay(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.pool.replace_all, on._nursery)
            (await on.worker(3)).die(1)
        assert on.numbers == [1, 2]
        assert log.find("the workers are not replaced")
        assert not any(control.Drain() in worker.heard for worker in on.workers)
        # And a worker that dies then still has a successor.
        on.workers[0].die()
        await on.worker(4)


async def test_a_worker_that_talks_nonsense_is_ended(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        on.workers[0].say(control.Drain())
        on.workers[1].link._sock.sendall(b"\xff" * 100)
        await on.worker(4)
        assert set(on.numbers) == {3, 4}


async def test_another_worker_gets_the_untaken_connections_of_a_frozen_one_once(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        frozen, other = on.workers
        frozen.freeze()
        began = trio.current_time()
        with on.accept(*range(6)):
            await until(lambda: len(other.ports) == 6)
            assert trio.current_time() - began <= LATE + STEP
            assert sorted(other.ports) == list(range(6))
            # The places of those are free again.
            assert [worker.load for worker in on.pool.workers] == [0, 6]
        # From now on it gets nothing, even if the other one has much more to do.
        with on.accept(6, 7):
            await until(lambda: other.ports[6:] == [6, 7])
        await until(lambda: on.pool.workers[0].is_silent)
        frozen.thaw()
        await until(lambda: not on.pool.workers[0].is_late)
        assert frozen.ports == []
        with on.accept(8):
            await until(lambda: frozen.ports == [8])


async def test_where_all_are_frozen_accepting_pauses_until_one_answers(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        on.was_open.clear()
        began = trio.current_time()
        with on.accept(*range(4)):
            await until(lambda: on.was_open == [True, False])
            assert trio.current_time() - began <= SILENT + STEP
            # Connections that are accepted already are kept for the first worker that goes on.
            with on.accept(4):
                on.workers[1].thaw()
                await until(lambda: len(on.workers[1].ports) == 5)
            assert sorted(on.workers[1].ports) == list(range(5))
            assert on.was_open == [True, False, True]
        on.workers[0].thaw()
        await until(lambda: not on.pool.workers[0].is_late)
        assert on.workers[0].ports == []


async def test_another_worker_gets_the_untaken_connections_of_a_dead_one(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        on.workers[0].freeze()
        with on.accept(1, 2) as (one, two):
            on.workers[0].die()
            await until(lambda: len(on.workers[1].ports) == 2)
            assert one.recv(1) == two.recv(1) == b""


async def test_untaken_connections_wait_for_the_next_worker(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        with on.accept(1, 2):
            for worker in on.workers[:2]:
                worker.die()
            successor = await on.worker(4)
            assert not on.pool.dispatch.is_open
            successor.say(control.Ready())
            await until(lambda: sorted(successor.ports) == [1, 2])
            assert on.pool.dispatch.is_open


async def test_at_the_end_untaken_connections_are_closed(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        with on.accept(1) as (one,):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(on.pool.end, 5.0)
                await until(lambda: all(heard_drain(worker) for worker in on.workers))
                for worker in on.workers:
                    worker.die(0)
            with on.accept(2) as (two,):
                assert one.recv(1) == two.recv(1) == b""


@pytest.mark.slow
async def test_one_that_dies_again_and_again_does_not_delay_another_one(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        await trio.sleep(STABLE)
        number = 2
        for _ in range(6):
            number += 1
            on.workers[-1].die()
            (await on.worker(number)).say(control.Ready())
            await until(lambda: len(on.pool.dispatch.balancer) == 2)
        on.workers[-1].die()
        died_at = trio.current_time()
        on.workers[0].die()
        await on.worker(number + 1)
        assert on.started_at[-1] - died_at < 0.1
        # And that the first one had lived long changes nothing for the one that has not.
        await on.worker(number + 2)
        assert on.started_at[-1] - died_at > 1.0


async def test_at_the_end_no_worker_is_replaced(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.pool.end, 5.0)
            await until(lambda: all(control.Drain() in w.heard for w in on.workers))
            for worker in on.workers:
                worker.die(0)
        assert on.numbers == []
        await trio.sleep(60)
        assert len(on.workers) == 2
