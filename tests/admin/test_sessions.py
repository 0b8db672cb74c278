"""The connections of a session, as an administrator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio import snapshot
from tests.support.admin import ask
from tests.support.ends import socks_request, udp_echo, udp_socket
from tests.support.targets import LOOPBACK, echo, echoes, listening, split_address
from tests.support.tunnel import echo_tunnel, tunnel

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = "/api/v1/sessions/1/channels"


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    """Return the addresses of the server's interface and the client's."""
    return f"unix:{tmp_path / 'server.sock'}", f"unix:{tmp_path / 'client.sock'}"


async def test_both_ends_show_a_connection(places: tuple[str, str]) -> None:
    at_server, at_client = places
    data = bytes(1000)
    async with echo_tunnel(
        server={"admin_listen": at_server}, client={"admin_listen": at_client}
    ) as both:
        async with await both.connect() as stream:
            assert await echoes(stream, data)
            host, port = stream.socket.getsockname()
            (there,) = (await ask(at_server, CHANNELS)).json["channels"]
            (here,) = (await ask(at_client, CHANNELS)).json["channels"]
        remote = both.client.sessions[0].about.remotes[0]
        assert there["number"] == here["number"] == 1
        assert (there["opened_by"], here["opened_by"]) == ("peer", "here")
        assert there["target"] == remote.split(":", 2)[2]
        assert (there["remote"], there["source"]) == (None, None)
        assert here["remote"] == remote
        assert here["source"] == f"{host}:{port}"
        assert here["target"] is None
        for each in (there, here):
            assert (each["bytes_in"], each["bytes_out"]) == (1000, 1000)
            assert each["seconds"] >= 0


async def test_a_connection_that_has_ended_is_not_shown(places: tuple[str, str]) -> None:
    at_server, _ = places
    async with echo_tunnel(server={"admin_listen": at_server}) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
        await both.server.sessions[0].flows.wait_idle()
        assert (await ask(at_server, CHANNELS)).json == {"count": 0, "channels": []}


async def test_the_target_of_a_socks_client_is_shown(places: tuple[str, str]) -> None:
    at_server, _ = places
    async with (
        listening(echo) as target,
        tunnel(
            remotes=(f"{LOOPBACK}:0:socks",), server={"admin_listen": at_server, "socks5": True}
        ) as both,
        await both.connect() as stream,
    ):
        await socks_request(stream, *split_address(target))
        assert await echoes(stream)
        (shown,) = (await ask(at_server, CHANNELS)).json["channels"]
        assert (shown["target"], shown["socks_target"]) == ("socks", target)


async def test_the_datagrams_of_a_remote_are_one_connection(places: tuple[str, str]) -> None:
    at_server, at_client = places
    async with (
        udp_echo() as target,
        tunnel(
            f"{target}/udp", server={"admin_listen": at_server}, client={"admin_listen": at_client}
        ) as both,
        udp_socket() as (sock, _),
    ):
        await sock.sendto(b"hello", split_address(both.client.addresses[0]))
        assert await sock.recv(100) == b"hello"
        (there,) = (await ask(at_server, CHANNELS)).json["channels"]
        (here,) = (await ask(at_client, CHANNELS)).json["channels"]
        assert there["target"] == f"{target}/udp"
        assert (here["number"], here["opened_by"]) == (None, "here")
        assert here["bytes_out"] == there["bytes_in"] > 5


async def test_a_long_list_ends_and_says_how_many_there_are(
    places: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_server, _ = places
    monkeypatch.setattr(snapshot, "MAX_CHANNELS", 2)
    async with (
        echo_tunnel(server={"admin_listen": at_server}) as both,
        await both.connect() as one,
        await both.connect() as two,
        await both.connect() as three,
    ):
        for stream in (one, two, three):
            assert await echoes(stream)
        found = (await ask(at_server, CHANNELS)).json
        assert found["count"] == 3
        assert [each["number"] for each in found["channels"]] == [1, 2]


async def test_another_session_has_no_connections(places: tuple[str, str]) -> None:
    at_server, _ = places
    async with echo_tunnel(server={"admin_listen": at_server}):
        answer = await ask(at_server, CHANNELS.replace("1", "7"))
        assert answer.status == 404
