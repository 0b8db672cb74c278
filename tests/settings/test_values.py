"""Options as programs give them: strings as on the command line, and mistakes."""

from __future__ import annotations

import math
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import cotun_trio
import cotun_trio.blocking
from cotun_trio.access.credentials import Credentials
from cotun_trio.errors import UsageError
from cotun_trio.settings import ClientSettings, ServerSettings, ServerUrl

URL = "http://127.0.0.1:1"


def client(**options: Any) -> ClientSettings:
    return ClientSettings.from_options(URL, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth": "u:p:q"}, {"auth": Credentials("u", "p:q")}),
        ({"auth": ("u", "p")}, {"auth": Credentials("u", "p")}),
        ({"auth": ["u", "p"]}, {"auth": Credentials("u", "p")}),
        ({"auth": Credentials("u", "p")}, {"auth": Credentials("u", "p")}),
        ({"keepalive": "25s"}, {"keepalive": 25.0}),
        ({"keepalive": 10}, {"keepalive": 10}),
        ({"keepalive": "0"}, {"keepalive": 0}),
        ({"max_retry_interval": "1m30s"}, {"max_retry_interval": 90.0}),
        ({"min_retry_interval": "500ms"}, {"min_retry_interval": 0.5}),
        ({"max_retry_count": "-1"}, {"max_retry_count": -1}),
        ({"max_retry_count": None}, {"max_retry_count": None}),
        ({"max_connections": "7"}, {"max_connections": 7}),
        ({"headers": {"A": "b", "C": "d"}}, {"headers": (("A", "b"), ("C", "d"))}),
        ({"headers": [("A", "b"), "C: d"]}, {"headers": (("A", "b"), ("C", "d"))}),
        ({"headers": "A: b"}, {"headers": (("A", "b"),)}),
    ],
    ids=str,
)
def test_a_value_may_be_written_as_on_the_command_line(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = client(**options)
    assert {name: getattr(settings, name) for name in expected} == expected


def test_one_remote_needs_no_list() -> None:
    assert client(remotes="3000") == client(remotes=["3000"]) == client(remotes=iter(("3000",)))


def test_a_file_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text("u:p")
    file.chmod(0o600)
    settings = client(auth_from=file, tls_ca=Path("ca.pem"))
    assert settings.auth == Credentials("u", "p")
    assert settings.tls.ca == "ca.pem"


WRONG: list[tuple[str, Any]] = [
    ("auth", "nocolon"),
    ("auth", ("u",)),
    ("auth", ("u", 1)),
    ("auth", 5),
    ("auth", b"u:p"),
    ("auth_from", 5),
    ("fingerprint", 5),
    ("fingerprint", b"x"),
    ("proxy", 5),
    ("proxy_from_env", "yes"),
    ("headers", 5),
    ("headers", [5]),
    ("headers", [("A",)]),
    ("headers", [("A", 5)]),
    ("headers", {"A": 5}),
    ("headers", b"A: b"),
    ("headers", None),
    ("hostname", 5),
    ("tls_ca", 5),
    ("tls_skip_verify", 1),
    ("tls_skip_verify", "false"),
    ("sni", 5),
    ("keepalive", "often"),
    ("keepalive", "25"),
    ("keepalive", None),
    ("keepalive", -1),
    ("keepalive", math.nan),
    ("keepalive", math.inf),
    ("keepalive", True),
    ("max_retry_interval", "5"),
    ("min_retry_interval", "5"),
    ("min_retry_interval", -1),
    ("max_retry_interval", []),
    ("max_retry_count", 1.5),
    ("max_retry_count", "many"),
    ("max_connections", -1),
    ("max_connections", "-1"),
    ("max_connections", True),
    ("protocol", "ssh"),
    ("protocol", ["chisel"]),
    ("remotes", None),
    ("remotes", 3000),
    ("remotes", [3000]),
    ("remotes", "a:b:c:d:e"),
    ("timings", {"ssh_wait": 5}),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_wrong_value_is_the_users_error_at_once(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        client(**{name: value})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("server", [5, None, [5], b"http://a", [], {"a": 1}])
def test_a_server_that_is_no_text_is_the_users_error(server: Any) -> None:
    with pytest.raises(UsageError):
        ClientSettings.from_options(server)


def test_no_error_shows_a_value_that_may_be_a_password() -> None:
    for name in ("auth", "fingerprint", "keepalive", "headers", "proxy", "timings"):
        with pytest.raises(UsageError) as caught:
            client(**{name: ("hunter2",)})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("keepalive", "often"), ("auth", 5), ("remotes", 1)])
async def test_open_client_raises_it_before_it_connects(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        async with cotun_trio.open_client(URL, **{name: value}):  # type: ignore[arg-type]
            raise AssertionError
    with pytest.raises(UsageError):
        await trio.to_thread.run_sync(lambda: cotun_trio.blocking.open_client(URL, **{name: value}))


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout": "soon"},
        {"connect_timeout": []},
        {"connect_timeout": -1},
        {"listen": [5]},
        {"listen": [("h", "80")]},
        {"listen": 5},
    ],
    ids=str,
)
async def test_its_other_options_are_checked_too(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        async with cotun_trio.open_client(URL, **options):
            raise AssertionError


async def test_the_time_to_connect_may_be_a_text() -> None:
    with pytest.raises(cotun_trio.ConnectionLost, match="no tunnel in 1ms"):
        async with cotun_trio.open_client(URL, connect_timeout="1ms"):
            raise AssertionError


SERVER_TEXTS: list[tuple[str, Any, Any]] = [
    ("auth", "u:p", Credentials("u", "p")),
    ("keepalive", "25s", 25.0),
    ("port", "8081", 8081),
    ("max_startups", "5", 5),
    ("backend", "http://localhost:3000", ServerUrl("localhost", 3000, "/")),
    ("backend_upgrades", "mqtt", ("mqtt",)),
    ("trusted_proxies", "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
    (
        "trusted_proxies",
        ["10.0.0.0/8", ip_network("::1")],
        (ip_network("10.0.0.0/8"), ip_network("::1")),
    ),
    ("health_listen", ":8081", ("127.0.0.1", 8081)),
    ("authfile", Path("users.json"), "users.json"),
]


@pytest.mark.parametrize(("option", "value", "expected"), SERVER_TEXTS, ids=str)
def test_a_server_takes_texts_too(option: str, value: Any, expected: Any) -> None:
    needed = {"backend": "http://localhost"} if option == "backend_upgrades" else {}
    settings = ServerSettings(**{**needed, option: value})
    assert getattr(settings, option) == expected


@pytest.mark.parametrize("option", [each.name for each in attrs.fields(ServerSettings)])
@pytest.mark.parametrize("value", [1.5j, ..., b"x", [5], {"a": 1}], ids=repr)
def test_a_servers_value_of_a_wrong_type_is_the_users_error(option: str, value: Any) -> None:
    with pytest.raises(UsageError):
        ServerSettings(**{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"auth": "nocolon"},
        {"keepalive": "often"},
        {"keepalive": None},
        {"port": "http"},
        {"port": None},
        {"port": True},
        {"path": None},
        {"reverse": "yes"},
        {"tls": "cert.pem"},
        {"backend": "ftp://x"},
        {"trusted_proxies": "everywhere"},
        {"health_listen": "nowhere"},
        {"health_listen": ("127.0.0.1", None)},
    ],
    ids=str,
)
def test_a_servers_wrong_value_is_the_users_error(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ServerSettings(**options)
