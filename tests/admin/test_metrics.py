"""The figures for Prometheus: their form, their names, and that they are right."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography import x509
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_fd_to_metric_families

from cotun_trio.access.credentials import Credentials
from cotun_trio.admin.metrics import exposition
from cotun_trio.client.connector import _outcome
from cotun_trio.counts import OTHERS, Durations, Meters, Tally
from cotun_trio.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DialFailed,
    FingerprintMismatch,
    ProtocolError,
)
from cotun_trio.settings import AdminAddress
from tests.support.admin import FLEET, ask
from tests.support.certificates import Authority
from tests.support.log_watch import watch_logs
from tests.support.metrics import full_tunnel, samples
from tests.support.peers import needs
from tests.support.targets import LOOPBACK, MiB, echo, echoes, listening
from tests.support.tunnel import echo_tunnel, running_client, running_server, tunnel

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.errors import CotunError


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


def end_of(path: Path) -> float:
    """Return when the certificate in a file ends."""
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


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


async def test_a_node_of_a_fleet_has_the_figures_of_that(place: str) -> None:
    async with running_server(admin_listen=place) as server:
        assert not any(name.startswith("fleet") for name, *_ in await scrape(place))
        server.shown._fleet = lambda: FLEET
        found = await scrape(place)
        assert found["fleet_nodes",] == 2
        assert found["fleet_directory_up",] == 1
        assert found["fleet_lease_seconds",] == 9.5
        assert found["fleet_places", "this_node"] == found["fleet_places", "other_nodes"] == 1
        page = (await ask(place, "/")).body
        assert "there~1, http://10.0.0.2:8080, 3 sessions, draining" in page
        assert "cotun, node here~1" in page


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
@pytest.mark.slow
async def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    async with full_tunnel(tmp_path) as both:
        bodies = [await exposition(each.shown, "") for each in (both.server, both.client)]
    for body, content_type in bodies:
        assert content_type.startswith("text/plain")
        done = await trio.run_process(
            ["promtool", "check", "metrics"],
            stdin=body,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, b"")


async def test_both_formats_have_the_same_samples(tmp_path: Path) -> None:
    async with full_tunnel(tmp_path) as both:
        older, _ = await exposition(both.server.shown, "")
        newer = {name[0] for name in await samples(both.server.shown)}
    families = text_fd_to_metric_families(io.StringIO(older.decode()))
    assert {sample.name for family in families for sample in family.samples} == newer


# ---- what is only there at times


async def test_the_end_of_a_certificate_is_that_of_the_one_in_use(tmp_path: Path) -> None:
    name = ("cotun_trio_certificate_expiry_timestamp_seconds",)
    async with full_tunnel(tmp_path) as both:
        before = (await samples(both.server.shown))[name]
        assert before == end_of(tmp_path / "ca" / "server.pem")
        assert (await samples(both.client.shown))[name] == end_of(tmp_path / "ca" / "client.pem")
        Authority(tmp_path / "other").issue(LOOPBACK, file="server", future=True)
        for file in ("server.pem", "server.key"):
            (tmp_path / "ca" / file).write_bytes((tmp_path / "other" / file).read_bytes())
        assert (await samples(both.server.shown))[name] == before
        await both.server.read_again()
        after = (await samples(both.server.shown))[name]
        assert after == end_of(tmp_path / "other" / "server.pem") != before
        (tmp_path / "ca" / "server.pem").write_text("-----BEGIN nothing")
        await both.server.read_again()
        assert (await samples(both.server.shown))[name] == after


async def test_a_client_counts_its_attempts_by_their_outcome() -> None:
    async with listening(echo) as nobody:
        pass
    async with watch_logs() as log, running_client(nobody, "0:x:1") as client:
        await log.wait_for("Retrying in", "client")
        found = await samples(client.shown)
    assert found["cotun_trio_connects_total", "unreachable"] == 1
    assert found["cotun_trio_connects_total", "opened"] == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DialFailed("x", 0), "unreachable"),
        (AuthenticationFailed("x"), "refused"),
        (FingerprintMismatch("x"), "refused"),
        (ConnectionLost("x"), "lost"),
        (ProtocolError("x"), "lost"),
    ],
)
def test_the_outcome_of_an_attempt(error: CotunError, outcome: str) -> None:
    assert _outcome(error) == outcome
    assert outcome in Meters().connects.counts


async def test_reconnects_are_attempts_that_opened(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with echo_tunnel() as both:
        for times in (2, 3):
            both.client.sessions[-1].fail(ConnectionLost("by the test"))
            await both.client.opened(times)
        found = await samples(both.client.shown)
    assert found["cotun_trio_connects_total", "opened"] == 3


async def test_what_programs_do_not_read_is_in_the_backlog() -> None:
    name = ("cotun_trio_backlog_bytes", "in")
    async with listening(lambda _: trio.sleep_forever()) as target, tunnel(target) as both:
        assert (await samples(both.server.shown))[name] == 0
        async with await both.connect() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, bytes(64 * MiB))
            while not (await samples(both.server.shown))[name]:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def test_what_the_network_does_not_take_is_in_the_backlog() -> None:
    async with echo_tunnel() as both:
        (session,) = both.server.sessions
        writer = session.wire.carrier
        while not writer.backlog:
            writer.send(memoryview(bytes(MiB)))
        assert both.server.shown.figures().backlog_out == writer.backlog > 0


async def test_connections_are_counted_beside_their_limit(tmp_path: Path) -> None:
    limits = {"max_connections": 7}
    async with echo_tunnel(server=limits, client=limits) as both, await both.connect() as stream:
        assert await echoes(stream)
        for each in (both.server, both.client):
            found = await samples(each.shown)
            assert found["cotun_trio_connections",] == 1
            assert found["cotun_trio_max_connections",] == 7
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            assert found["cotun_trio_max_descriptors",] == limit


async def test_without_a_limit_none_is_shown() -> None:
    async with echo_tunnel(server={"max_connections": 0}) as both:
        assert ("cotun_trio_max_connections",) not in await samples(both.server.shown)


@pytest.mark.parametrize("role", ["server", "client"])
async def test_a_process_that_is_about_to_end_says_so(role: str) -> None:
    async with echo_tunnel() as both, await both.connect() as stream:
        assert await echoes(stream)
        ending = getattr(both, role)
        found = await samples(ending.shown)
        assert (found["cotun_trio_draining",], found["cotun_trio_ready",]) == (0, 1)
        ending.shut_down()
        while not (await samples(ending.shown))["cotun_trio_draining",]:
            await trio.lowlevel.checkpoint()
        assert (await samples(ending.shown))["cotun_trio_ready",] == 0
        assert await echoes(stream)


# ---- users


async def test_users_have_figures_of_their_own_and_keep_what_ended_sessions_carried(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    users = {"auth": "alice:secret", "metrics_per_user": True}
    alice = {"auth": Credentials("alice", "secret")}
    async with echo_tunnel(server=users, client=alice) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
            found = await samples(both.server.shown)
            (session,) = both.server.sessions
            assert found["cotun_trio_user_sessions", "alice"] == 1
            assert found["cotun_trio_user_bytes_total", "alice", "in"] == session.wire.bytes_in
            assert found["cotun_trio_user_bytes_total", "alice", "out"] == session.wire.bytes_out
        session.fail(ConnectionLost("by the test"))
        await both.client.opened(2)
        while both.server.sessions == [session]:
            await trio.lowlevel.checkpoint()
        (second,) = both.server.sessions
        found = await samples(both.server.shown)
        assert found["cotun_trio_user_sessions", "alice"] == 1
        assert (
            found["cotun_trio_user_bytes_total", "alice", "in"]
            == found["cotun_trio_bytes_total", "in"]
            == session.wire.bytes_in + second.wire.bytes_in
        )


async def test_sessions_without_users_are_not_told_apart_by_what_clients_say() -> None:
    everybody = {"metrics_per_user": True}
    async with echo_tunnel(server=everybody, client={"auth": Credentials("root", "x")}) as both:
        found = await samples(both.server.shown)
    assert {name[1] for name in found if name[0] == "cotun_trio_user_sessions"} == {OTHERS}


async def test_users_are_not_told_apart_unless_that_is_asked_for() -> None:
    auth = {"client": {"auth": Credentials("alice", "x")}, "server": {"auth": "alice:x"}}
    async with echo_tunnel(**auth) as both:
        found = await samples(both.server.shown)
    assert not [name for name in found if "user" in name[0]]


async def test_a_name_is_shown_as_in_the_log() -> None:
    name = 'a"\n\x1b{b}\\'
    auth = {"auth": Credentials(name, "x")}
    async with echo_tunnel(server={**auth, "metrics_per_user": True}, client=auth) as both:
        found = await samples(both.server.shown)
    assert ("cotun_trio_user_sessions", 'a"\\n\\x1b{b}\\\\') in found


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
