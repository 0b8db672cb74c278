"""The figures for Prometheus: their form, their names, and that they are right."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cotun_trio.access.credentials import Credentials
from cotun_trio.counts import Durations, Tally
from cotun_trio.errors import ConnectionLost
from cotun_trio.settings import AdminAddress
from tests.support.admin import ask
from tests.support.peers import needs
from tests.support.targets import echo, echoes, listening
from tests.support.tunnel import echo_tunnel, running_client, running_server, tunnel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


async def scrape(place: str) -> dict[tuple[str, ...], float]:
    """Return the value of each sample, by its name and the values of its labels."""
    answer = await ask(place, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return {
        (sample.name.removeprefix("cotun_trio_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


async def test_the_figures_agree_with_what_was_sent_through(place: str) -> None:
    async with echo_tunnel(server={"admin_listen": place}) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
            found = await scrape(place)
            (session,) = both.server.sessions
            assert found["bytes_total", "in"] == session.wire.bytes_in
            assert found["bytes_total", "out"] == session.wire.bytes_out
            assert found["sessions",] == found["channels",] == found["ready",] == 1
            assert found["sessions_opened_total",] == 1
        assert found["dial_duration_seconds_count",] == 1
        # Of both ends: they are in one Trio run.
        assert found["channel_openings_total", "opened"] == 2
        assert found["handshake_duration_seconds_count",] == 2
        assert found["logins_total", "accepted"] == 1
        assert found["logins_total", "failed"] == 0


async def test_refusals_are_counted_by_their_reason(place: str) -> None:
    async with listening(echo) as nobody:
        pass
    async with tunnel(nobody, server={"admin_listen": place}) as both:
        async with await both.connect() as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        found = await scrape(place)
    assert found["channel_openings_total", "unreachable"] == 1
    assert found["channel_openings_total", "refused_by_peer"] == 1


async def test_logins_are_counted_by_their_outcome(place: str) -> None:
    async with running_server(admin_listen=place, auth="alice:right") as server:
        with pytest.raises(BaseExceptionGroup):
            async with running_client(
                server.addresses[0], "0:x:1", auth=Credentials("alice", "wrong")
            ):
                await trio.sleep_forever()
        assert (await scrape(place))["logins_total", "failed"] == 1


async def test_a_client_has_the_same_figures(place: str) -> None:
    async with running_server() as server:
        here = AdminAddress.parse(place)
        async with running_client(server.addresses[0], "0:x:1", admin_listen=here) as client:
            (await client.opened()).fail(ConnectionLost("by the test"))
            await client.opened(2)
            found = await scrape(place)
            assert found["sessions_opened_total",] == 2
            assert found["sessions",] == 1


@needs("promtool")
@pytest.mark.interop
async def test_promtool_has_nothing_to_say(place: str) -> None:
    async with echo_tunnel(server={"admin_listen": place}):
        body = (await ask(place, "/metrics")).body
    done = await trio.run_process(
        ["promtool", "check", "metrics"],
        stdin=body.encode(),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_without_the_package_it_is_said_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from cotun_trio.errors import UsageError\n"
        "try: import cotun_trio.admin.metrics\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "/metrics takes prometheus-client: pip install 'cotun-trio[metrics]'\n"


# ---- what is counted


def test_durations_are_in_the_first_bucket_that_holds_them() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.0011, 30.0, 31.0):
        durations.add(seconds)
    counts = dict(zip((*Durations.BOUNDS, "inf"), durations.cumulative(), strict=True))
    assert counts[0.001] == 2
    assert counts[0.0025] == counts[10.0] == 3
    assert counts[30.0] == 4
    assert counts["inf"] == 5
    assert durations.total == pytest.approx(61.0021)


def test_an_outcome_that_nobody_has_thought_of_is_a_mistake() -> None:
    tally = Tally("good", "bad")
    tally.add("good")
    assert tally.counts == {"good": 1, "bad": 0}
    with pytest.raises(KeyError):
        tally.add("ugly")


async def test_without_the_package_the_answer_says_how_to_get_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "cotun_trio.admin.metrics", raising=False)
    monkeypatch.delattr("cotun_trio.admin.metrics", raising=False)
    async with running_server(admin_listen=place):
        answer = await ask(place, "/metrics")
    assert answer.status == 501
    assert "pip install 'cotun-trio[metrics]'" in answer.json["detail"]
