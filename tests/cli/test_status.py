"""``cotun-trio status``, ``sessions`` and ``kick`` against running programs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cotun_trio.cli.admin_client import AdminClient
from cotun_trio.cli.status import _channel_table, _table
from cotun_trio.errors import UsageError
from tests.support.programs import our_server, ours
from tests.support.sockets import tcp_listener
from tests.support.targets import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
async def test_a_look_into_a_server_and_a_session_that_is_ended(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    env = {"COTUN_ADMIN": place}
    async with (
        our_server("--admin-listen", place) as (_, url),
        ours("client", url, f"{LOOPBACK}:0:db:5432") as client,
    ):
        await client.wait_for("Connected")
        async with ours("status", env=env) as status:
            assert await status.wait() == 0
            assert status.find("cotun-trio .* server, ready")
            assert status.find(r"^sessions  1 \(1 so far\), 0 channels")
        async with ours("status", "--json", env=env) as status:
            assert await status.wait() == 0
            assert json.loads(status.lines[0])["sessions"] == 1
        async with ours("sessions", "--admin", place) as sessions:
            assert await sessions.wait() == 0
            assert sessions.find("1 +- +127.0.0.1 ")
        async with ours("sessions", "1", "--json", env=env) as channels:
            assert await channels.wait() == 0
            assert json.loads(channels.lines[0]) == {"count": 0, "channels": []}
        async with ours("sessions", "77", env=env) as channels:
            assert await channels.wait() == 1
            assert channels.find("there is no session 77")
        async with ours("kick", "1", "--reason", "lunch", env=env) as kick:
            assert await kick.wait() == 0
        await client.wait_for("Disconnected: .*lunch")
        async with ours("kick", "77", env=env) as kick:
            assert await kick.wait() == 1
            assert kick.find("there is no session 77")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_environment_can_have_one_more_socket(workers: str, tmp_path: Path) -> None:
    path, gone = str(tmp_path / "admin.sock"), str(tmp_path / "gone" / "admin.sock")
    options = ("--workers", workers, "--admin-listen", f"{LOOPBACK}:0")
    async with our_server(*options, env={"COTUN_ADMIN_SOCKET": path}) as (server, url):
        async with ours("status", "--admin", f"unix:{path}") as status:
            assert await status.wait() == 0
        async with ours("client", url, "0:db:5432", env={"COTUN_ADMIN_SOCKET": gone}) as client:
            await client.wait_for("Connected")
            assert client.find(f"WARNING client: cannot listen on unix:{gone}: No such file")
            assert await client.stop() == 0
        assert await server.stop() == 0


@pytest.mark.slow
async def test_a_client_without_a_tunnel_has_another_status(tmp_path: Path) -> None:
    token = tmp_path / "token"
    options = ["--admin-listen", f"{LOOPBACK}:0", "--admin-token-file", str(token)]
    async with ours("client", *options, "http://127.0.0.1:1", f"{LOOPBACK}:0:db:5432") as client:
        found = await client.wait_for(r"Answering administrators on http://([^/]+)/")
        await client.wait_for("Retrying in")
        async with ours("status", "--admin", found[1], "--token-file", str(token)) as status:
            assert await status.wait() == 1
            assert status.find("client, not ready: there is no tunnel: ")
        async with ours("status", "--admin", found[1]) as status:
            assert await status.wait() == 2
            assert status.find("wants its token: give --token-file")


def test_where_nobody_listens_it_is_said_who_should(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file .* --admin-listen of a server"):
        AdminClient(f"unix:{tmp_path}/none", None).get("/api/v1/stats")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello"])
def test_another_program_is_no_admin_interface(answer: bytes) -> None:
    with tcp_listener() as listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        code = (
            f"import socket; s = socket.socket(fileno={number}); c, _ = s.accept(); "
            f"c.recv(9999); c.sendall({answer!r}); c.close()"
        )
        with (
            subprocess.Popen([sys.executable, "-c", code], pass_fds=[number]),
            pytest.raises(UsageError, match="is no admin interface"),
        ):
            AdminClient(f"{LOOPBACK}:{port}", None).get("/api/v1/stats")


def test_the_name_of_a_user_is_text_and_no_markup() -> None:
    from rich.console import Console

    session = {"id": "3", "user": "[red]x\x1b", "peer": "10.0.0.9", "seconds": 90.0}
    session |= {"channels": 2, "bytes_in": 1000, "bytes_out": 2000, "remotes": ["R:0.0.0.0:1:x:2"]}
    console = Console(width=200, force_terminal=False)
    with console.capture() as shown:
        console.print(_table([session], {}))
    assert "[red]x\\x1b" in shown.get()
    assert "1m30s" in shown.get()


def test_connections_of_both_kinds_are_listed() -> None:
    from rich.console import Console

    here = {"number": None, "opened_by": "here", "seconds": 0.0, "source": None}
    here |= {"remote": "0.0.0.0:53:dns:53/udp", "target": None, "socks_target": None}
    here |= {"bytes_in": None, "bytes_out": None}
    peer = {"number": 7, "opened_by": "peer", "seconds": 90.0, "source": None, "remote": None}
    peer |= {"target": "socks", "socks_target": "[x]\x1b:1", "bytes_in": 1000, "bytes_out": 5}
    console = Console(width=200, force_terminal=False)
    with console.capture() as shown:
        console.print(_channel_table([here, peer]))
    _, first, second = shown.get().splitlines()
    assert first.split() == ["-", "0s", "-", "-", "here", "-", "0.0.0.0:53:dns:53/udp"]
    assert second.split() == ["7", "1m30s", "1kB", "5B", "peer", "-", "[x]\\x1b:1"]
