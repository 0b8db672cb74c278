"""Limits on connections: in one session, and in all sessions together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.ends import ask, connect_to, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, turned_away
from tests.support.tunnel import echo_tunnel, running_client, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from tests.support.tunnel import Tunnel

    Source = trio.socket.SocketType


async def test_a_session_has_so_many_connections_and_no_more() -> None:
    async with echo_tunnel(server={"max_session_connections": 2}) as both:
        async with await both.connect() as one, await both.connect() as two:
            assert await echoes(one)
            assert await echoes(two)
            assert await turned_away(both.client.addresses[0])
            assert await echoes(one)
        await both.client.sessions[0].connection.wait_no_channels()
        async with await both.connect() as again:
            assert await echoes(again)


async def test_a_client_carries_so_many_and_no_more() -> None:
    async with echo_tunnel(client={"max_connections": 1}) as both, await both.connect() as one:
        assert await echoes(one)
        assert await turned_away(both.client.addresses[0])
        assert await echoes(one)


async def test_all_sessions_together_have_a_limit_of_connections() -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        tunnel(target, server={"max_connections": 2}) as both,
        running_client(both.server.addresses[0], f"{LOOPBACK}:0:{target}") as other,
        await both.connect() as one,
        await connect(other.addresses[0]) as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
        for address in (both.client.addresses[0], other.addresses[0]):
            assert await turned_away(address)
        await log.wait_for("refused: too many connections", "server", times=2)
        await one.aclose()
        await both.client.sessions[0].connection.wait_no_channels()
        async with await connect(other.addresses[0]) as three:
            assert await echoes(three)


async def test_what_the_server_accepts_for_a_client_counts_too() -> None:
    async with (
        listening(echo) as target,
        tunnel(
            remotes=(f"R:{LOOPBACK}:0:{target}",),
            server={"reverse": True, "max_connections": 1},
        ) as both,
    ):
        (address,) = both.client.sessions[0].reverse_addresses
        async with await connect_to(address) as one:
            assert await echoes(one)
            assert await turned_away(address)
        await both.client.sessions[0].connection.wait_no_channels()
        async with await connect_to(address) as again:
            assert await echoes(again)


# ---- datagrams


@contextlib.asynccontextmanager
async def sources(count: int) -> AsyncIterator[list[Source]]:
    """Give sockets that datagrams are sent from."""
    async with contextlib.AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(udp_socket()))[0] for _ in range(count)]


async def ask_each(socks: list[Source], address: str) -> None:
    """Have each of them get an answer."""
    for number, sock in enumerate(socks):
        assert await ask(sock, address, b"%d" % number) == b"%d" % number


def flows(both: Tunnel) -> int:
    """Return how many flows the server has."""
    return sum(len(session.flows.udp) for session in both.server.sessions)


async def test_udp_sources_count_as_connections_over_all_remotes_of_a_session() -> None:
    async with (
        udp_echo() as one,
        udp_echo() as other,
        tunnel(
            remotes=(f"{LOOPBACK}:0:{one}/udp", f"{LOOPBACK}:0:{other}/udp"),
            server={"max_session_connections": 7},
        ) as both,
        sources(4) as some,
        sources(4) as more,
    ):
        await ask_each(some, both.client.addresses[0])
        assert (flows(both), both.server.quota.count.own) == (4, 1 + 4)
        await ask_each(more, both.client.addresses[1])
        assert (flows(both), both.server.quota.count.own) == (5, 2 + 5)
        # Those that had to make room begin anew.
        await ask_each(some, both.client.addresses[0])
        assert (flows(both), both.server.quota.count.own) == (5, 2 + 5)


async def test_a_connection_gets_into_a_session_that_is_full_of_udp_sources() -> None:
    async with (
        listening(echo) as target,
        udp_echo() as far,
        tunnel(
            target,
            remotes=(f"{LOOPBACK}:0:{far}/udp",),
            server={"max_session_connections": 4},
        ) as both,
        sources(5) as some,
    ):
        await ask_each(some, both.client.addresses[1])
        assert flows(both) == 3
        async with await both.connect() as one, await both.connect() as two:
            assert await echoes(one)
            assert await echoes(two)
            assert flows(both) == 1
            await ask_each(some, both.client.addresses[1])
            assert flows(both) == 1
            assert await echoes(one)
            assert await echoes(two)


async def test_udp_sources_leave_no_more_of_the_quota_than_they_were_given() -> None:
    async with (
        listening(echo) as target,
        udp_echo() as far,
        tunnel(remotes=(f"{LOOPBACK}:0:{far}/udp",), server={"max_connections": 5}) as both,
        running_client(both.server.addresses[0], f"{LOOPBACK}:0:{target}") as other,
        sources(10) as some,
        await connect(other.addresses[0]) as stream,
    ):
        assert await echoes(stream)
        await ask_each(some, both.client.addresses[0])
        assert flows(both) == 3
        # Nobody makes room for somebody else.
        assert await turned_away(other.addresses[0])
        assert flows(both) == 3
        assert await echoes(stream)


async def test_zero_is_no_limit_on_connections() -> None:
    limits = {"max_connections": 0, "max_session_connections": 0}
    async with (
        echo_tunnel(server=limits, client={"max_connections": 0}) as both,
        await both.connect() as one,
        await both.connect() as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
