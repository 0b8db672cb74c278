"""A server that lets everybody in: the warning, and where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from cotun_trio.access.credentials import Credentials
from cotun_trio.server.open_doors import warning_about
from cotun_trio.server.server import Server
from cotun_trio.settings import ServerAcme, ServerSettings, ServerTls
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK
from tests.support.tunnel import background, running_server, server_settings

EVERYWHERE = ["0.0.0.0:8080"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"reverse": True}, "may use --reverse."),
        ({"socks5": True}, "may use --socks5."),
        ({"unix": True}, "may use --unix."),
        ({"reverse": True, "socks5": True}, "may use --reverse and --socks5."),
        ({"reverse": True, "tls": ServerTls(cert="c", key="k")}, "may use --reverse."),
    ],
)
@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80"])
def test_a_server_without_users_that_does_more_than_connect_is_warned_of(
    settings: dict[str, Any], named: str, address: str
) -> None:
    warning = warning_about(ServerSettings(**settings), [f"{LOOPBACK}:80", address])
    assert warning is not None
    assert named in warning
    assert address in warning
    assert "--authfile or --auth-from" in warning


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reverse": True, "auth": Credentials("a", "b")},
        {"reverse": True, "authfile": "users.json"},
        {"reverse": True, "tls": ServerTls(cert="c", key="k", ca="ca")},
        {"reverse": True, "tls": ServerAcme(domains=("a.b",), clients="ca")},
    ],
)
def test_a_server_that_is_closed_to_strangers_is_not(settings: dict[str, Any]) -> None:
    assert warning_about(ServerSettings(**settings), EVERYWHERE) is None


@pytest.mark.parametrize("addresses", [["127.0.0.1:80", "[::1]:80"], ["127.1.2.3:80"], []])
def test_a_server_for_this_machine_alone_is_not(addresses: list[str]) -> None:
    assert warning_about(ServerSettings(reverse=True), addresses) is None


@pytest.mark.parametrize("host", ["0.0.0.0", LOOPBACK])
async def test_the_warning_is_logged_once_at_the_start(host: str) -> None:
    async with watch_logs() as log, running_server(host=host, socks5=True):
        await log.wait_for("^Listening on")
        assert len(log.find("there are no users: everybody")) == (host != LOOPBACK)


async def test_a_program_with_a_hook_is_not_warned() -> None:
    async def hook(_user: str, _peer: str, _address: str) -> None:
        """Allow it."""

    server = Server(server_settings(host="0.0.0.0", socks5=True), authorise=hook)
    async with watch_logs() as log, background() as nursery:
        await nursery.start(server.run)
        await log.wait_for("^Listening on")
        assert not log.find("there are no users")
