"""The API as users write it: checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

import trio

import cotun_trio
import cotun_trio.blocking
from cotun_trio.api.events import Event
from cotun_trio.api.forwards import ForwardStats, VisitorStream
from cotun_trio.api.server import SessionInfo
from cotun_trio.pytest_plugin import TunnelPair
from cotun_trio.settings import ServerTls, Timings
from cotun_trio.testing import MemoryClient, MemoryServer, tunnel_pair


async def a_client() -> None:
    async with cotun_trio.open_client(
        ["wss://one.example.com/path", "wss://two.example.com/path"],
        remotes=["5432:db.internal:5432", "R:8080:127.0.0.1:80"],
        auth=("user", "pass"),
        fingerprint="…",
        proxy="http://proxy:3128",
        headers=[("X-Token", "…")],
        tls_ca="ca.pem",
        keepalive=10,
        connect_timeout=None,
        timings=Timings(ssh_wait=5),
    ) as client:
        assert_type(client, cotun_trio.TunnelClient)
        forward = await client.forward("0:db.internal:5432")
        assert_type(forward, cotun_trio.Forward)
        assert_type(forward.address, str)
        assert_type(forward.stats(), ForwardStats)
        assert_type(client.forwards, tuple[cotun_trio.Forward, ...])
        await forward.aclose()

        async with await client.open_tcp_stream("db.internal", 5432) as stream:
            assert_type(stream, trio.abc.HalfCloseableStream)
            await stream.send_eof()

        listener = await client.listen_tcp(port=0, allow=["10.0.0.0/8"])
        assert_type(listener, cotun_trio.TunnelListener)
        visitor = await listener.accept()
        assert_type(visitor, VisitorStream)
        assert_type(visitor.peer, str)
        assert_type(client.events(), AsyncIterator[Event])
        async for event in client.events():
            match event:
                case cotun_trio.Connected(server, latency):
                    assert_type(server, str)
                    assert_type(latency, float)
                case cotun_trio.Lost(reason, retry_in):
                    assert_type(reason, str)
                    assert_type(retry_in, float)
                case cotun_trio.ForwardFailed(failed, reason):
                    assert_type(failed, cotun_trio.Forward)


async def a_client_with_texts_as_on_the_command_line() -> None:
    async with cotun_trio.open_client(
        "https://host",
        remotes="5432",
        auth="user:pass",
        headers={"X-Token": "…"},
        tls_ca=Path("ca.pem"),
        keepalive="10s",
        max_retry_count="3",
        min_retry_interval="2s",
        max_retry_interval="1m",
        max_connections="100",
        connect_timeout="5s",
    ):
        pass
    cotun_trio.blocking.open_client("https://host", headers=["A: b", ("C", "d")], keepalive="10s")


async def an_application(listener: cotun_trio.TunnelListener) -> None:
    await trio.serve_listeners(serve, [listener])


async def serve(stream: trio.abc.HalfCloseableStream) -> None:
    await stream.send_all(await stream.receive_some())


async def authorise(user: str, peer: str, remote: str) -> str | None:
    if remote == "db:5432":
        raise cotun_trio.Refused("not today")
    return None if user == "alice" else f"{peer} may not"


async def a_server() -> None:
    cotun_trio.ServerSettings(auth="alice:secret", keepalive="10s")
    settings = cotun_trio.ServerSettings(
        port=0, auth=("alice", "secret"), reverse=True, tls=ServerTls(cert="c.pem", key="k.pem")
    )
    async with cotun_trio.open_server(settings, authorise=authorise) as server:
        assert_type(server, cotun_trio.TunnelServer)
        assert_type(server.addresses, tuple[str, ...])
        assert_type(server.fingerprint, str)
        assert_type(server.sessions(), tuple[SessionInfo, ...])
        await server.drain()


def without_trio() -> None:
    with cotun_trio.blocking.open_client("https://host") as tunnel:
        forward = tunnel.forward("5432")
        assert_type(forward, cotun_trio.blocking.BlockingForward)
        assert_type(forward.address, str)
        assert_type(forward.stats(), ForwardStats)
        forward.close()


async def a_test() -> None:
    async with tunnel_pair(authorise=authorise, auth=("alice", "secret")) as (server, client):
        assert_type(server, MemoryServer)
        assert_type(client, MemoryClient)
        server.handle("db", 1, serve)
        assert_type(await server.connect("0.0.0.0:80"), trio.abc.HalfCloseableStream)


async def a_test_with_the_fixture(tunnel_pair: TunnelPair) -> None:
    async with tunnel_pair() as (server, client):
        assert_type(server, MemoryServer)
        assert_type(client, MemoryClient)


def errors(error: cotun_trio.CotunError) -> None:
    assert_type(error.fatal, bool)
    kinds: list[type[cotun_trio.CotunError]] = [
        cotun_trio.UsageError,
        cotun_trio.ConnectionLost,
        cotun_trio.Refused,
    ]
    assert_type(cotun_trio.__version__, str)
    print(kinds)
