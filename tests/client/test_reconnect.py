"""Staying connected: what a client does when the network or the server fails it."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.client.attempts import MAX_BESIDE, SLOW
from cotun_trio.client.client import Client
from cotun_trio.client.connector import STABLE
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    CotunError,
    FingerprintMismatch,
    GaveUp,
)
from cotun_trio.forwards import streams
from cotun_trio.settings import Timings
from cotun_trio.units import parse_duration
from tests.support.faults import CLEAN, Fault, fault_proxy
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    background,
    connect,
    echo,
    echoes,
    exchange,
    free_port,
    listening,
    random_bytes,
    refused_address,
    sha256,
)
from tests.support.tunnel import (
    WatchedClient,
    client_settings,
    echo_tunnel,
    running_client,
    running_server,
    switchable_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.log_watch import LogWatch


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait as long as it can be."""
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", lambda _low, high: high)


@contextlib.asynccontextmanager
async def echo_behind(fault: Fault) -> AsyncIterator[tuple[WatchedClient, trio.SocketStream]]:
    """Give a client whose server is behind a bad network, and a stream through it to an echo."""
    async with (
        running_server() as server,
        listening(echo) as target,
        fault_proxy(server.addresses[0]) as proxy,
    ):
        proxy.up = proxy.down = fault
        async with running_client(proxy.address, f"{LOOPBACK}:0:{target}") as client:
            await client.opened()
            async with await connect(client.addresses[0]) as stream:
                yield client, stream


def waits(log: LogWatch) -> list[float]:
    """Return the seconds of every wait for a retry so far."""
    return [parse_duration(found[1]) for found in log.find(r"^Retrying in (\S+)\.\.\.$", "client")]


# ---- a peer that is gone


async def test_a_black_hole_is_noticed_on_both_sides_and_left_when_it_heals(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        running_server(keepalive=10, timings=Timings(ping_timeout=5)) as server,
        listening(echo) as target,
        fault_proxy(server.addresses[0]) as proxy,
        running_client(
            proxy.address,
            f"{LOOPBACK}:0:{target}",
            keepalive=10,
            max_retry_interval=5,
            timings=Timings(ping_timeout=5),
        ) as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
            since = trio.current_time()
            proxy.stall()
            lost = "no answer to a ping in 5s"
            await log.wait_for(f"session=1 .*: closed after .*: {lost}", "server", timeout=60)
            assert trio.current_time() - since <= 15.1
            await log.wait_for(f"Disconnected: {lost}", "client", timeout=60)
            assert trio.current_time() - since <= 15.1
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await trio.sleep(20)
        since = trio.current_time()
        proxy.heal()
        await client.opened(2)
        assert trio.current_time() - since <= 5
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)


async def test_attempts_that_are_answered_in_the_same_moment_make_one_login(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        nothing_left(),
        watch_logs() as log,
        running_server() as server,
        fault_proxy(server.addresses[0]) as proxy,
    ):
        proxy.stall()
        async with running_client(proxy.address) as client:
            await trio.sleep(8)
            assert proxy.connections == MAX_BESIDE
            proxy.heal()
            await client.opened()
            await trio.sleep(10)
            assert len(client.sessions) == 1
            # The other was given up by us, before it had logged in.
            await log.wait_for("closed before it was open", "server")
            assert len(log.find("Fingerprint", "client")) == 1
            assert not log.find("Connection error", "client")


async def test_a_quiet_session_lives_on_for_ten_minutes(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with echo_tunnel() as both, await both.connect() as stream:
        await trio.sleep(600)
        assert await echoes(stream)
        assert len(both.client.sessions) == 1


async def test_without_a_keepalive_nothing_is_sent_in_a_quiet_session(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with echo_tunnel(server={"keepalive": 0}, client={"keepalive": 0}) as both:
        wire = both.client.sessions[0].wire
        before = wire.bytes_in, wire.bytes_out
        await trio.sleep(3600)
        assert (wire.bytes_in, wire.bytes_out) == before


async def test_a_slow_network_is_no_dead_one(autojump_with_sockets: trio.testing.MockClock) -> None:
    data = random_bytes(100_000)
    async with echo_behind(Fault(delay=2)) as (client, stream):
        since = trio.current_time()
        assert await exchange(stream, data) == (len(data), sha256(data))
        assert trio.current_time() - since >= 4
        await trio.sleep(60)
        assert len(client.sessions) == 1


@pytest.mark.slow
async def test_a_network_that_delivers_single_bytes_is_good_enough() -> None:
    data = random_bytes(2000)
    async with echo_behind(Fault(piece=1)) as (_client, stream):
        assert await exchange(stream, data) == (len(data), sha256(data))


# ---- retries


HELD_WAITS = [3, *[4] * 7]
"""Where nothing can be reached, for half a minute: without jitter, each as long as it can be."""


async def test_the_waits_are_short_for_half_a_minute_and_then_double_up_to_the_longest(
    autojump_with_sockets: trio.testing.MockClock, no_jitter: None
) -> None:
    async with (
        watch_logs() as log,
        running_client(refused_address(), max_retry_interval=20),
    ):
        await log.wait_for("Retrying", times=18, timeout=1000)
    assert waits(log) == [*HELD_WAITS, 6, 12, *[15] * 5, 20, 20, 20]


@pytest.mark.parametrize("status", [b"429 Slowly", b"503 Busy"])
async def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(
    status: bytes, autojump_with_sockets: trio.testing.MockClock
) -> None:
    asked: list[float] = []

    async def busy(stream: trio.SocketStream) -> None:
        while b"\r\n\r\n" not in await stream.receive_some():
            pass
        asked.append(trio.current_time())
        head = b"HTTP/1.1 %s\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n"
        await stream.send_all(head % status)

    async with watch_logs() as log, listening(busy) as address, running_client(address):
        await log.wait_for("Retrying", times=3, timeout=1000)
    assert "try again after 1m40s" in log.find("Connection error: (.*)", "client")[0][1]
    assert len(asked) == 3  # in one dialect each time: the other one is no reason to come at once
    for seconds in waits(log):
        assert 100 <= seconds <= 103


async def test_where_rounds_are_counted_the_waits_double_from_the_first_on(
    autojump_with_sockets: trio.testing.MockClock, no_jitter: None
) -> None:
    async with watch_logs() as log:
        with pytest.raises(GaveUp):
            await Client(client_settings(refused_address(), max_retry_count=4)).run()
    assert waits(log) == [3, 6, 12, 24]


async def test_the_waits_are_drawn_from_the_whole_interval(
    autojump_with_sockets: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", random.Random(3).uniform)
    async with watch_logs() as log, running_client(refused_address(), max_retry_interval=8):
        await log.wait_for("Retrying", times=35, timeout=10_000)
    late = waits(log)[15:]  # behind the first half minute
    assert max(late) <= 8
    assert min(late) < 1
    assert 3 < sum(late) / len(late) < 5


async def test_the_user_says_how_short_a_wait_may_be(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, running_client(refused_address(), min_retry_interval=10):
        await log.wait_for("Retrying", times=10, timeout=10_000)
    assert min(waits(log)) >= 9
    assert waits(log)[0] <= 30


async def test_a_session_that_lasted_starts_the_waits_again(
    autojump_with_sockets: trio.testing.MockClock, no_jitter: None
) -> None:
    async with watch_logs() as log, switchable_server() as server:
        await server.stop()
        async with running_client(server.address) as client:
            await log.wait_for("Retrying in 15s", timeout=100)
            await server.start()
            await client.opened()
            await trio.sleep(STABLE)
            await server.stop()
            await log.wait_for("Disconnected: ", "client")
            await log.wait_for("Retrying", times=12)
    assert waits(log) == [*HELD_WAITS, 6, 12, 15, 3]


async def test_a_session_that_is_dropped_at_once_does_not(
    autojump_with_sockets: trio.testing.MockClock, no_jitter: None
) -> None:
    async with (
        watch_logs() as log,
        running_server() as server,
        running_client(server.addresses[0]) as client,
    ):
        for number in range(1, 5):
            (await client.opened(number)).wire.close()
            await log.wait_for("Retrying", times=number)
    assert waits(log) == [3, 6, 12, 15]
    assert len(log.find("Disconnected: ", "client")) == 4


async def test_retry_now_cuts_the_wait_short(
    autojump_with_sockets: trio.testing.MockClock, no_jitter: None
) -> None:
    async with watch_logs() as log, switchable_server() as server:
        await server.stop()
        async with running_client(server.address) as client:
            await log.wait_for("Retrying in 48s", timeout=200)
            await server.start()
            since = trio.current_time()
            client.retry_now()
            await client.opened()
            assert trio.current_time() - since < 1


@pytest.mark.parametrize("most", [0, 1, 4])
async def test_retries_come_to_an_end(
    most: int, autojump_with_sockets: trio.testing.MockClock
) -> None:
    address = refused_address()
    async with watch_logs() as log, nothing_left():
        with pytest.raises(GaveUp, match=f"after {most + 1} attempts: .*Connection refused"):
            await Client(client_settings(address, max_retry_count=most)).run()
    assert len(log.find(f"Connection error: {address}: Connection refused", "client")) == most + 1
    assert len(waits(log)) == most
    assert log.lines("client")[-1] == "Give up"


WRONG: dict[str, tuple[dict[str, Any], type[CotunError], str]] = {
    "password": ({"auth": Credentials("", "wrong")}, AuthenticationFailed, "Authentication failed"),
    "fingerprint": (
        {"auth": Credentials("", "right"), "fingerprint": fingerprint(b"another")},
        FingerprintMismatch,
        r"Invalid fingerprint \(",
    ),
    "remote": (
        {"auth": Credentials("", "right"), "remotes": (f"R:{LOOPBACK}:2222:{LOOPBACK}:22",)},
        ConfigRefused,
        "Connection error: the server refused: ",
    ),
}


def wrong_client(what: str, address: str, **settings: Any) -> Client:
    wrong = WRONG[what][0] | settings
    remotes = wrong.pop("remotes", ())
    return Client(client_settings(address, *remotes, **wrong))


@pytest.mark.parametrize("what", WRONG)
async def test_what_cannot_heal_stops_the_client_at_once(what: str) -> None:
    error, line = WRONG[what][1:]
    async with watch_logs() as log, running_server(auth=Credentials("", "right")) as server:
        with pytest.raises(error):
            await wrong_client(what, server.addresses[0]).run()
    assert len(log.find(line, "client")) == 1
    assert waits(log) == []


async def test_a_client_without_credentials_is_told_that_the_server_wants_some() -> None:
    async with running_server(auth=Credentials("alice", "right")) as server:
        with pytest.raises(AuthenticationFailed, match=r"wants a user and a password: .* --auth "):
            await Client(client_settings(server.addresses[0])).run()
        with pytest.raises(AuthenticationFailed, match=r"refused the user name or the password$"):
            await wrong_client("password", server.addresses[0]).run()


@pytest.mark.parametrize("what", WRONG)
async def test_what_cannot_heal_is_tried_again_where_a_count_is_given(
    what: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    line = WRONG[what][2]
    async with watch_logs() as log, running_server(auth=Credentials("", "right")) as server:
        with pytest.raises(GaveUp, match="after 3 attempts"):
            await wrong_client(what, server.addresses[0], max_retry_count=2).run()
    assert len(log.find(line, "client")) == 3
    assert len(waits(log)) == 2


async def test_below_zero_a_count_has_no_end_whatever_happens(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, running_server(auth=Credentials("", "right")) as server:
        with trio.move_on_after(1000):
            await wrong_client("password", server.addresses[0], max_retry_count=-1).run()
    assert len(log.find("Authentication failed: ", "client")) > 3


# ---- local connections while there is no session


async def test_a_connection_that_comes_while_the_server_is_away_is_carried_when_it_is_back(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        switchable_server() as server,
        listening(echo) as target,
        running_client(server.address, f"{LOOPBACK}:0:{target}") as client,
    ):
        await client.opened()
        await server.stop()
        await log.wait_for("Disconnected: ", "client")
        async with await connect(client.addresses[0]) as stream:
            await stream.send_all(b"early")
            await trio.sleep(10)
            await server.start()
            client.retry_now()
            assert await stream.receive_some() == b"early"


async def test_a_connection_that_waits_outlives_attempts_that_get_far_but_fail(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        running_server() as server,
        listening(echo) as target,
        fault_proxy(server.addresses[0]) as proxy,
    ):
        proxy.down = Fault(cut_after=1000)
        async with (
            running_client(proxy.address, f"{LOOPBACK}:0:{target}") as client,
            await connect(client.addresses[0]) as stream,
        ):
            await log.wait_for("Connection error: ", "client", times=3)
            proxy.down = CLEAN
            assert await echoes(stream)


async def test_a_connection_that_waits_in_vain_is_reset(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    settings = {"timings": Timings(ssh_wait=7), "max_retry_interval": 2}
    remote = f"{LOOPBACK}:0:{LOOPBACK}:9"
    async with (
        running_client(refused_address(), remote, **settings) as client,
        nothing_left(),
        await connect(client.addresses[0]) as stream,
    ):
        since = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert trio.current_time() - since == pytest.approx(7, abs=0.1)


async def test_a_connection_that_is_open_when_the_session_ends_is_reset() -> None:
    async with echo_tunnel() as both, await both.connect() as stream:
        assert await echoes(stream)
        both.client.sessions[0].fail(CotunError("a test"))
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_the_local_port_never_refuses_while_sessions_come_and_go(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        switchable_server() as server,
        listening(echo) as target,
        running_client(server.address, f"{LOOPBACK}:0:{target}", max_retry_interval=1) as client,
    ):
        for number in range(1, 6):
            await client.opened(number)
            await server.stop()
            async with await connect(client.addresses[0]) as stream:
                await server.start()
                assert await echoes(stream)


async def test_an_error_of_our_own_costs_the_client_its_session_only(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async def broken(outgoing: streams.Outgoing) -> None:
        monkeypatch.undo()
        outgoing._sock.close()
        raise RuntimeError("ours")

    async with watch_logs() as log, echo_tunnel() as both:
        monkeypatch.setattr(streams.Outgoing, "run", broken)
        async with await both.connect():
            await both.client.opened(2)
        assert "internal error, the session is closed" in log.lines("client")
        async with await both.connect() as stream:
            assert await echoes(stream)


# ---- faults in the middle of a handshake

HANDSHAKE = 2800
"""Bytes that a client sends up to and including its first forwarded connection; the server sends
less."""
STEP = 53
"""Bytes between the places that are tried: every one takes 20 ms.  A prime, to meet any field."""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("what", ["cut_after", "flip_at"])
async def test_a_handshake_cut_or_garbled_at_any_byte_is_made_again_and_delivers_nothing_corrupt(
    what: str, way: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with (
        running_server() as server,
        listening(echo) as target,
        fault_proxy(server.addresses[0]) as proxy,
    ):
        for at in range(0, HANDSHAKE, STEP):
            fault = Fault(**{what: at})
            proxy.once = (fault, CLEAN) if way == "up" else (CLEAN, fault)
            async with nothing_left():
                await recovers(proxy.address, target)


async def recovers(address: str, target: str) -> None:
    """Check that a client comes to carry a connection, although its first session has a fault."""
    async with running_client(address, f"{LOOPBACK}:0:{target}") as client:
        for _ in range(2):
            async with await connect(client.addresses[0]) as stream:
                try:
                    assert await echoes(stream)
                except (trio.BrokenResourceError, EOFError):
                    continue  # it was in the session that broke
                return
        raise AssertionError("it did not recover")


# ---- a reverse port that somebody else has for a moment


async def test_a_client_waits_for_a_reverse_port_that_is_held(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    port = free_port()
    remote = f"R:{LOOPBACK}:{port}:{LOOPBACK}:1"
    async with watch_logs() as log, running_server(reverse=True) as server:
        with socket.create_server((LOOPBACK, port)):
            async with background() as nursery:
                client = WatchedClient(client_settings(server.addresses[0], remote))
                await nursery.start(client.run)
                reason = f"refused: Server cannot listen on {LOOPBACK}:{port}: Address already"
                await log.wait_for(f"Connection error: the server {reason}", "client")
                error = f"Connection error: the server {reason}.*Attempt: 3"
                await log.wait_for(error, "client", timeout=100)
                nursery.cancel_scope.cancel()
        async with running_client(server.addresses[0], remote) as client:
            await client.opened()


# ---- the levels of what is said


async def test_what_is_lost_or_refused_is_a_warning_and_what_ends_the_client_is_an_error(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    def level(beginning: str) -> str:
        """Return the level of the last line that begins so."""
        return [r.levelname for r in log.records if beginning in r.getMessage()][-1]

    async with watch_logs() as log, switchable_server(auth=Credentials("", "right")) as server:
        right = {"auth": Credentials("", "right")}
        async with running_client(server.address, **right) as client:
            await client.opened()
            await server.stop()
            await log.wait_for("Connection error: ", "client")
        await server.start()
        assert level("Disconnected: ") == level("Connection error: ") == "WARNING"
        with pytest.raises(AuthenticationFailed):
            await wrong_client("password", server.address).run()
        assert level("Authentication failed: ") == "ERROR"
        assert level("Authentication failed from ") == "INFO"  # fail2ban knows it so
        with pytest.raises(GaveUp):
            await wrong_client("password", server.address, max_retry_count=0).run()
        assert level("Authentication failed: ") == "WARNING"
        assert level("Give up") == "ERROR"


async def test_a_client_says_where_it_connects_to_when_that_takes_over_a_second(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with watch_logs() as log, listening(silent) as address, running_client(address):
        since = trio.current_time()
        await log.wait_for(f"^Connecting to http://{address}", "client")
        assert trio.current_time() - since == pytest.approx(SLOW, abs=0.1)


async def test_a_client_that_connects_at_once_says_nothing_before(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        running_server() as server,
        running_client(server.addresses[0]) as client,
    ):
        await client.opened()
        await trio.sleep(10)
        assert log.lines("client")[0].startswith("Fingerprint ")
