"""The admin interface of a server of several processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.admin import ask, reading
from tests.support.certificates import Authority
from tests.support.peers import needs
from tests.support.programs import PATIENCE, our_client, our_server, ours
from tests.support.targets import connect, echo, echoes, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.programs import Program

pytestmark = pytest.mark.slow

QUIET = ("--keepalive", "0")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


@contextlib.asynccontextmanager
async def two_workers(place: str, *options: str) -> AsyncIterator[tuple[Program, str]]:
    async with our_server("--workers", "2", *QUIET, "--admin-listen", place, *options) as found:
        yield found


async def stats(place: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(place, "/api/v1/stats")).json
    return found


async def samples(place: str) -> dict[tuple[str, ...], float]:
    """Return the value of each sample of a scrape, by its name and the values of its labels."""
    answer = await ask(place, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    return {
        (sample.name.removeprefix("cotun_trio_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


async def until(place: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the figures when this holds of them."""
    with trio.fail_after(PATIENCE):
        while not holds(found := await stats(place)):
            pass
        return found


async def at_rest(one: Callable[[], Awaitable[Any]], part: Callable[[Any], Any]) -> Any:
    """Return a figure when it has been the same twice."""
    with trio.fail_after(PATIENCE):
        before = None
        while before != (now := part(await one())):
            before = now
        return now


@contextlib.asynccontextmanager
async def two_clients(place: str, url: str, target: str) -> AsyncIterator[list[str]]:
    """Run two clients, which different workers have; give where they listen."""
    async with (
        our_client(url, *QUIET, target=target) as (_, at_one),
        our_client(url, *QUIET, target=target) as (_, at_two),
    ):
        await until(place, lambda found: found["sessions"] == 2)
        yield [at_one, at_two]


def total(found: dict[str, Any]) -> tuple[int, ...]:
    """Return all that may only grow."""
    return found["sessions"] + found["ended"], found["bytes_in"], found["bytes_out"]


async def test_the_figures_are_those_of_all_sessions_to_the_byte(place: str) -> None:
    async with (
        listening(echo) as target,
        two_workers(place) as (server, url),
        two_clients(place, url, target) as addresses,
    ):
        for address in addresses:
            async with await connect(address) as stream:
                assert await echoes(stream)
        await at_rest(lambda: stats(place), total)
        found = await stats(place)
        sessions = (await ask(place, "/api/v1/sessions")).json
        assert {each["worker"] for each in sessions} == {1, 2}
        assert {each["id"] for each in sessions} == {
            f"{each['worker']}.{each['number']}" for each in sessions
        }
        for way in ("bytes_in", "bytes_out"):
            assert found[way] == sum(each[way] for each in sessions) > 0
            assert found[way] == sum(each[way] for each in found["workers"])
        assert [each["sessions"] for each in found["workers"]] == [1, 1]
        assert found["memory"] > sum(each["memory"] for each in found["workers"]) > 0
        scraped = await samples(place)
        assert scraped["bytes_total", "in"] == found["bytes_in"]
        assert scraped["logins_total", "accepted"] == 2
        assert scraped["channel_openings_total", "opened"] == 2
        assert scraped["handshake_duration_seconds_count",] == 2
        assert scraped["worker_up", "1"] == scraped["worker_up", "2"] == 1
        await server.stop()
        # Nothing has asked for the place twice, and it is gone with the server.
        assert len(server.find("Answering administrators")) == 1
        assert not await trio.Path(place.removeprefix("unix:")).exists()
        assert not server.find("Traceback")


async def test_the_commands_know_the_sessions_of_all_workers(place: str) -> None:
    env = {"COTUN_ADMIN": place}
    async with (
        listening(echo) as target,
        two_workers(place) as (server, url),
        our_client(url, target=target) as (one, _),
        our_client(url, target=target) as (two, _),
    ):
        await until(place, lambda found: found["sessions"] == 2)
        async with ours("status", env=env) as status:
            assert await status.wait() == 0
            assert status.find(r"^sessions  2 \(2 so far\)")
            for number in (1, 2):
                assert status.find(rf"^worker {number}  process \d+, 1 sessions, \d+.*MB$")
        async with ours("sessions", env=env) as sessions:
            assert await sessions.wait() == 0
            assert sessions.find(r"^ +1\.1 ")
            assert sessions.find(r"^ +2\.1 ")
        async with ours("kick", "2.1", "--reason", "lunch", env=env) as kick:
            assert await kick.wait() == 0
        await server.wait_for("worker=2 .*ended by an administrator: lunch")
        await until(place, lambda found: (found["ended"], found["sessions"]) == (1, 2))
        told = [client.find("Disconnected: .*lunch") for client in (one, two)]
        assert sorted(map(len, told)) == [0, 1]
        async with ours("kick", "2.77", env=env) as kick:
            assert await kick.wait() == 1
            assert kick.find(r"there is no session 2\.77")


async def test_totals_stay_when_a_worker_is_killed(place: str) -> None:
    async with (
        listening(echo) as target,
        two_workers(place) as (server, url),
        two_clients(place, url, target) as addresses,
    ):
        for address in addresses:
            async with await connect(address) as stream:
                assert await echoes(stream)
        await at_rest(lambda: stats(place), total)
        before, scraped = await stats(place), await samples(place)
        os.kill(before["workers"][0]["process"], signal.SIGKILL)
        await server.wait_for("was killed by SIGKILL")
        after = await until(
            place, lambda found: [each["number"] for each in found["workers"]] == [2, 3]
        )
        assert all(now >= then for now, then in zip(total(after), total(before), strict=True))
        now = await samples(place)
        grow = [key for key in scraped if re.search("_(total|bucket|count|sum)$", key[0])]
        assert len(grow) > 30
        assert [key for key in grow if now[key] < scraped[key]] == []
        assert after["ended"] == 1
        # Its client is back, in a worker that lives.
        await until(place, lambda found: found["sessions"] == 2)
        sessions = (await ask(place, "/api/v1/sessions")).json
        assert "1.1" not in {each["id"] for each in sessions}
        assert (await ask(place, f"/api/v1/sessions/{sessions[0]['id']}")).status == 200
        assert (await ask(place, f"/api/v1/sessions/{sessions[0]['id']}/channels")).json == {
            "count": 0,
            "channels": [],
        }


async def test_a_worker_that_is_stopped_holds_nothing_up_and_is_named(place: str) -> None:
    async with (
        listening(echo) as target,
        two_workers(place) as (_, url),
        two_clients(place, url, target),
    ):
        before = await stats(place)
        stopped = before["workers"][1]["process"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            found = await stats(place)
            assert found["workers_silent"] == 1
            assert [each["answers"] for each in found["workers"]] == [True, False]
            assert found["sessions"] == 2
            assert (await ask(place, "/health")).status == 200
            assert (await ask(place, "/ready")).status == 200
            scraped = await samples(place)
            assert (scraped["worker_up", "1"], scraped["worker_up", "2"]) == (1, 0)
            refused = await ask(place, "/api/v1/sessions/2.1", method="DELETE")
            assert (refused.status, refused.json["detail"]) == (504, "worker 2 does not answer")
            async with ours("kick", "2.1", env={"COTUN_ADMIN": place}) as kick:
                assert await kick.wait() == 2
                assert kick.find("worker 2 does not answer")
            async with ours("status", env={"COTUN_ADMIN": place}) as status:
                assert await status.wait() == 0
                assert status.find(rf"^worker 2  process {stopped}, does not answer$")
        finally:
            os.kill(stopped, signal.SIGCONT)
        await until(place, lambda found: found["workers_silent"] == 0)


async def test_it_lives_on_while_all_workers_are_replaced_and_while_they_drain(place: str) -> None:
    async with (
        listening(echo) as target,
        two_workers(place) as (server, url),
        our_client(url, *QUIET, target=target) as (_, local),
        await connect(local) as stream,
    ):
        assert await echoes(stream)
        before = await at_rest(lambda: stats(place), total)
        server.send_signal(signal.SIGUSR1)
        found = await until(
            place, lambda found: [each["number"] for each in found["workers"]] == [3, 4]
        )
        assert all(now >= then for now, then in zip(total(found), before, strict=True))
        await until(place, lambda found: found["sessions"] == 1)
        async with await connect(local) as again:
            assert await echoes(again)
            said = len(server.lines)
            server.send_signal(signal.SIGTERM)
            await server.wait_for("Shutting down, 1 sessions", skip=said)
            drains = await ask(place, "/ready")
            assert (drains.status, drains.body) == (503, "it is shutting down\n")
            assert (await ask(place, "/health")).status == 200
            assert (await stats(place))["sessions"] == 1
        assert await server.wait() == 0
        assert not server.find("Traceback")


@needs("promtool")
@pytest.mark.interop
async def test_promtool_has_nothing_to_say(place: str) -> None:
    async with two_workers(place):
        body = (await ask(place, "/metrics")).body
    assert 'cotun_trio_worker_up{worker="2"} 1.0' in body
    done = await trio.run_process(
        ["promtool", "check", "metrics"],
        stdin=body.encode(),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")


async def test_the_page_and_the_events_are_of_all_workers(place: str, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path / "ca").issue("localhost", "127.0.0.1")
    async with (
        listening(echo) as target,
        two_workers(place, "--tls-cert", cert, "--tls-key", key) as (_, url),
        reading(place) as blocks,
    ):
        await blocks.next()
        one = our_client(url, "--tls-skip-verify", target=target)
        other = our_client(url, "--tls-skip-verify", target=target)
        async with one as (first, _), other as (second, _):
            await first.wait_for("Connected")
            await second.wait_for("Connected")
            for _ in range(2):
                assert "\nevent: opened\n" in await blocks.next()
            await until(place, lambda found: found["sessions"] == 2)
            page = (await ask(place, "/")).body
    assert set(re.findall(r'<tr role="row" id="session-(\d)[.]1">', page)) == {"1", "2"}
    address = url.partition("://")[2]
    assert f"<dt>Listens on</dt><dd>{address}</dd>" in page
    assert "<dt>Certificate</dt><dd>until " in page
