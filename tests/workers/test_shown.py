"""The workers as one server, for administrators; here, they are no processes."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cotun_trio.admin.interface import AdminInterface
from cotun_trio.admin.watched import NoAnswer
from cotun_trio.counts import Meters
from cotun_trio.logs import get_logger
from cotun_trio.logs.events import record_events
from cotun_trio.settings import AdminAddress
from cotun_trio.snapshot import ChannelFigures, Figures, SessionChannels, SessionFigures
from cotun_trio.workers import control
from cotun_trio.workers.account import Account
from cotun_trio.workers.shown import PATIENCE, ShownWorkers
from tests.support.admin import ask
from tests.support.log_watch import watch_logs
from tests.support.targets import background
from tests.support.worker_stage import stage, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.logs import Level
    from tests.support.worker_stage import Fake, Stage

ONE = Figures(sessions=2, ended=3, channels=4, bytes_in=100, bytes_out=10, dropped=1, memory=5000)
TWO = Figures(sessions=1, ended=0, channels=1, bytes_in=7, bytes_out=3, tasks=9, memory=6000)
MUCH = 10**9  # of memory, which this process never has by chance


def meters(pings: int) -> Meters:
    """Return some that have so many pings."""
    made = Meters()
    for _ in range(pings):
        made.pings.add(0.25)
        made.logins.add("accepted")
    return made


def session(number: int) -> SessionFigures:
    return SessionFigures(
        number=number,
        peer="192.0.2.1",
        user="",
        version="x",
        remotes=("R:1:x:2", "3:x:4"),
        seconds=1.5,
        channels=0,
        bytes_out=1,
        bytes_in=2,
        round_trip=None,
    )


def counts(found: tuple[Figures, Meters]) -> list[int]:
    """Return all that may only grow."""
    figures, measured = found
    return [
        figures.sessions + figures.ended,
        figures.bytes_in,
        figures.bytes_out,
        figures.dropped,
        measured.pings.cumulative()[-1],
        measured.logins.counts["accepted"],
    ]


@contextlib.asynccontextmanager
async def shown(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stage, ShownWorkers]]:
    """Run two workers, which have answers."""
    async with stage(monkeypatch) as on:
        workers = ShownWorkers(on.pool)
        await on.run()
        workers.listens(["127.0.0.1:1"])
        on.workers[0].seen = {"stats": [ONE, meters(2)], "sessions": [session(1), session(2)]}
        on.workers[1].seen = {"stats": [TWO, meters(1)], "sessions": [session(1)]}
        yield on, workers


async def test_the_figures_are_sums(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (_, workers):
        figures, measured = found = await workers.stats()
        assert counts(found) == [6, 107, 13, 1, 3, 3]
        assert (figures.sessions, figures.channels) == (3, 5)
        assert measured.pings.total == 0.75
        assert figures.memory > 11_000  # that of this process, too
        assert [(each.number, each.answers, each.figures) for each in workers.workers] == [
            (1, True, ONE),
            (2, True, TWO),
        ]


async def test_totals_stay_when_a_worker_is_killed_and_its_sessions_are_gone(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, workers):
        before = await workers.stats()
        on.workers[0].die()
        await until(lambda: 1 not in on.numbers)
        figures, _ = found = await workers.stats()
        assert counts(found) == counts(before)
        assert (figures.sessions, figures.ended, figures.channels) == (1, 5, 1)
        assert [session.id for session in await workers.sessions()] == ["2.1"]
        (await on.worker(3)).say(control.Ready())
        await until(lambda: len(on.pool.dispatch.balancer) == 2)
        on.workers[2].seen = {"stats": [TWO, meters(5)]}
        assert counts(await workers.stats()) == [7, 114, 16, 1, 8, 8]


async def test_the_last_account_of_a_worker_that_ends_in_order_is_the_one_that_counts(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, workers):
        await workers.stats()
        last = Account(Figures(ended=8, bytes_in=200, bytes_out=20, dropped=1), meters(3))
        on.workers[0].say(control.Farewell(last))
        # It still answers, and ends; each time, it has the same.
        await workers.stats()
        for _ in range(2):
            assert counts(await workers.stats()) == [9, 207, 23, 1, 4, 4]
            on.workers[0].die(0)
            await until(lambda: 1 not in on.numbers)


async def test_an_earlier_answer_does_not_replace_a_later_one(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, _):
        worker = on.pool.workers[0]
        worker.now_counted(Account(ONE), 5.0)
        worker.now_counted(Account(TWO), 4.0)
        assert worker.account.figures == ONE


@pytest.mark.slow
async def test_a_worker_that_does_not_answer_holds_nothing_up_and_is_named(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, workers):
        before = await workers.stats()
        on.workers[1].freeze()
        on.workers[0].seen["stats"] = [Figures(sessions=2, ended=4, bytes_in=200), meters(3)]
        began = trio.current_time()
        after = await workers.stats()
        assert trio.current_time() <= began + PATIENCE
        assert after[0].bytes_in == before[0].bytes_in + 100  # and what the other one had
        assert [(each.number, each.answers) for each in workers.workers] == [(1, True), (2, False)]
        assert [each.id for each in await workers.sessions()] == ["1.1", "1.2"]
        with pytest.raises(NoAnswer, match="worker 2 does not answer"):
            await workers.kick("2.1", "bye")
        # Once it is known to be silent, it is not even asked.
        await until(lambda: on.pool.workers[1].is_silent)
        began = trio.current_time()
        await workers.stats()
        assert trio.current_time() == began
        assert workers.not_ready is None
        on.workers[0].freeze()
        await until(lambda: on.pool.workers[0].is_silent)
        assert workers.not_ready == "no worker takes connections"
        for worker in on.workers:
            worker.thaw()
        await until(lambda: workers.not_ready is None)
        await workers.stats()
        assert all(each.answers for each in workers.workers)


@pytest.mark.parametrize(
    "nonsense", [[], [ONE], [ONE, 5], [{}, meters(0)], [ONE, meters(0), meters(0)]]
)
async def test_nonsense_is_no_answer(
    nonsense: list[object],
    monkeypatch: pytest.MonkeyPatch,
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with shown(monkeypatch) as (on, workers):
        on.workers[0].seen["stats"] = nonsense
        assert counts(await workers.stats()) == [1, 7, 3, 0, 1, 1]
        assert [each.answers for each in workers.workers] == [False, True]


async def test_a_session_is_ended_in_its_worker(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, workers):
        on.workers[1].seen["kick"] = [True]
        assert await workers.kick("2.17", "go home")
        assert control.Look("kick", ("17", "go home")) in on.workers[1].heard
        assert not any(isinstance(message, control.Look) for message in on.workers[0].heard)
        on.workers[1].seen["kick"] = [False]
        assert not await workers.kick("2.18", "go home")
        for identity in ("3.1", "1", "0.1"):
            asked = len(on.workers[0].heard)
            assert not await workers.kick(identity, "go home")
            assert await workers.channels(identity) is None
            assert len(on.workers[0].heard) == asked


async def test_the_connections_of_a_session_are_those_that_its_worker_knows(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    channel = ChannelFigures(
        number=3,
        opened_by="peer",
        remote=None,
        target="db:5432",
        socks_target=None,
        source=None,
        seconds=1.5,
        bytes_in=None,
        bytes_out=None,
    )
    async with shown(monkeypatch) as (on, workers):
        found = SessionChannels(7, (channel,))
        on.workers[0].seen["channels"] = [found]
        assert await workers.channels("1.4") == found
        assert control.Look("channels", ("4",)) in on.workers[0].heard
        on.workers[0].seen["channels"] = [None]
        assert await workers.channels("1.5") is None


async def test_it_is_ready_from_the_first_accepting_to_the_end(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        workers = ShownWorkers(on.pool)
        assert workers.not_ready == "it does not listen yet"
        await on.run()
        workers.listens(["127.0.0.1:1"])
        assert workers.not_ready is None
        workers.drains()
        assert workers.not_ready == "it is shutting down"


# ---- decisions


async def test_bars_are_lifted_in_all_workers(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with shown(monkeypatch) as (on, workers):
        for source in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            while not on.pool.rules.login_failed(source).barred_for:
                pass
        assert [bar.source for bar in await workers.bars()] == [
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
        ]
        assert await workers.lift("192.0.2.1")
        assert not await workers.lift("192.0.2.1")
        assert await workers.lift_all() == 2
        assert await workers.bars() == []
        for worker in on.workers:
            await until(lambda worker=worker: control.Lifted(None) in worker.heard)
            assert worker.heard.count(control.Lifted("192.0.2.1")) == 1


async def test_the_level_of_the_log_is_for_all_workers_and_for_those_that_begin_later(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    level: list[Level] = ["info"]
    monkeypatch.setattr("cotun_trio.logs.level", lambda: level[-1])
    monkeypatch.setattr("cotun_trio.logs.set_level", level.append)
    async with shown(monkeypatch) as (on, workers):
        assert await workers.log_level() == "info"
        await workers.set_log_level("debug")
        assert level == ["info", "debug"]
        for worker in on.workers:
            await until(lambda worker=worker: control.LogLevel("debug") in worker.heard)
        on.workers[0].die()
        late = await on.worker(3)
        await until(lambda: control.LogLevel("debug") in late.heard)


# ---- events


def happened(worker: Fake, kind: str, **facts: str) -> None:
    worker.say(control.Happened(5.0, kind, facts))


async def test_events_say_which_worker_they_are_from(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    events = record_events()
    async with watch_logs() as log, shown(monkeypatch) as (on, _):
        happened(on.workers[1], "closed", session="4", peer="192.0.2.1:5")
        await until(lambda: events.last == 3)
        on.workers[0].die()
        await log.wait_for("was killed by SIGKILL")
        await until(lambda: events.last == 4)
    *started, closed, ended = events.after(0)
    assert {each.kind for each in started} == {"worker-ready"}
    assert {each.facts["worker"] for each in started} == {"1", "2"}
    assert (closed.at, closed.kind, closed.role) == (5.0, "closed", "server")
    assert closed.facts == {"session": "4", "peer": "192.0.2.1:5", "worker": "2"}
    assert ended.facts == {"worker": "1", "reason": "was killed by SIGKILL"}


async def test_files_that_all_workers_read_again_are_one_event(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    events = record_events()
    async with shown(monkeypatch) as (on, _):
        for worker in reversed(on.workers):
            happened(worker, "reloaded", users="2")
        happened(on.workers[1], "closed")
        await until(lambda: events.last == 4)
        await trio.testing.wait_all_tasks_blocked(0.01)
    (reloaded,) = (each for each in events.after(0) if each.kind == "reloaded")
    assert reloaded.facts == {"users": "2"}


async def test_a_flood_of_one_source_is_limited_over_all_workers(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    events = record_events()
    one_second = SimpleNamespace(monotonic=lambda: 1.0, time=time.time)
    monkeypatch.setattr("cotun_trio.logs.events.time", one_second)
    async with shown(monkeypatch) as (on, _):
        for worker in on.workers:
            for port in range(9):
                happened(worker, "refused", client=f"192.0.2.1:{port}")
            happened(worker, "closed")
        await until(lambda: sum(each.kind == "closed" for each in events.after(0)) == 2)
    guilty = [e for e in events.after(0) if e.facts.get("client", "").startswith("192.0.2.1:")]
    assert len(guilty) == 10


# ---- the interface


async def test_the_interface_has_the_sums_and_each_worker(
    monkeypatch: pytest.MonkeyPatch,
    autojump_with_sockets: trio.testing.MockClock,
    tmp_path: Path,
) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    async with shown(monkeypatch) as (on, workers), background() as nursery:
        admin = AdminInterface(workers, AdminAddress.parse(place), None, get_logger("server"))
        await admin.open()
        nursery.start_soon(admin.run)
        assert (await ask(place, "/ready")).status == 200
        on.workers[0].seen["stats"] = [Figures(sessions=2, bytes_in=5, memory=MUCH), meters(1)]
        stats = (await ask(place, "/api/v1/stats")).json
        assert stats["bytes_in"] == 12
        assert stats["memory"] > MUCH
        assert stats["workers_silent"] == 0
        assert [each["number"] for each in stats["workers"]] == [1, 2]
        assert stats["workers"][0]["memory"] == MUCH
        assert stats["workers"][0]["answers"] is True
        on.workers[1].freeze()
        answer = await ask(place, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        samples = {
            (sample.name.removeprefix("cotun_trio_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.body)
            for sample in family.samples
        }
        assert samples["bytes_total", "in"] == 12
        assert samples["workers_silent",] == 1
        assert (samples["worker_up", "1"], samples["worker_up", "2"]) == (1, 0)
        assert (samples["worker_sessions", "1"], samples["worker_sessions", "2"]) == (2, 1)
        assert samples["worker_resident_memory_bytes", "1"] == MUCH
        assert [each["id"] for each in (await ask(place, "/api/v1/sessions")).json] == [
            "1.1",
            "1.2",
        ]
        on.workers[0].seen["session"] = [session(2)]
        assert (await ask(place, "/api/v1/sessions/1.2")).json["id"] == "1.2"
        on.workers[0].seen["session"] = [None]
        assert (await ask(place, "/api/v1/sessions/1.2")).status == 404
        assert (await ask(place, "/api/v1/sessions/2.1")).status == 504
        silent = await ask(place, "/api/v1/sessions/2.1", method="DELETE")
        assert silent.status == 504
        assert silent.json["detail"] == "worker 2 does not answer"
        admin.close()
