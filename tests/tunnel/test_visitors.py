"""Visitors: targets hear of them, listeners choose them, and balancers speak for them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.counts import meters
from cotun_trio.errors import ConfigRefused
from cotun_trio.forwards.per_minute import BURST
from cotun_trio.logs.events import record_events
from cotun_trio.net.proxy_protocol import TIMEOUT
from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.extensions import DATAGRAM_RUNS
from cotun_trio.protocol.proxy_header import HeaderReader, proxy_header
from cotun_trio.protocol.remote import Remote
from tests.support.ends import connect_to, listening_unix, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.sockets import until
from tests.support.targets import (
    LOOPBACK,
    connect,
    connect_from,
    echo,
    echoes,
    free_port,
    listening,
    receive_exactly,
    split_address,
    turned_away,
)
from tests.support.tunnel import running_client, running_server, switchable_server, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.tunnel import Tunnel

VISITOR = Endpoints(Endpoint("198.51.100.7", 56324), Endpoint("203.0.113.1", 443))
BALANCER = "127.0.0.5"
BEHIND = {"accept_proxy": (BALANCER,)}


@attrs.define
class Target:
    """A target that wants PROXY headers, and then echoes."""

    address: str = ""
    headers: list[Endpoints | None] = attrs.field(factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve a connection."""
        reader = HeaderReader()
        header = None
        while header is None:
            data = await stream.receive_some(1)
            assert data, "closed without a header"
            header = reader.feed(data)
        self.headers.append(header.endpoints)
        await echo(stream)


@contextlib.asynccontextmanager
async def wants_headers() -> AsyncIterator[Target]:
    target = Target()
    async with listening(target.serve) as target.address:
        yield target


@contextlib.asynccontextmanager
async def reversed_tunnel(*remotes: str, **server: Any) -> AsyncIterator[tuple[Tunnel, list[str]]]:
    """Run a tunnel with reverse remotes; give where the server listens for each."""
    async with tunnel(remotes=remotes, server={"reverse": True, **server}) as both:
        yield both, list(both.client.sessions[0].reverse_addresses)


async def check(stream: trio.SocketStream, target: Target) -> None:
    """Check that the target hears from which addresses `stream` comes, and echoes."""
    assert await echoes(stream)
    name, peer = stream.socket.getsockname(), stream.socket.getpeername()
    assert target.headers[-1] == Endpoints(Endpoint(*name[:2]), Endpoint(*peer[:2]))


# ---- outwards


@pytest.mark.parametrize("host", [LOOPBACK, "[::1]"])
@pytest.mark.parametrize("option", ["R:{},proxy=v1", "R:{},proxy=v2", "RP:{}"])
async def test_the_target_of_a_reverse_remote_hears_of_its_visitor(option: str, host: str) -> None:
    async with (
        wants_headers() as target,
        reversed_tunnel(option.format(f"{host}:0:{target.address}")) as (_, (address,)),
    ):
        for _ in range(2):
            async with await connect(address) as stream:
                await check(stream, target)


@pytest.mark.parametrize("host", [LOOPBACK, "[::1]"])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_target_of_a_local_remote_hears_of_its_visitor(version: str, host: str) -> None:
    async with (
        wants_headers() as target,
        tunnel(remotes=(f"{host}:0:{target.address},proxy={version}",)) as both,
        await both.connect() as stream,
    ):
        await check(stream, target)


async def test_a_target_that_speaks_first_hears_of_its_visitor_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = Target()

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(AssertionError):
            await said.serve(stream)

    async def greet(stream: trio.SocketStream) -> None:
        reader = HeaderReader()
        while not (header := reader.feed(await stream.receive_some(1))):
            pass
        said.headers.append(header.endpoints)
        await stream.send_all(b"220 hello\r\n")

    async with (
        listening(greet) as address,
        tunnel(remotes=(f"{LOOPBACK}:0:{address},proxy=v1",)) as both,
        await both.connect() as stream,
    ):
        assert await stream.receive_some() == b"220 hello\r\n"
        assert said.headers[0] is not None


async def test_the_target_may_have_a_name_or_be_a_unix_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    know(monkeypatch, **{"target.example": [LOOPBACK]})
    target = Target()
    async with (
        listening(target.serve) as address,
        listening_unix(target.serve, tmp_path / "s") as path,
        reversed_tunnel(
            f"R:{LOOPBACK}:0:target.example:{split_address(address)[1]},proxy=v2",
            f"R:{LOOPBACK}:0:{path},proxy=v2",
        ) as (_, addresses),
    ):
        for each in addresses:
            async with await connect(each) as stream:
                await check(stream, target)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_visitor_on_a_unix_socket_has_no_address(version: str, tmp_path: Path) -> None:
    async with (
        wants_headers() as target,
        reversed_tunnel(f"R:unix:{tmp_path}/in:{target.address},proxy={version}", unix=True) as (
            _,
            (address,),
        ),
        await connect_to(address) as stream,
    ):
        assert await echoes(stream)
        assert target.headers == [None]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_server_that_does_not_tell_is_warned_of(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotun_trio.client.session.OURS", (DATAGRAM_RUNS,))
    async with (
        watch_logs() as log,
        wants_headers() as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target.address},proxy={version}") as (_, (address,)),
        await connect(address) as stream,
    ):
        assert await echoes(stream)
        assert target.headers == [None]
        assert log.find(f"proxy={version}: this server does not tell who connects", "client")


async def test_a_server_that_would_let_everybody_in_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cotun_trio.client.session.OURS", (DATAGRAM_RUNS,))
    async with running_server(reverse=True) as server:
        with pytest.RaisesGroup(pytest.RaisesExc(ConfigRefused, match="too old for allow")):
            async with running_client(server.addresses[0], "R:0:a:1,allow=::1"):
                await trio.sleep_forever()


async def test_without_options_a_target_gets_what_its_visitor_says_and_nothing_else() -> None:
    async with (
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}") as (_, (address,)),
        await connect(address) as stream,
    ):
        assert await echoes(stream)


async def test_the_client_logs_who_visits() -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}") as (_, (address,)),
        await connect_from("127.0.0.9", address) as stream,
    ):
        assert await echoes(stream)
        assert log.find(rf"conn=1 source=127\.0\.0\.9:\d+ target={target}: open", "client")


# ---- who may visit


@pytest.mark.parametrize(
    ("option", "server"),
    [
        (",allow=127.0.0.9", {}),
        (",allow=10.0.0.0/8,allow=127.0.0.8/31", {}),
        ("", {"reverse_allow": ("127.0.0.9",)}),
        (",allow=127.0.0.0/28", {"reverse_allow": ("127.0.0.9", "::1")}),
    ],
)
async def test_others_are_refused_by_a_reset_and_told(option: str, server: dict[str, Any]) -> None:
    events = record_events()
    async with (
        watch_logs() as log,
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}{option}", **server) as (_, (address,)),
    ):
        assert await turned_away(address)
        assert await turned_away(address)
        async with await connect_from("127.0.0.9", address) as stream:
            assert await echoes(stream)
        assert meters().visitors.counts["not_allowed"] == 2
        refused = [event for event in events.after(0) if event.kind == "refused"]
        assert [event.facts["reason"] for event in refused] == ["not allowed from there"] * 2
        assert refused[0].facts["source"].startswith(f"{LOOPBACK}:")
    line = rf"remote=R:{LOOPBACK}:0=>\S+: refused 2 visitors: not allowed from there \(2\)"
    assert len(log.find(line, "server")) == 1


async def test_who_may_come_to_a_unix_socket_is_the_business_of_its_file(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        reversed_tunnel(
            f"R:unix:{tmp_path}/in:{target}", unix=True, reverse_allow=("192.0.2.1",), **BEHIND
        ) as (_, (address,)),
        await connect_to(address) as stream,
    ):
        assert await echoes(stream)


async def test_a_local_remote_may_choose_its_visitors_too() -> None:
    async with listening(echo) as target, tunnel(f"{target},allow=127.0.0.9") as both:
        assert await turned_away(both.client.addresses[0])
        async with await connect_from("127.0.0.9", both.client.addresses[0]) as stream:
            assert await echoes(stream)


async def test_datagrams_of_others_are_dropped(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        udp_echo() as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}/udp,allow=127.0.0.9") as (_, (address,)),
        udp_socket() as (stranger, _),
    ):
        for _ in range(3):
            await stranger.sendto(b"x", split_address(address))
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
            await friend.bind(("127.0.0.9", 0))
            await friend.sendto(b"mine", split_address(address))
            assert await friend.recv(100) == b"mine"
        found = await log.wait_for(r"dropped 3 datagrams: (.*)", "server")
        assert found[1] == "their source is not allowed (3)"


async def test_a_remote_with_other_networks_takes_the_place_of_the_one_before() -> None:
    async with listening(echo) as target, running_server(reverse=True) as server:
        address = f"{LOOPBACK}:{free_port()}"
        remote = f"R:{address}:{target}"
        async with running_client(server.addresses[0], f"{remote},allow=127.0.0.9") as client:
            await client.opened()
            assert await turned_away(address)
            await client.remotes.replace([Remote.parse(remote)])
            async with await connect(address) as stream:
                assert await echoes(stream)


# ---- a balancer in front of a reverse remote


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_balancer_speaks_for_the_visitors_of_a_reverse_remote(version: str) -> None:
    async with (
        watch_logs() as log,
        wants_headers() as target,
        reversed_tunnel(
            f"R:{LOOPBACK}:0:{target.address},proxy=v2,allow=198.51.100.0/24", **BEHIND
        ) as (_, (address,)),
    ):
        async with await connect_from(BALANCER, address) as stream:
            await stream.send_all(proxy_header(version, VISITOR) + b"early")
            assert await receive_exactly(stream, 5) == b"early"
            assert await echoes(stream)
            assert target.headers == [VISITOR]
        assert log.find(r"source=198\.51\.100\.7:56324", "server")
        # Not the balancer itself, and no other visitor of its
        for header in (proxy_header(version, None), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"):
            async with await connect_from(BALANCER, address) as stream:
                await stream.send_all(header)
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
        # Others come as they are.
        assert await turned_away(address, source="127.0.0.9")


async def test_a_balancer_that_says_nothing_is_refused(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}", **BEHIND) as (_, (address,)),
    ):
        before = trio.current_time()
        async with (
            await connect_from(BALANCER, address) as silent,
            await connect_from(BALANCER, address) as stranger,
        ):
            await stranger.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await stranger.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await silent.receive_some()
        assert trio.current_time() - before == pytest.approx(TIMEOUT, abs=1)
        assert meters().visitors.counts["bad_header"] == 2
        await trio.sleep(2 * BURST)
        assert log.find(r"refused 1 visitors: no PROXY header \(1\)", "server")


async def test_a_crowd_without_headers_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cotun_trio.forwards.admission.MAX_READING", 2)
    async with (
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}", **BEHIND) as (_, (address,)),
        await connect_from(BALANCER, address),
        await connect_from(BALANCER, address) as second,
    ):
        assert await turned_away(address, source=BALANCER)
        assert meters().visitors.counts["too_many"] == 1
        await second.send_all(proxy_header("v1", None))
        assert await echoes(second)
        async with await connect_from(BALANCER, address) as next_one:
            await next_one.send_all(proxy_header("v2", None))
            assert await echoes(next_one)


async def test_a_listener_that_is_closed_forgets_who_has_no_header_yet() -> None:
    async with (
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}", **BEHIND) as (both, (address,)),
        await connect_from(BALANCER, address) as stream,
    ):
        await stream.send_all(b"PROXY ")
        await until(lambda: both.server.sessions)
        await both.client.remotes.replace([])
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_health_check_of_the_balancer_is_no_line_in_the_log(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        reversed_tunnel(f"R:{LOOPBACK}:0:{target}", **BEHIND) as (_, (address,)),
    ):
        async with await connect_from(BALANCER, address):
            pass
        await log.wait_for("closed without a PROXY header", "server")
        await trio.sleep(2 * BURST)
        assert not log.find("refused", "server")


async def test_a_visitor_who_comes_before_the_tunnel_is_known_all_the_same() -> None:
    async with wants_headers() as target, switchable_server() as switch:
        remote = f"{LOOPBACK}:0:{target.address},proxy=v2"
        async with running_client(switch.address, remote, max_retry_interval=0.1) as client:
            await client.opened()
            await switch.stop()
            await until(lambda: not tuple(client.open_sessions))
            async with await connect(client.addresses[0]) as stream:
                await switch.start()
                await check(stream, target)
