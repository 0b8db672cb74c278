"""Reconnecting after a network was dark for seconds, without any news from the system.

For a client that knows that its session is lost.  How it comes to know is in `test_reconnect`.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.client.attempts import MAX_BESIDE
from cotun_trio.client.client import Client
from cotun_trio.client.connector import STABLE
from cotun_trio.client.session import ClientSession, Stage
from cotun_trio.errors import ConnectionLost, GaveUp
from cotun_trio.protocol.dialect import CHISEL
from cotun_trio.server.server import Server
from cotun_trio.server.session import ServerSession
from cotun_trio.settings import ServerSettings
from cotun_trio.testing.pair import MemoryNetwork
from tests.support.dark_network import (
    DROPS,
    DROPS_ONCE,
    NO_NAMES,
    NO_NEIGHBOUR,
    UNREACHABLE,
    DarkNetwork,
)
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import background
from tests.support.tunnel import WatchedClient, client_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from cotun_trio.settings import Route
    from cotun_trio.testing.wire import MemoryWire
    from tests.support.dark_network import Darkness

BACK = 4.0
"""Seconds: what the waits and the attempts may take of 5; the rest is for a real connection."""
TRIES = 60
LOST = ConnectionLost("another attempt got further")


@contextlib.asynccontextmanager
async def memory_server() -> AsyncIterator[MemoryNetwork]:
    """Run a server in memory."""
    async with background() as nursery:
        network = MemoryNetwork()
        await nursery.start(Server(ServerSettings(), listening=network).run)
        yield network


@contextlib.asynccontextmanager
async def client_through(network: DarkNetwork, **settings: object) -> AsyncIterator[WatchedClient]:
    """Run a client that dials by `network`."""
    client = WatchedClient(client_settings("server.invalid", **settings), uplink=network)
    async with background() as nursery:
        await nursery.start(client.run)
        yield client


def session_with(server: MemoryNetwork, reached: Callable[[Stage], None]) -> ClientSession:
    """Return a client's session that is to be run."""
    settings = client_settings("server.invalid")
    client = Client(settings, uplink=DarkNetwork(server, DROPS))
    return ClientSession(client, settings.server, server.connect(), CHISEL, client.log, reached)


async def back_after(network: DarkNetwork, dark: float) -> float:
    """Return how many seconds a client needs after `dark` seconds without a network."""
    async with client_through(network) as client:
        await client.opened()
        await trio.sleep(STABLE)
        network.go_dark()
        await trio.sleep(dark)
        network.heal()
        since = trio.current_time()
        await client.opened(2)
        back = trio.current_time() - since
        await trio.sleep(60)
        assert len(client.sessions) == 2
        assert sum(not wire.ended.is_set() for wire in network.wires) == 1
        return back


@pytest.mark.slow
@pytest.mark.parametrize("darkness", [DROPS, DROPS_ONCE, UNREACHABLE, NO_NAMES, NO_NEIGHBOUR])
async def test_a_network_that_was_dark_for_9_to_27_seconds_has_its_client_back_in_5(
    darkness: Darkness, autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(10)
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", generator.uniform)
    times: list[float] = []

    async def measure(dark: float) -> None:
        times.append(await back_after(DarkNetwork(server, darkness), dark))

    async with memory_server() as server, trio.open_nursery() as tries:
        for _ in range(TRIES):
            tries.start_soon(measure, generator.uniform(9, 27))
    assert len(times) == TRIES
    assert max(times) <= BACK


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the users of all logins that servers are asked to judge."""
    users: list[str] = []
    verify = ServerSession.verify_login

    async def watched(session: ServerSession, user: str, password: str) -> bool:
        users.append(user)
        return await verify(session, user, password)

    monkeypatch.setattr(ServerSession, "verify_login", watched)
    return users


class Gate(DarkNetwork):
    """One that lets everything through in the same moment when it is healed."""

    def __init__(self, server: MemoryNetwork) -> None:
        super().__init__(server, DROPS)
        self.opened = trio.Event()

    async def dial(self, route: Route, taken: Collection[str] = ()) -> MemoryWire:
        """See `DarkNetwork.dial`."""
        await self.opened.wait()
        # Without a checkpoint: no cancellation comes in between.
        self.wires.append(self._network.connect())
        return self.wires[-1]


async def test_attempts_that_are_connected_in_the_same_moment_make_one_session(
    logins: list[str], autojump: trio.testing.MockClock
) -> None:
    async with nothing_left(), memory_server() as server:
        network = Gate(server)
        async with client_through(network) as client:
            await trio.sleep(5)
            network.opened.set()
            await client.opened()
            await trio.sleep(60)
            assert [wire.ended.is_set() for wire in network.wires].count(False) == 1
            assert len(logins) == len(client.sessions) == 1
    assert len(network.wires) == MAX_BESIDE


async def test_a_session_that_is_ended_when_the_keys_are_agreed_does_not_log_in(
    logins: list[str], autojump: trio.testing.MockClock
) -> None:
    stages: list[Stage] = []

    def reached(stage: Stage) -> None:
        stages.append(stage)
        if stage is Stage.KEYS_AGREED:
            session.fail(LOST)

    async with memory_server() as server:
        session = session_with(server, reached)
        with pytest.raises(ConnectionLost, match=str(LOST)):
            await session.run(deadline=100)
        await trio.sleep(60)
    assert stages == [Stage.UPGRADED, Stage.KEYS_AGREED]
    assert logins == []


async def test_a_session_that_is_ended_before_it_runs_does_not_even_ask_for_an_upgrade(
    autojump: trio.testing.MockClock,
) -> None:
    stages: list[Stage] = []
    async with memory_server() as server:
        session = session_with(server, stages.append)
        session.fail(LOST)
        with pytest.raises(ConnectionLost, match=str(LOST)):
            await session.run(deadline=100)
    assert stages == []


async def test_a_login_that_takes_ten_seconds_is_not_made_a_second_time(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(_session: ServerSession, _user: str, _password: str) -> bool:
        await trio.sleep(10)
        return True

    monkeypatch.setattr(ServerSession, "verify_login", slow)
    async with memory_server() as server:
        network = DarkNetwork(server, DROPS)
        async with client_through(network) as client:
            await client.opened()
            assert network.dials == 1


async def test_the_attempts_of_a_round_count_once_and_have_one_line(
    autojump: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, nothing_left(), memory_server() as server:
        network = DarkNetwork(server, DROPS)
        network.dark = True
        client = WatchedClient(client_settings("server.invalid", max_retry_count=2), uplink=network)
        with pytest.raises(GaveUp, match="after 3 attempts"):
            await client.run()
    said = log.lines("client")
    assert said.count("Connecting to http://server.invalid...") == 3
    lines = [line for line in said if not line.startswith(("Retrying", "Connecting"))]
    assert lines == [
        "Connection error: no answer in 30 s",
        "Connection error: no answer in 30 s (Attempt: 1/2)",
        "Connection error: no answer in 30 s (Attempt: 2/2)",
        "Give up",
    ]
    assert network.dials == 30
