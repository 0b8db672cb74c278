"""Tunnels through proxies that nobody here wrote: tinyproxy, squid and microsocks of Debian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.peers import needs
from tests.support.programs import (
    READY,
    WITH_CHISEL,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
    running,
)
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    exchange,
    free_port,
    listening,
    random_bytes,
    sha256,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.interop]

DATA = random_bytes(4 * MiB)
AT_ONCE = ("--max-retry-interval", "100ms")
"""The client comes before the proxy is ready, and none of them says when it is."""


def tinyproxy(port: int, directory: Path) -> list[str]:
    config = directory / "tinyproxy.conf"
    config.write_text(
        f"Port {port}\nListen {LOOPBACK}\nBasicAuth alice secret\nMaxClients 10\nTimeout 600\n"
    )
    return ["tinyproxy", "-d", "-c", str(config)]


def squid(port: int, directory: Path) -> list[str]:
    config = directory / "squid.conf"
    config.write_text(
        f"http_port {LOOPBACK}:{port}\nhttp_access allow all\ncache deny all\npid_filename none\n"
        f"access_log none\ncache_log /dev/null\nshutdown_lifetime 0 seconds\npinger_enable off\n"
        f"coredump_dir {directory}\n"
    )
    return ["squid", "-N", "-f", str(config)]


def microsocks(port: int, _directory: Path) -> list[str]:
    return ["microsocks", "-i", LOOPBACK, "-p", str(port), "-u", "alice", "-P", "secret"]


PROXIES = {
    "tinyproxy": (tinyproxy, "http://alice:secret@"),
    "squid": (squid, "http://"),
    "microsocks": (microsocks, "socks5h://alice:secret@"),
}
INSTALLED = [pytest.param(name, marks=needs(name)) for name in PROXIES]


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
async def test_a_tunnel_goes_through(name: str, tls: bool, tmp_path: Path) -> None:
    command, login = PROXIES[name]
    port = free_port()
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue(LOOPBACK)
    server_options = ["--tls-cert", cert, "--tls-key", key] if tls else []
    client_options = ["--tls-ca", ca.path] if tls else []
    async with (
        listening(echo) as target,
        our_server(*server_options) as (_, url),
        running(*command(port, tmp_path)),
        our_client(
            url, *AT_ONCE, *client_options, "--proxy", f"{login}{LOOPBACK}:{port}", target=target
        ) as (client, local),
    ):
        await client.wait_for(r"Connected \(Latency ")
        async with await connect(local) as stream:
            assert await exchange(stream, DATA) == (len(DATA), sha256(DATA))


@pytest.mark.parametrize("name", [INSTALLED[0], INSTALLED[2]])
async def test_a_wrong_password_is_said_and_not_shown(name: str, tmp_path: Path) -> None:
    command, login = PROXIES[name]
    port = free_port()
    wrong = login.replace("secret", "hunter2")
    async with (
        running(*command(port, tmp_path)),
        our_client(
            "http://127.0.0.1:1", *AT_ONCE, "--proxy", f"{wrong}{LOOPBACK}:{port}", target="x:1"
        ) as (client, _),
    ):
        shown = wrong.partition("://")[0]
        await client.wait_for(rf"proxy {shown}://{LOOPBACK}:{port}: .*([Aa]uth|password)")
        assert not client.find("hunter2")


@pytest.mark.parametrize("mark", [pytest.param("", marks=[*WITH_CHISEL, *INSTALLED[0].marks])])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("ours", ["client", "server"])
async def test_chisel_and_we_meet_through_a_proxy_with_a_password(
    mark: str, tls: bool, ours: str, tmp_path: Path
) -> None:
    run_server = chisel_server if ours == "client" else our_server
    run_client = our_client if ours == "client" else chisel_client
    port = free_port()
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue(LOOPBACK)
    async with (
        listening(echo) as target,
        run_server(*(["--tls-cert", cert, "--tls-key", key] if tls else [])) as (_, url),
        running(*tinyproxy(port, tmp_path)),
    ):
        url = ("https://" if tls else "http://") + url.partition("://")[2]
        proxy = ("--proxy", f"http://alice:secret@{LOOPBACK}:{port}")
        trust = ["--tls-ca", ca.path] if tls else []
        async with run_client(url, *AT_ONCE, *trust, *proxy, target=target) as (client, local):
            await client.wait_for(READY[run_client])
            async with await connect(local) as stream:
                assert await echoes(stream)
