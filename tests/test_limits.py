"""How many connections there may be: in a session, and in all of them together."""

from __future__ import annotations

from tests.support.ends import connect_to
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, turned_away
from tests.support.tunnel import echo_tunnel, running_client, tunnel


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


async def test_all_sessions_together_have_so_many() -> None:
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


async def test_none_is_no_limit() -> None:
    limits = {"max_connections": 0, "max_session_connections": 0}
    async with (
        echo_tunnel(server=limits, client={"max_connections": 0}) as both,
        await both.connect() as one,
        await both.connect() as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
