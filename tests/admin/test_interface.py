"""The admin interface of a server and of a client, on its own socket."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.admin import routes
from cotun_trio.admin.interface import MAX_HEAD
from cotun_trio.errors import UsageError
from cotun_trio.http.front import HEAD_TIMEOUT
from cotun_trio.server.server import Server
from cotun_trio.settings import AdminAddress
from tests.support.admin import ask, send
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, background, echoes, listening
from tests.support.tunnel import (
    client_settings,
    echo_tunnel,
    running_client,
    running_server,
    server_settings,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


async def test_a_server_answers_on_a_private_socket(place: str) -> None:
    async with nothing_left(), running_server(admin_listen=place):
        path = place.removeprefix("unix:")
        assert (await ask(place, "/health")).body == "OK\n"
        assert (await ask(place, "/ready")).status == 200
        assert await trio.Path(path).is_socket()
        assert (await trio.Path(path).stat()).st_mode & 0o777 == 0o600
    assert not await trio.Path(path).exists()


async def test_sessions_are_shown_with_what_they_carry(place: str) -> None:
    async with echo_tunnel(server={"admin_listen": place, "keepalive": 0}) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
            (session,) = (await ask(place, "/api/v1/sessions")).json
            (known,) = both.server.sessions
            assert session["number"] == 1
            assert session["peer"] == LOOPBACK
            assert session["channels"] == 1
            assert session["bytes_in"] == known.wire.bytes_in > 0
            assert session["bytes_out"] == known.wire.bytes_out > 0
            (remote,) = session["remotes"]
            assert remote.startswith(f"{LOOPBACK}:")
            assert (await ask(place, "/api/v1/sessions/1")).json["remotes"] == [remote]
            stats = (await ask(place, "/api/v1/stats")).json
        assert stats["role"] == "server"
        assert stats["sessions"] == stats["channels"] == 1
        assert stats["ready"] is True


async def test_a_session_can_be_ended_and_its_peer_is_told_why(place: str) -> None:
    async with watch_logs() as log, echo_tunnel(server={"admin_listen": place}) as both:
        gone = await ask(place, "/api/v1/sessions/1?reason=go%20%1bhome", method="DELETE")
        assert gone.json == {"id": "1", "reason": "go \\x1bhome"}
        await log.wait_for(r"Disconnected: .*go \\+x1bhome", "client")
        await both.client.opened(2)
        assert (await ask(place, "/api/v1/sessions/1", method="DELETE")).status == 404


async def test_a_client_is_ready_when_it_has_a_tunnel(place: str) -> None:
    here = AdminAddress.parse(place)
    async with running_server() as server:
        address = server.addresses[0]
        async with running_client(address, "0:x:1", admin_listen=here) as client:
            await client.opened()
            assert (await ask(place, "/ready")).status == 200
            (session,) = (await ask(place, "/api/v1/sessions")).json
            assert session["peer"] == f"http://{address}"
    async with (
        listening(lambda stream: stream.aclose()) as nobody,
        watch_logs() as log,
        running_client(nobody, "0:x:1", admin_listen=here),
    ):
        await log.wait_for("Retrying in", "client")
        answer = await ask(place, "/ready")
        assert answer.status == 503
        assert answer.body.startswith("there is no tunnel: ")


async def test_it_answers_while_the_server_drains(place: str) -> None:
    async with background() as nursery:
        server = Server(server_settings(admin_listen=place))
        await nursery.start(server.run)
        async with running_client(server.addresses[0], "0:x:1") as client:
            await client.opened()
            server.reception.open_sessions[0].draining = True
            server.shown.drains()
            answer = await ask(place, "/ready")
            assert (answer.status, answer.body) == (503, "it is shutting down\n")
            assert (await ask(place, "/health")).status == 200


async def test_on_tcp_a_token_is_needed_and_nothing_is_learnt_without(tmp_path: Path) -> None:
    path = tmp_path / "token"
    async with (
        watch_logs() as log,
        running_server(admin_listen=f"{LOOPBACK}:0", admin_token_file=str(path)),
    ):
        found = await log.wait_for(r"Answering administrators on http://(\S+)/\?token=(\S+)")
        address, token = found[1], found[2]
        assert path.read_text().strip() == token
        for words in ({}, {"token": "wrong"}):
            answer = await ask(address, "/api/v1/stats", **words)
            assert (answer.status, answer.body) == (401, "no token, or a wrong one\n")
            assert "bearer" in answer.headers["www-authenticate"].lower()
        for words in ({"host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert (await ask(address, "/api/v1/stats", token=token, **words)).status == 403
        assert (await ask(address, "/api/v1/stats", token=token)).json["role"] == "server"


async def test_a_token_in_an_address_becomes_a_cookie(tmp_path: Path) -> None:
    async with watch_logs() as log, running_server(admin_listen=f"{LOOPBACK}:0"):
        found = await log.wait_for(r"Answering administrators on http://(\S+)/\?token=(\S+)")
        address, token = found[1], found[2]
        answer = await ask(address, f"/ready?token={token}")
        assert answer.status == 303
        assert answer.headers["location"] == "/ready"
        cookie, *flags = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
        assert (await ask(address, "/ready", Cookie=cookie)).status == 200
        assert (await ask(address, "/ready?token=wrong")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/ready", 405),
        ("DELETE", "/api/v1/sessions", 405),
        ("GET", "/api/v1/sessions/7", 404),
        ("GET", "/api/v1/sessions/" + "9" * 13, 404),
        ("GET", "/api/v1/sessions/x", 404),
        ("HEAD", "/ready", 200),
    ],
)
async def test_other_requests(place: str, method: str, path: str, status: int) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, path, method=method)
        assert answer.status == status
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        if status == 405:
            assert "GET" in answer.headers["allow"]
        if method == "HEAD":
            assert answer.body == ""


async def test_a_head_that_is_too_long_is_refused(place: str) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, "/ready", X=MAX_HEAD * "x")
        assert answer.status == 431


async def test_what_is_no_request_ends_alone(place: str) -> None:
    async with running_server(admin_listen=place):
        assert b" 400 " in await send(place, b"\0\1\2\r\n\r\n")
        assert (await ask(place, "/ready")).status == 200


async def test_slow_requests_do_not_keep_their_places(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    """A connection that says nothing ends after a while, though nobody else wants its place."""
    async with running_server(admin_listen=place):
        began = trio.current_time()
        async with await trio.open_unix_socket(place.removeprefix("unix:")) as silent:
            assert await silent.receive_some() == b""
        assert HEAD_TIMEOUT <= trio.current_time() - began < HEAD_TIMEOUT + 1


async def test_an_error_of_ours_ends_one_connection(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_logs() as log, running_server(admin_listen=place):
        monkeypatch.setattr(routes, "answer", lambda *_: 1 / 0)
        assert await send(place, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        await log.wait_for("internal error, the admin connection is closed")
        monkeypatch.undo()
        assert (await ask(place, "/health")).status == 200


async def test_a_place_that_is_taken_is_an_error_at_start(place: str) -> None:
    async with running_server(admin_listen=place):
        with pytest.raises(UsageError, match=re.escape(place)):
            await Server(server_settings(admin_listen=place)).run()


@pytest.mark.parametrize("text", ["unix:", "unix:admin.sock", "9110x", "evil host:1", ":70000"])
def test_a_wrong_address_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="--admin-listen"):
        server_settings(admin_listen=text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9110", f"{LOOPBACK}:9110"),
        (":9110", f"{LOOPBACK}:9110"),
        ("[::1]:9110", "[::1]:9110"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_an_address_has_two_forms(text: str, shown: str) -> None:
    assert str(server_settings(admin_listen=text).admin_listen) == shown


def test_a_wrong_address_is_an_error_for_a_client_as_well() -> None:
    with pytest.raises(UsageError, match="--admin-listen"):
        client_settings("127.0.0.1:1", "0:x:1", admin_listen="unix:here")


async def test_besides_it_answers_on_a_socket_where_that_can_be_made(
    place: str, tmp_path: Path
) -> None:
    besides = str(tmp_path / "besides.sock")
    async with running_server(admin_listen=f"{LOOPBACK}:0", admin_socket=besides) as server:
        assert (await ask(f"unix:{besides}", "/ready")).status == 200  # and needs no token
        async with (
            watch_logs() as log,
            running_client(server.addresses[0], "0:x:1", admin_listen=place, admin_socket=besides),
        ):
            (warning,) = log.lines(level=logging.WARNING)
            assert warning == f"cannot listen on unix:{besides}: another process does"
            assert (await ask(place, "/health")).status == 200
    assert not await trio.Path(besides).exists()


async def test_besides_the_same_socket_is_none(place: str) -> None:
    async with watch_logs() as log:
        async with running_server(admin_listen=place, admin_socket=place.removeprefix("unix:")):
            assert (await ask(place, "/ready")).status == 200
        assert len(log.find("Answering administrators on")) == 1
        assert not log.find("cannot listen")


def test_the_path_of_a_socket_begins_with_a_slash() -> None:
    with pytest.raises(UsageError, match=r"COTUN_ADMIN_SOCKET: 'admin\.sock': a path begins"):
        server_settings(admin_socket="admin.sock")
