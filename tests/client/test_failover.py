"""Several servers, a crowd of clients, and a network that comes back."""

from __future__ import annotations

import errno
import random
import socket
import struct
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.client.client import Client
from cotun_trio.client.connector import FIRST_INTERVAL
from cotun_trio.client.uplink import Uplink
from cotun_trio.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CotunError,
    DialFailed,
    FingerprintMismatch,
    GaveUp,
)
from cotun_trio.net import network_news
from cotun_trio.net.network_news import is_news, watch_network
from cotun_trio.settings import Route, ServerUrl
from cotun_trio.ssh.scratch import Scratch
from tests.support.dark_network import DROPS, Darkness
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    background,
    connect,
    echo,
    echoes,
    listening,
    refused_address,
)
from tests.support.tunnel import (
    WatchedClient,
    client_settings,
    running_client,
    running_server,
    switchable_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.errors import CotunError


def routes(*addresses: str) -> tuple[Route, ...]:
    """Return the routes to servers."""
    return tuple(Route(ServerUrl.parse(address)) for address in addresses)


# ---- several servers


async def test_the_next_server_is_tried_at_once_and_the_reasons_are_said() -> None:
    gone = refused_address()
    async with (
        watch_logs() as log,
        running_server() as second,
        listening(echo) as target,
        running_client(
            gone, f"{LOOPBACK}:0:{target}", alternatives=routes(second.addresses[0])
        ) as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
        lines = log.lines("client")
        assert f"server=http://{gone}: Connection error: {gone}: Connection refused" in lines
        assert not log.find("Retrying", "client")
        assert log.find(f"server=http://{second.addresses[0]}: Connected", "client")


async def test_after_a_loss_the_first_server_comes_first_again(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        switchable_server() as first,
        switchable_server() as second,
        running_client(first.address, alternatives=routes(second.address)) as client,
    ):
        await client.opened()
        await first.stop()
        assert (await client.opened(2)).url == ServerUrl.parse(second.address)
        await first.start()
        await second.stop()
        assert (await client.opened(3)).url == ServerUrl.parse(first.address)
        assert len(log.find("Retrying in", "client")) == 2  # a wait for each loss, and no more


async def test_a_server_that_is_about_to_end_comes_last(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        running_server() as first,
        running_server() as second,
        running_client(first.addresses[0], alternatives=routes(second.addresses[0])) as client,
    ):
        await client.opened()
        # It still listens; only this client is sent away.
        first.reception.close_soon("maintenance")
        assert (await client.opened(2)).url == ServerUrl.parse(second.addresses[0])


async def test_rounds_are_counted_and_not_servers(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    addresses = [refused_address() for _ in range(3)]
    settings = client_settings(addresses[0], alternatives=routes(*addresses[1:]), max_retry_count=2)
    async with watch_logs() as log, nothing_left():
        with pytest.raises(GaveUp, match=f"gave up after 3 attempts: {addresses[2]}"):
            await Client(settings).run()
    assert len(log.find("Connection error", "client")) == 9
    assert len(log.find("Retrying in", "client")) == 2


async def test_what_cannot_heal_at_one_server_may_not_matter_at_another() -> None:
    auth = Credentials("", "right")
    async with (
        running_server(auth=Credentials("", "other")) as first,
        running_server(auth=auth) as second,
        running_client(
            first.addresses[0], alternatives=routes(second.addresses[0]), auth=auth
        ) as client,
    ):
        assert (await client.opened()).url == ServerUrl.parse(second.addresses[0])


async def test_where_it_cannot_heal_at_any_of_them_the_first_reason_counts() -> None:
    async with (
        running_server(auth=Credentials("", "right")) as first,
        running_server() as second,
    ):
        settings = client_settings(
            first.addresses[0],
            alternatives=routes(second.addresses[0]),
            auth=Credentials("", "wrong"),
            fingerprint=first.fingerprint,
        )
        with pytest.raises(AuthenticationFailed):
            await Client(settings).run()
        settings = client_settings(
            first.addresses[0],
            alternatives=routes(second.addresses[0]),
            fingerprint=fingerprint(b"another"),
        )
        with pytest.raises(FingerprintMismatch):
            await Client(settings).run()


async def test_a_server_that_is_away_keeps_the_client_going_whatever_the_others_say(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, running_server(auth=Credentials("", "right")) as server:
        settings = client_settings(
            server.addresses[0],
            alternatives=routes(refused_address()),
            auth=Credentials("", "wrong"),
        )
        with trio.move_on_after(20):
            await Client(settings).run()
        assert len(log.find("Retrying in", "client")) > 2


# ---- a crowd


class Crowd:
    """Clients that have all lost the same server, which is away for a while."""

    def __init__(
        self,
        away: float,
        meeting: Darkness | Callable[[], CotunError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.back: list[float] = []
        """When they got through: one that does so twice in a moment is in it twice."""
        arrivals: dict[object, float] = {}

        async def dial(uplink: object, _way: object, _taken: object) -> None:
            await trio.lowlevel.checkpoint()
            if trio.current_time() == 0:
                raise ConnectionLost("the session")  # which all of them lose
            if isinstance(meeting, Darkness):
                await meeting.pass_through(lambda: trio.current_time() < away)
            elif trio.current_time() < away:
                raise meeting()
            # Whatever comes later would have been given up.
            if arrivals.setdefault(uplink, trio.current_time()) == trio.current_time():
                self.back.append(trio.current_time())
            await trio.sleep_forever()

        monkeypatch.setattr(Uplink, "dial", dial)

    def densest(self) -> int:
        """Return how many came in the fullest tenth of a second."""
        return max(Counter(int(at * 10) for at in self.back).values())


# A new error each time: a single one would keep the tracebacks of all, and what is in their frames.


def turned_away() -> CotunError:
    """Return the error where a server has no place."""
    return ConnectionLost("away")


def refused() -> CotunError:
    """Return the error where nobody listens."""
    return DialFailed("Connection refused", errno.ECONNREFUSED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("meeting", "away"),
    [
        *((turned_away, away) for away in (0.0, 1.0, 10.0)),
        *((refused, away) for away in (3.0, 27.0)),
        (DROPS, 27.0),
    ],
)
async def test_a_thousand_clients_do_not_come_back_all_at_once(
    meeting: Darkness | Callable[[], CotunError], away: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a clock of its own, without the kernel: nothing is sent.
    generator = random.Random(1)
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", generator.uniform)
    # Nor is anything received: one set of buffers, of two megabytes, is enough for all.
    scratch = Scratch()
    monkeypatch.setattr("cotun_trio.client.client.Scratch", lambda: scratch)
    crowd = Crowd(away, meeting, monkeypatch)

    async def lose() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                client = Client(client_settings("server.invalid"))
                (connector,) = client._connectors._connectors
                nursery.start_soon(connector.run, nursery)
            with trio.fail_after(max(30, 10 * away)):
                while len(crowd.back) < 1000:
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    clock = trio.testing.MockClock(autojump_threshold=0)
    await trio.to_thread.run_sync(lambda: trio.run(lose, clock=clock))
    assert crowd.densest() <= 100


@pytest.mark.slow
async def test_a_hundred_real_clients_do_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of its waits no more than six lie within a tenth of a second.
    generator = random.Random(72)
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", generator.uniform)
    attempts: list[float] = []

    class Watched(WatchedClient):
        def retrying(self, seconds: float, failure: CotunError) -> None:
            super().retrying(seconds, failure)
            # When it tries is up to it; how late that is, and what follows, to the machine.
            attempts.append(trio.current_time() + seconds)

    async with switchable_server() as server, background() as nursery:
        clients = [Watched(client_settings(server.address)) for _ in range(100)]
        for client in clients:
            await nursery.start(client.run)
        for client in clients:
            await client.opened()
        await server.stop()
        await server.start()
        for client in clients:
            await client.opened(2)
    assert len(attempts) >= 100
    assert max(Counter(int(at * 10) for at in attempts).values()) <= 10


# ---- a network that comes back

HEAD = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")


def netlink(kind: int, body: bytes = b"\0" * 8) -> bytes:
    """Return a netlink message."""
    padded = body + b"\0" * (-len(body) % 4)
    return HEAD.pack(HEAD.size + len(body), kind, 0, 0, 0) + padded


def link(flags: int) -> bytes:
    """Return what is said of an interface."""
    return netlink(16, LINK.pack(0, 1, 2, flags, 0))


UP, RUNNING = 0x1, 0x40
ADDRESS, NO_ADDRESS, ROUTE, NO_ROUTE = (netlink(kind) for kind in (20, 21, 24, 25))


@pytest.mark.parametrize(
    ("data", "news"),
    [
        (b"", False),
        (ADDRESS, True),
        (NO_ADDRESS, False),
        (ROUTE, True),
        (NO_ROUTE, False),
        (link(UP), False),
        (link(RUNNING), False),
        (link(UP | RUNNING), True),
        (NO_ADDRESS + NO_ROUTE + ADDRESS, True),
        (netlink(21, b"odd") + ROUTE, True),
        (ADDRESS[:-9], False),
        (link(UP | RUNNING)[:-1], False),
        (b"\0" * 100, False),
        (HEAD.pack(2**32 - 1, 0, 0, 0, 0), False),
    ],
)
def test_addresses_and_links_that_come_are_news_and_those_that_go_are_not(
    data: bytes, news: bool
) -> None:
    assert is_news(data) is news


class Kernel:
    """What tells of the network, in the place of the kernel."""

    def __init__(self, far: socket.socket) -> None:
        self.far = far

    def say(self, data: bytes) -> None:
        """Send a datagram of messages."""
        self.far.send(data)


def replace_sockets(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the module under test, and nobody else, make sockets of another kind."""
    namespace = SimpleNamespace(**{**vars(socket), "socket": kind})
    monkeypatch.setattr(network_news, "socket", namespace)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Give the place of the kernel."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)

    class Netlink(socket.socket):
        def __init__(self, *_kind: int) -> None:
            super().__init__(fileno=near.detach())
            self.setblocking(False)

        def bind(self, address: object) -> None:
            assert address == (0, network_news._GROUPS)

    replace_sockets(Netlink, monkeypatch)
    with far:
        yield Kernel(far)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the times of all dials, none of which succeeds; each wait is as long as it can be."""
    times: list[float] = []

    async def dial(_uplink: object, _way: object, _taken: object) -> None:
        await trio.lowlevel.checkpoint()
        times.append(trio.current_time())
        raise ConnectionLost("no network")

    monkeypatch.setattr(Uplink, "dial", dial)
    monkeypatch.setattr("cotun_trio.client.connector.random.uniform", lambda _low, high: high)
    return times


async def test_a_long_wait_is_cut_short_when_a_network_comes_back(
    kernel: Kernel, dialled: list[float], autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with background() as nursery:
        nursery.start_soon(Client(client_settings("server.invalid")).run)
        await trio.sleep(100)  # in the midst of the wait from 96 on
        assert dialled == [0, 3, 9, 21, 36, 51, 66, 81, 96]
        kernel.say(NO_ADDRESS)
        await trio.sleep(FIRST_INTERVAL + 1)
        assert len(dialled) == 9
        kernel.say(ADDRESS)
        kernel.say(ROUTE)
        since = trio.current_time()
        await trio.sleep(FIRST_INTERVAL + 1)
        assert dialled[9:] == [since + FIRST_INTERVAL]


async def test_news_of_a_network_leave_the_shortest_wait_as_it_is(
    kernel: Kernel, dialled: list[float], autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with background() as nursery:
        nursery.start_soon(Client(client_settings("server.invalid", min_retry_interval=20)).run)
        await trio.sleep(1)
        kernel.say(ADDRESS)
        await trio.sleep(50)
    assert dialled == [0, 19 + FIRST_INTERVAL]


async def test_much_news_in_a_wait_shortens_it_no_more_than_the_first_does(
    kernel: Kernel,
    dialled: list[float],
    monkeypatch: pytest.MonkeyPatch,
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    # The wait, and what the news makes of it; a draw for each piece would be nearer and nearer.
    draws = iter([60.0, 2.0, *[0.1] * 1000])
    monkeypatch.setattr(
        "cotun_trio.client.connector.random.uniform", lambda _low, _high: next(draws)
    )
    async with background() as nursery:
        nursery.start_soon(Client(client_settings("server.invalid")).run)
        await trio.sleep(10)
        for _ in range(5):
            kernel.say(ADDRESS)
            await trio.sleep(0.3)
        await trio.sleep(0.6)
        assert dialled[:2] == [0, 12]


async def test_an_overrun_of_the_news_socket_counts_as_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Overrun(socket.socket):
        def __init__(self, *_kind: int) -> None:
            super().__init__(fileno=near.detach())

        def bind(self, address: object) -> None:
            pass

        def recv(self, *_: Any) -> bytes:
            super().recv(10)
            raise OSError("No buffer space available")

    replace_sockets(Overrun, monkeypatch)
    heard = trio.Event()
    with far:
        async with background() as nursery:
            nursery.start_soon(watch_network, heard.set)
            far.send(b"x")
            await heard.wait()
            assert heard.is_set()


@pytest.mark.parametrize("failing", ["socket", "bind"])
async def test_where_the_system_refuses_the_socket_no_news_is_heard(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def __init__(self, *kind: int) -> None:
            if failing == "socket":
                raise OSError("Address family not supported by protocol")
            super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)

        def bind(self, address: object) -> None:
            raise PermissionError("Operation not permitted")

    replace_sockets(Refused, monkeypatch)
    async with nothing_left():
        await watch_network(pytest.fail)


async def test_the_real_kernel_lets_us_listen() -> None:
    async with nothing_left(), background() as nursery:
        nursery.start_soon(watch_network, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks or not hasattr(socket, "AF_NETLINK")


async def test_a_server_that_wants_a_pause_keeps_nobody_from_another_one(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    asked: list[float] = []

    async def busy(stream: trio.SocketStream) -> None:
        while b"\r\n\r\n" not in await stream.receive_some():
            pass
        asked.append(trio.current_time())
        await stream.send_all(
            b"HTTP/1.1 503 Busy\r\nRetry-After: 1000\r\nContent-Length: 0\r\n\r\n"
        )

    async with (
        watch_logs() as log,
        listening(busy) as address,
        running_client(
            address, alternatives=routes(refused_address()), max_retry_interval=20
        ) as client,
    ):
        await log.wait_for("Retrying", times=10, timeout=500)
        assert len(asked) == 1
        client.retry_now()
        await log.wait_for("Retrying", times=12, timeout=500)
        assert len(asked) == 2  # the user has asked for that
