"""The embedded client and server with the Go original at the other end."""

from __future__ import annotations

import pytest
import trio

from cotun_trio import Refused, ServerSettings, open_client, open_server
from tests.support.programs import WITH_CHISEL, chisel_client, chisel_server
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    split_address,
)

pytestmark = WITH_CHISEL


async def test_a_client_has_streams_and_local_forwards_and_reverse_ones_from_the_start() -> None:
    reverse = free_port()
    async with listening(echo) as target, chisel_server("--reverse") as (_, url):
        remotes = [f"R:{LOOPBACK}:{reverse}:{target}"]
        async with open_client(url, remotes=remotes) as client:
            async with await client.open_tcp_stream(*split_address(target)) as stream:
                assert await echoes(stream)
            local = await client.forward(f"{LOOPBACK}:0:{target}")
            assert client.forwards[0].address == f"{LOOPBACK}:{reverse}"
            for forward in (local, client.forwards[0]):
                async with await connect(forward.address) as stream:
                    assert await echoes(stream)
                assert forward.stats().total == 1
            for late in (client.listen_tcp(), client.forward("R:0:localhost:1")):
                with pytest.raises(Refused, match="a Go server hears of reverse remotes only when"):
                    await late
            assert client.connected
            with trio.fail_after(5):
                await client.forwards[0].aclose()
            assert client.forwards == (local,)


async def test_a_go_server_listens_for_the_program_when_it_is_told_at_once() -> None:
    port = free_port()
    async with (
        chisel_server("--reverse") as (_, url),
        open_client(url, listen=[(LOOPBACK, port)]) as client,
    ):
        listener = await client.listen_tcp(port, host=LOOPBACK)
        assert listener.address == f"{LOOPBACK}:{port}"
        async with await connect(listener.address) as there:
            await there.send_all(b"hello")
            here = await listener.accept()
            assert await here.receive_some() == b"hello"
            await here.send_all(b"and back")
            assert await there.receive_some() == b"and back"
        with pytest.raises(Refused, match="only when"):
            await client.listen_tcp(port, host=LOOPBACK)  # it has been taken


async def test_a_hook_decides_about_a_go_client() -> None:
    asked = []

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        asked.append((peer, remote))
        return None if remote == target else "not for you"

    async with listening(echo) as target:
        settings = ServerSettings(host=LOOPBACK, port=0)
        async with open_server(settings, authorise=authorise) as server:
            url = f"http://{server.addresses[0]}"
            async with chisel_client(url, target=target) as (program, local):
                await program.wait_for("SSH connected")
                async with await connect(local) as stream:
                    assert await echoes(stream)
                (session,) = server.sessions()
                assert session.peer == LOOPBACK
            assert asked == [(LOOPBACK, target)] * 2
            async with chisel_client(url, target="localhost:1") as (program, _):
                await program.wait_for("not for you")
