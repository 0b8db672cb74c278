"""The visitors of an embedded client: who they are, and who may come."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio import UsageError, open_client
from cotun_trio.api.forwards import VisitorStream
from cotun_trio.settings import Timings
from cotun_trio.testing import tunnel_pair
from tests.support.targets import LOOPBACK, connect, echoes, turned_away
from tests.support.tunnel import running_server


async def test_a_stream_knows_its_visitor(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp()
        for source in ("192.0.2.7:1234", "[2001:db8::1]:1", ""):
            async with await server.connect(listener.address, source=source):
                stream = await listener.accept()
                assert isinstance(stream, VisitorStream)
                assert stream.peer == source


async def test_a_listener_may_choose_its_visitors(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp(allow=["192.0.2.0/24", "2001:db8::/32"])
        for source in ("198.51.100.1:1", ""):
            with pytest.raises(trio.BrokenResourceError):
                await server.connect(listener.address, source=source)
        async with await server.connect(listener.address, source="192.0.2.7:1"):
            assert (await listener.accept()).peer == "192.0.2.7:1"
        with pytest.raises(UsageError, match="no network"):
            await client.listen_tcp(allow=["everybody"])


async def test_a_forward_may_have_options(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (server, client):
        forward = await client.forward("R:7000:web:80,allow=192.0.2.0/24,proxy=v2")
        assert forward.remote == "R:0.0.0.0:7000:web:80,proxy=v2,allow=192.0.2.0/24"
        with pytest.raises(trio.BrokenResourceError):
            await server.connect(forward.address)
        with pytest.raises(UsageError, match="the same target"):
            await client.forward("R:7001:web:80")
        await forward.aclose()
        await client.forward("R:7001:web:80")


async def test_by_sockets_it_is_the_visitors_own_address() -> None:
    async with (
        running_server(reverse=True) as server,
        open_client(f"http://{server.addresses[0]}") as client,
    ):
        listener = await client.listen_tcp(host=LOOPBACK)
        async with await connect(listener.address) as visitor, trio.open_nursery() as nursery:
            stream = await listener.accept()
            name = visitor.socket.getsockname()
            assert stream.peer == f"{name[0]}:{name[1]}"

            async def echo() -> None:
                await stream.send_all(await stream.receive_some())

            nursery.start_soon(echo)
            assert await echoes(visitor)


async def test_what_a_client_was_opened_with_is_for_all_visitors() -> None:
    async with (
        running_server(reverse=True) as server,
        open_client(
            f"http://{server.addresses[0]}",
            listen=[(LOOPBACK, 0)],
            timings=Timings(ssh_wait=1),
        ) as client,
    ):
        chosen = await client.listen_tcp(host=LOOPBACK, allow=["10.0.0.0/8"])
        opened = await client.listen_tcp(host=LOOPBACK)
        assert chosen.address != opened.address
        assert await turned_away(chosen.address)
        async with await connect(opened.address):
            assert (await opened.accept()).peer.startswith(f"{LOOPBACK}:")
