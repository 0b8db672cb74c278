"""PROXY headers, with nginx, HAProxy and curl at the other end, and chisel in between."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest
import trio

from tests.interop.test_reverse_proxies import nginx
from tests.support.balancer import BALANCER
from tests.support.certificates import Authority
from tests.support.peers import needs
from tests.support.programs import (
    READY,
    WITH_CHISEL,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
    ours,
    running,
)
from tests.support.targets import (
    LOOPBACK,
    connect,
    connect_from,
    echo,
    echoes,
    free_port,
    listening,
    receive_all,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.interop]

BEHIND = ("--accept-proxy", BALANCER)
GET = b"GET / HTTP/1.0\r\n\r\n"
AS_NGINX = """server {{
    listen {address} proxy_protocol;
    location / {{
        default_type text/plain;
        set $from "$proxy_protocol_addr $proxy_protocol_port";
        return 200 "$from $proxy_protocol_server_addr $proxy_protocol_server_port";
    }}
}}"""
HAPROXY = """
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
"""
AS_HAPROXY = """
frontend target
    mode http
    bind {address} accept-proxy
    http-request return status 200 content-type text/plain lf-string "{what}"
"""
WHAT = "%[src] %[src_port] %[dst] %[dst_port]"
IN_FRONT = """
frontend balancer
    mode tcp
    bind {here}
    default_backend server
backend server
    mode tcp
    server it {there} {option} source {balancer}
"""


def haproxy(config: str, directory: Path) -> list[str]:
    """Return a command that runs HAProxy."""
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY + config)
    return ["haproxy", "-db", "-f", str(path)]


@contextlib.asynccontextmanager
async def wants_headers(name: str, directory: Path) -> AsyncIterator[str]:
    """Run a web server that wants PROXY headers, and answers with what they say."""
    address = f"{LOOPBACK}:{free_port()}"
    if name == "nginx":
        command = nginx(AS_NGINX.format(address=address), directory)
    else:
        command = haproxy(AS_HAPROXY.format(address=address, what=WHAT), directory)
    async with running(*command):
        await is_up(address)
        yield address


async def is_up(address: str) -> None:
    """Wait until something listens there."""
    with trio.fail_after(20):
        while True:
            with contextlib.suppress(OSError):
                await (await connect(address)).aclose()
                return
            await trio.sleep(0.05)


@contextlib.asynccontextmanager
async def in_front(there: str, option: str, directory: Path) -> AsyncIterator[str]:
    """Run HAProxy in TCP mode in front of `there`."""
    here = f"{LOOPBACK}:{free_port()}"
    config = IN_FRONT.format(here=here, there=there, option=option, balancer=BALANCER)
    async with running(*haproxy(config, directory)):
        await is_up(here)
        yield here


async def ask(address: str) -> tuple[str, str]:
    """Ask for what the header said; return that, and what it has to be."""
    async with await connect(address) as stream:
        await stream.send_all(GET)
        own, there = stream.socket.getsockname(), stream.socket.getpeername()
        head, _, body = (await receive_all(stream)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return body.decode().strip(), f"{own[0]} {own[1]} {there[0]} {there[1]}"


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in ("nginx", "haproxy")])
@pytest.mark.parametrize("host", [LOOPBACK, "[::1]"])
async def test_a_web_server_hears_who_visits(
    name: str, version: str, host: str, tmp_path: Path
) -> None:
    here, there = (f"{host}:{free_port()}" for _ in range(2))
    async with (
        wants_headers(name, tmp_path) as target,
        our_server("--reverse") as (_, url),
        ours(
            "client", url, f"R:{there}:{target},proxy={version}", f"{here}:{target},proxy={version}"
        ) as client,
    ):
        await client.wait_for("Connected")
        for address in (here, there):
            said, right = await ask(address)
            assert said == right


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in ("nginx", "haproxy")])
@pytest.mark.parametrize("_", [pytest.param(0, marks=WITH_CHISEL)])
async def test_with_a_go_server_only_the_clients_own_visitors_have_addresses(
    name: str, version: str, _: int, tmp_path: Path
) -> None:
    here, there = (f"{LOOPBACK}:{free_port()}" for _ in range(2))
    async with (
        wants_headers(name, tmp_path) as target,
        chisel_server("--reverse") as (_server, url),
        ours(
            "client", url, f"R:{there}:{target},proxy={version}", f"{here}:{target},proxy={version}"
        ) as client,
    ):
        await client.wait_for("Connected")
        await client.wait_for("this server does not tell who connects")
        said, right = await ask(here)
        assert said == right
        # It takes the header, which has no addresses: nginx has none then, HAProxy the client's.
        said, right = await ask(there)
        assert re.fullmatch(rf"|{re.escape(LOOPBACK)} \d+ {target.replace(':', ' ')}", said)
        assert said != right


@pytest.mark.parametrize("_", [pytest.param(0, marks=WITH_CHISEL)])
async def test_a_go_server_is_not_asked_to_choose_visitors(_: int) -> None:
    async with (
        chisel_server("--reverse") as (_server, url),
        ours("client", url, f"R:{free_port()}:a:1,allow=::1") as client,
    ):
        assert await client.wait() == 5
        assert client.find("only a cotun-trio server can do this")


@pytest.mark.parametrize(
    ("option", "workers", "theirs"),
    [
        ("send-proxy", "1", False),
        ("send-proxy-v2", "2", False),
        ("send-proxy-v2-ssl", "1", False),  # with TLVs
        pytest.param("send-proxy", "2", True, marks=WITH_CHISEL),
        pytest.param("send-proxy-v2", "1", True, marks=WITH_CHISEL),
    ],
)
@needs("haproxy")
async def test_haproxy_in_front_of_a_server_says_whose_connections_are(
    option: str, workers: str, theirs: bool, tmp_path: Path
) -> None:
    run_client = chisel_client if theirs else our_client
    async with (
        listening(echo) as target,
        our_server(*BEHIND, "--workers", workers) as (server, url),
        in_front(url.removeprefix("http://"), option, tmp_path) as address,
        run_client(f"http://{address}", target=target) as (client, local),
    ):
        await client.wait_for(READY[run_client])
        async with await connect(local) as stream:
            assert await echoes(stream)
        await server.wait_for(rf"peer={re.escape(LOOPBACK)}:\d+ session=.*: open, client ")
        assert not server.find(f"peer={BALANCER}")


@needs("haproxy")
async def test_haproxy_in_front_of_tls(tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue(LOOPBACK, file="server")
    async with (
        listening(echo) as target,
        our_server(*BEHIND, "--tls-cert", cert, "--tls-key", key) as (server, url),
        in_front(url.removeprefix("https://"), "send-proxy-v2", tmp_path) as address,
        our_client(f"https://{address}", "--tls-ca", ca.path, target=target) as (client, local),
    ):
        await client.wait_for("Connected")
        async with await connect(local) as stream:
            assert await echoes(stream)
        await server.wait_for(rf"peer={re.escape(LOOPBACK)}:\d+ session=.*: open, client ")


@needs("haproxy")
async def test_haproxy_checks_health_and_is_no_trouble(tmp_path: Path) -> None:
    async with our_server(*BEHIND, "-v") as (server, url):
        for option in ("send-proxy-v2 check inter 100ms", "send-proxy check inter 100ms"):
            address = url.removeprefix("http://")
            async with in_front(address, option, tmp_path) as here:
                async with await connect(here) as stream:
                    await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
                    assert (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")
                before = len(server.lines)
                await server.wait_for(
                    rf"peer={BALANCER}:\d+: .*(connection lost|closed the connection)", skip=before
                )
        assert not server.find("refused")


@needs("haproxy")
@needs("nginx")
async def test_a_visitor_is_known_all_the_way(tmp_path: Path) -> None:
    """From HAProxy in front of a reverse remote, through the tunnel, to nginx behind it."""
    there = f"{LOOPBACK}:{free_port()}"
    (tmp_path / "in").mkdir()
    async with (
        wants_headers("nginx", tmp_path) as target,
        our_server("--reverse", *BEHIND) as (_, url),
        ours("client", url, f"RP:{there}:{target}") as client,
        in_front(there, "send-proxy-v2", tmp_path / "in") as address,
    ):
        await client.wait_for("Connected")
        said, right = await ask(address)
        assert said == right


@needs("curl")
async def test_curl_says_where_it_comes_from() -> None:
    async with our_server(*BEHIND, "-v") as (server, url):
        async with running(
            *("curl", "-sS", "--haproxy-protocol", "--interface", BALANCER, f"{url}/health")
        ) as curl:
            assert await curl.wait() == 0, curl.lines
            assert curl.lines == ["OK"]
        await server.wait_for(rf"from {BALANCER}:\d+, by its PROXY header")
        async with running("curl", "-sS", "--interface", BALANCER, f"{url}/health") as curl:
            assert await curl.wait() != 0
        await server.wait_for("refused: PROXY: the connection does not begin with a header")


async def test_workers_read_headers_and_keep_the_rules() -> None:
    there = f"{LOOPBACK}:{free_port()}"
    async with (
        listening(echo) as target,
        our_server("--reverse", *BEHIND, "--reverse-allow", "192.0.2.0/24", "--workers", "2") as (
            server,
            url,
        ),
        ours("client", url, f"R:{there}:{target}") as client,
    ):
        await client.wait_for("Connected")
        async with await connect_from(BALANCER, there) as stream:
            await stream.send_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
            assert await echoes(stream)
        async with await connect_from(BALANCER, there) as stream:
            await stream.send_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await server.wait_for(r"refused 1 visitors: not allowed from there \(1\)")
