"""What a client does not do for a server, and does not ask of one that is not of our kind."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.errors import ConfigRefused
from cotun_trio.ssh import messages
from tests.support.log_watch import watch_logs
from tests.support.peer import scripted_server
from tests.support.targets import echo, listening, split_address
from tests.support.tunnel import running_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)

UNDECLARED = [
    "127.0.0.1:{other}",
    "127.0.0.2:{port}",
    "localhost:{port}",
    "LOCALHOST:{port}",
    "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "127.0.0.1:{port}/udp",
    "socks",
    "SOCKS",
    "unix:/run/docker.sock",
    "unix:./sock",
    "stdio",
    "",
    "127.0.0.1:0",
    "127.0.0.1:{port}\n",
    "127.0.0.1:0{port}0",
]


@pytest.mark.parametrize("undeclared", UNDECLARED)
async def test_a_hostile_server_cannot_dial_what_was_not_declared(undeclared: str) -> None:
    dialled: list[trio.SocketStream] = []

    async def target(stream: trio.SocketStream) -> None:
        dialled.append(stream)

    done = trio.Event()

    async with listening(target) as address, listening(target) as other, watch_logs() as log:
        names = {"port": split_address(address)[1], "other": split_address(other)[1]}

        async def script(peer: Peer) -> None:
            await peer.let_client_in()
            code = await peer.refused_channel(undeclared.format(**names))
            assert code == messages.OPEN_PROHIBITED
            done.set()
            await peer.gone()

        # What listens on this side is no more for the server to dial than anything else.
        remotes = (f"R:0:{address}", f"127.0.0.1:0:{other}", "127.0.0.1:0:unix:/run/docker.sock")
        async with (
            scripted_server(script, host_key()) as server,
            running_client(server, *remotes[:2], protocol="chisel"),
        ):
            await done.wait()
        assert log.find("refused: this client has no reverse remote|refused a channel:", "client")
    assert not dialled


async def test_a_server_can_dial_what_was_declared() -> None:
    opened: list[int] = []
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        opened.append(await peer.open_channel(target))
        done.set()
        await peer.gone()

    async with (
        listening(echo) as target,
        scripted_server(script, host_key()) as server,
        running_client(server, f"R:0:{target}", protocol="chisel"),
    ):
        await done.wait()
    assert opened


async def test_the_declared_socks_lets_a_server_have_udp_but_no_unix_socket() -> None:
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        assert await peer.refused_channel("unix:/run/docker.sock") == messages.OPEN_PROHIBITED
        assert await peer.refused_channel("127.0.0.1:1") == messages.OPEN_PROHIBITED
        await peer.open_channel("127.0.0.1:9/udp")
        done.set()
        await peer.gone()

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "R:0:socks", protocol="chisel"),
    ):
        await done.wait()


# ---- what only a cotun-trio can do


@pytest.mark.parametrize(
    "remote",
    [
        "127.0.0.1:0:unix:/run/app.sock",
        "R:unix:/run/app.sock:80",
        "R:me:secret@1080:socks",
        "stdio:unix:/run/app.sock",
    ],
)
async def test_a_go_server_is_never_asked_for_what_it_cannot_do(remote: str) -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        requests.append(await peer.receive())

    async with scripted_server(script, host_key()) as server:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running_client(server, remote, protocol="chisel"):
                await trio.sleep_forever()
    assert caught.group_contains(ConfigRefused, match="only a cotun-trio server", depth=None)
    assert not requests


async def test_a_go_server_is_asked_for_what_only_the_client_does_itself(tmp_path: Path) -> None:
    remotes = (
        f"unix:{tmp_path}/in.sock:db:5432",
        f"R:0:unix:{tmp_path}/out.sock",
        "me:secret@127.0.0.1:0:socks",
    )
    payloads: list[bytes] = []

    async def script(peer: Peer) -> None:
        payloads.append(await peer.let_client_in())
        await peer.gone()

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, *remotes, protocol="chisel") as client,
    ):
        await client.opened()
    assert b"secret" not in payloads[0]
    assert b"CotunTrio" not in payloads[0]
