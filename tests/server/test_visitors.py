"""A server behind a balancer: the PROXY header says whose each connection is."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.counts import meters
from cotun_trio.errors import AuthenticationFailed
from cotun_trio.logs.events import record_events
from cotun_trio.net.proxy_protocol import TIMEOUT
from cotun_trio.protocol.proxy_header import VERSIONS, proxy_header
from cotun_trio.server import certificates
from cotun_trio.server.server import Server
from cotun_trio.settings import ServerTls
from tests.support.balancer import BALANCER, balancer, by_balancer, header
from tests.support.certificates import Authority
from tests.support.gateway import GET, OK, Reader, gateway
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    background,
    connect,
    echo,
    echoes,
    listening,
    receive_all,
)
from tests.support.tunnel import running_client, running_server, server_settings
from tests.support.watching import nothing_watched

if TYPE_CHECKING:
    from pathlib import Path

BEHIND: dict[str, Any] = {"accept_proxy": (BALANCER,)}
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::7"])
async def test_the_client_is_the_one_that_the_header_names(version: str, host: str) -> None:
    events = record_events()
    async with (
        watch_logs() as log,
        listening(echo) as target,
        running_server(**BEHIND) as server,
        balancer(server.addresses[0], header(host, version=version)) as address,
        running_client(address, f"{LOOPBACK}:0:{target}") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
        (session,) = server.sessions
        assert session.about.peer == host
        shown = f"[{host}]" if ":" in host else host
        assert log.find(rf"peer={shown}:1234 session=1 .*: open".replace("[", r"\["), "server")
        opened = [each.facts for each in events.after(0) if each.kind == "opened"]
        assert f"{shown}:1234" in [facts.get("peer") for facts in opened]


async def test_others_come_as_they_are_and_their_headers_are_no_requests() -> None:
    async with running_server(**BEHIND) as server:
        async with running_client(server.addresses[0]) as client:
            await client.opened()
            assert server.sessions[0].about.peer == LOOPBACK
        for version in VERSIONS:
            async with await connect(server.addresses[0]) as stranger:
                await stranger.send_all(header(version=version) + HEALTH)
                assert (await receive_all(stranger)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "first", [HEALTH, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 x\r\n" + HEALTH, header()[:14] + b"\xff" * 9]
)
async def test_a_balancer_without_a_header_is_refused(first: bytes) -> None:
    async with (
        watch_logs() as log,
        running_server(**BEHIND) as server,
        by_balancer(server.addresses[0], first) as stream,
    ):
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            assert await receive_all(stream) != b""
        await log.wait_for(f"peer={BALANCER}:.*: refused: PROXY: ", "server")
        assert meters().visitors.counts["bad_header"] == 1


async def test_a_balancer_that_says_nothing_is_refused_after_a_while(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with running_server(**BEHIND) as server, by_balancer(server.addresses[0], b"") as stream:
        before = trio.current_time()
        assert await receive_all(stream) == b""
        assert trio.current_time() - before == pytest.approx(TIMEOUT, abs=1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_balancers_own_checks_are_its_own(version: str) -> None:
    async with (
        watch_logs() as log,
        running_server(**BEHIND) as server,
    ):
        async with by_balancer(server.addresses[0], proxy_header(version, None) + HEALTH) as stream:
            assert (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")
        async with by_balancer(server.addresses[0], b""):
            pass
        await log.wait_for("closed without a PROXY header", "server")
        assert not log.find("refused", "server")


async def test_health_checks_have_headers_too() -> None:
    async with (
        running_server(health_listen=(LOOPBACK, 0), **BEHIND) as server,
        by_balancer(server.health_addresses[0], header() + HEALTH) as good,
        by_balancer(server.health_addresses[0], HEALTH) as bad,
    ):
        assert (await receive_all(good)).startswith(b"HTTP/1.1 200 ")
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            assert await receive_all(bad) != b""


async def test_the_header_is_in_front_of_tls(tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("a.example", file="server")
    context = ssl.create_default_context(cafile=ca.path)
    with nothing_watched(certificates):
        async with (
            running_server(tls=ServerTls(cert=cert, key=key), **BEHIND) as server,
            by_balancer(server.addresses[0], header()) as stream,
        ):
            tls = trio.SSLStream(stream, context, server_hostname="a.example")
            await tls.send_all(HEALTH)
            assert (await tls.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_the_back_end_is_told_of_the_client() -> None:
    heads: list[bytes] = []

    async def handler(stream: trio.SocketStream) -> None:
        heads.append(await Reader(stream).until(b"\r\n\r\n"))
        await stream.send_all(OK)

    close = GET[:-2] + b"Connection: close\r\n\r\n"
    async with gateway(handler, trusted_proxies=("198.51.100.7",), **BEHIND) as server:
        async with by_balancer(server.addresses[0], header("192.0.2.1") + close) as stream:
            await receive_all(stream)
        # A proxy that is trusted behind a balancer
        forwarded = GET[:-2] + b"X-Forwarded-For: 192.0.2.2\r\nConnection: close\r\n\r\n"
        async with by_balancer(server.addresses[0], header() + forwarded) as stream:
            await receive_all(stream)
    assert b"x-forwarded-for: 192.0.2.1\r\n" in heads[0].lower()
    assert b"x-forwarded-for: 192.0.2.2, 198.51.100.7\r\n" in heads[1].lower()


async def test_each_client_has_its_own_places_and_the_balancer_none() -> None:
    async with (
        running_server(max_startups_per_source=1, **BEHIND) as server,
        by_balancer(server.addresses[0], header("192.0.2.1")),
        by_balancer(server.addresses[0], header("192.0.2.1", 5)) as second,
        by_balancer(server.addresses[0], header("192.0.2.2") + HEALTH) as other,
    ):
        assert await receive_all(second) == b""
        assert (await receive_all(other)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_is_barred_and_the_balancer_is_not() -> None:
    async with running_server(
        max_auth_failures=1, auth=Credentials("alice", "secret"), **BEHIND
    ) as server:
        async with balancer(server.addresses[0], header("192.0.2.1")) as address:
            with pytest.RaisesGroup(AuthenticationFailed):
                async with running_client(address, auth=Credentials("alice", "wrong")):
                    await trio.sleep_forever()
        async with by_balancer(server.addresses[0], header("192.0.2.2") + HEALTH) as other:
            assert (await receive_all(other)).startswith(b"HTTP/1.1 200 ")
        assert server.logins.barred("192.0.2.1") > 0
        assert not server.logins.barred(BALANCER)


async def test_the_hook_is_told_of_the_client() -> None:
    asked: list[str] = []

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        asked.append(peer)
        return None

    server = Server(server_settings(**BEHIND), authorise=authorise)
    async with background() as nursery:
        await nursery.start(server.run)
        async with (
            balancer(server.addresses[0], header()) as address,
            running_client(address, f"{LOOPBACK}:0:a:1") as client,
        ):
            await client.opened()
    assert asked == ["198.51.100.7"]


async def test_a_visitor_of_a_reverse_remote_behind_it_is_told_on() -> None:
    async with (
        running_server(reverse=True, **BEHIND) as server,
        running_client(server.addresses[0], f"R:{LOOPBACK}:0:a:1") as client,
    ):
        session = await client.opened()
        async with watch_logs() as log, by_balancer(session.reverse_addresses[0], header()):
            await log.wait_for(r"source=198\.51\.100\.7:1234", "client")
