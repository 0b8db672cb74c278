"""A client with connections to several servers, on sockets."""

from __future__ import annotations

import contextlib
import signal

import pytest
import trio
import trio.testing

from cotun_trio.settings import Route, ServerUrl
from tests.support.ends import ask, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.programs import our_server, ours
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    free_port,
    listening,
)
from tests.support.tunnel import running_client, running_server, switchable_server


def routes(*addresses: str) -> tuple[Route, ...]:
    """Return the routes to servers."""
    return tuple(Route(ServerUrl.parse(address)) for address in addresses)


async def test_the_addresses_of_a_name_are_two_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, several=[LOOPBACK, "127.0.0.2"])
    port = free_port()
    async with (
        running_server(port=port) as first,
        running_server(port=port, host="127.0.0.2") as second,
        listening(echo) as target,
        running_client(f"several:{port}", f"{LOOPBACK}:0:{target}", connections=2) as client,
    ):
        await client.opened(2)
        assert {session.address for session in client.sessions} == {LOOPBACK, "127.0.0.2"}
        assert len(first.sessions) == len(second.sessions) == 1
        for _ in range(2):
            async with await connect(client.addresses[0]) as stream:
                assert await echoes(stream)


async def test_datagrams_go_on_through_another_server() -> None:
    async with (
        watch_logs() as log,
        switchable_server() as first,
        switchable_server() as second,
        udp_echo() as target,
        running_client(
            first.address,
            f"{LOOPBACK}:0:{target}/udp",
            alternatives=routes(second.address),
            connections=2,
        ) as client,
        udp_socket() as (sock, _),
    ):
        await client.opened(2)
        (address,) = client.addresses
        for number in range(20):
            assert await ask(sock, address, b"%d" % number) == b"%d" % number
        used = [session for session in client.sessions if session.connection.channels]
        assert len(used) == 1  # all of them by one channel
        lost = first if used[0].url == ServerUrl.parse(first.address) else second
        await lost.stop()
        await log.wait_for("Disconnected", "client")
        assert await ask(sock, address, b"again") == b"again"


async def test_a_reverse_remote_listens_at_each_server_and_survives_the_loss_of_one() -> None:
    async with (
        watch_logs() as log,
        switchable_server(reverse=True) as first,
        running_server(reverse=True) as second,
        listening(echo) as target,
        running_client(
            first.address,
            f"R:{LOOPBACK}:0:{target}",
            alternatives=routes(second.addresses[0]),
            connections=2,
        ) as client,
    ):
        await client.opened(2)
        found = {m[1] for m in log.find(r"The server listens on (\S+) for", "client")}
        assert len(found) == 2
        for address in found:
            async with await connect(address) as stream:
                assert await echoes(stream)
        kept = next(s for s in client.sessions if s.url != ServerUrl.parse(first.address))
        async with await connect(kept.reverse_addresses[0]) as stream:
            await first.stop()
            assert await echoes(stream)
            async with await connect(kept.reverse_addresses[0]) as another:
                assert await echoes(another)


async def test_a_second_connection_to_the_same_server_takes_no_listener_over(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    port = free_port()
    async with (
        watch_logs() as log,
        running_server(reverse=True) as server,
        listening(echo) as target,
        running_client(
            server.addresses[0], f"R:{LOOPBACK}:{port}:{target}", connections=3
        ) as client,
    ):
        session = await client.opened()
        async with await connect(f"{LOOPBACK}:{port}") as stream:
            await log.wait_for("^3 connections wanted, but there is only 1", "client", timeout=1e3)
            assert await echoes(stream)
        assert client.sessions == [session]
        assert session.failure is None
        assert len(server.sessions) == 1
        refused = "the client has another session with this server"
        assert log.find(f"closed before it was open: {refused}$", "server")


@pytest.mark.slow
async def test_a_server_that_is_killed_costs_no_new_connection() -> None:
    async with (
        listening(echo) as target,
        our_server() as (first, url),
        our_server() as (_, other),
        ours(
            *("client", "--connections", "2", "--server", other),
            *(url, f"{LOOPBACK}:0:{target}"),
        ) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        address = (await client.wait_for(r"Listening on (\S+) for"))[1]
        await client.wait_for("Connected", times=2)
        streams = [await stack.enter_async_context(await connect(address)) for _ in range(4)]
        for stream in streams:
            assert await echoes(stream)
        first.send_signal(signal.SIGKILL)
        cut = 0
        for stream in streams:
            try:
                assert await echoes(stream)
            except trio.BrokenResourceError:
                cut += 1
        assert cut == 2
        for _ in range(20):
            async with await connect(address) as stream:
                assert await echoes(stream)
        await client.wait_for(f"server={url}: Disconnected")
        assert not client.find(f"server={other}: Disconnected")
