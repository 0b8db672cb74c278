"""The embedded server: what it says of itself, how it drains, and whom its hook lets in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from cotun_trio import CotunError, Refused, ServerSettings, UsageError, open_client, open_server
from cotun_trio.settings import Timings
from cotun_trio.testing import tunnel_pair
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    listening,
    receive_all,
    split_address,
)


async def swallow(stream: trio.abc.HalfCloseableStream) -> None:
    await receive_all(stream)


async def test_it_says_who_is_connected(autojump: trio.testing.MockClock) -> None:
    settings = ServerSettings(auth=("alice", "secret"), reverse=True)
    async with tunnel_pair(settings, auth=("alice", "secret")) as (server, client):
        server.handle("db", 1, swallow)
        await client.listen_tcp(8000)
        await client.open_tcp_stream("db", 1)
        (session,) = server.sessions()
        assert (session.user, session.peer, session.channels) == ("alice", "memory", 1)
        assert session.remotes[0].startswith("R:0.0.0.0:8000:")
        assert datetime.now(UTC) - session.since < timedelta(minutes=1)
        assert session.bytes_in > 0
        assert session.bytes_out > 0


async def test_over_real_sockets_forwards_and_listeners_work_as_in_memory() -> None:
    async with nothing_left(), listening(echo) as target:
        settings = ServerSettings(host=LOOPBACK, port=0, reverse=True)
        async with open_server(settings) as server:
            url = f"ws://{server.addresses[0]}"
            async with open_client(url, fingerprint=server.fingerprint) as client:
                forward = await client.forward(f"{LOOPBACK}:0:{target}")
                async with await connect(forward.address) as stream:
                    assert await echoes(stream)
                listener = await client.listen_tcp(host=LOOPBACK)
                async with await connect(listener.address) as there:
                    async with await listener.accept() as here:
                        await here.send_all(b"hello")
                    assert await receive_all(there) == b"hello"
                assert len(server.sessions()) == 1
            with trio.fail_after(5):
                await server.drain()


async def test_a_drained_server_lets_what_is_open_end_for_the_grace(
    autojump: trio.testing.MockClock,
) -> None:
    settings = ServerSettings(timings=Timings(shutdown_grace=10))
    async with tunnel_pair(settings) as (server, client):
        server.handle("db", 1, swallow)
        stream = await client.open_tcp_stream("db", 1)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            await trio.sleep(4)
            await stream.send_all(b"still here")
            await stream.aclose()
        assert 4 <= trio.current_time() - began < 5
        await server.drain()


async def test_what_does_not_end_in_the_grace_is_cut(autojump: trio.testing.MockClock) -> None:
    settings = ServerSettings(timings=Timings(shutdown_grace=10))
    async with tunnel_pair(settings) as (server, client):
        server.handle("db", 1, swallow)
        stream = await client.open_tcp_stream("db", 1)
        began = trio.current_time()
        await server.drain()
        assert 10 <= trio.current_time() - began <= 11
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


# ---- the hook


async def test_the_hook_is_asked_for_each_remote_and_each_connection(
    autojump: trio.testing.MockClock,
) -> None:
    asked: list[tuple[str, str, str]] = []

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        await trio.sleep(1)
        asked.append((user, peer, remote))
        return None

    settings = ServerSettings(auth=("alice", "secret"), reverse=True)
    async with tunnel_pair(
        settings, auth=("alice", "secret"), remotes=["1:DB:1", "R:7000:web:80"], authorise=authorise
    ) as (server, client):
        server.handle("db", 1, swallow)
        await client.open_tcp_stream("DB", 1)
        await client.listen_tcp(7001)
    wanted = ["db:1", "R:0.0.0.0:7000", "db:1", "R:0.0.0.0:7001"]
    assert asked == [("alice", "memory", remote) for remote in wanted]


@pytest.mark.parametrize("by", ["return", "raise"])
async def test_a_denial_and_its_reason_reach_the_peer_and_the_log(
    autojump: trio.testing.MockClock, by: str
) -> None:
    async def authorise(user: str, peer: str, remote: str) -> str | None:
        if not remote.endswith(":13"):
            return None
        if by == "raise":
            raise Refused("not on a Friday")
        return "not on a Friday"

    async with watch_logs() as log, tunnel_pair(authorise=authorise) as (server, client):
        server.handle("db", 13, swallow)
        with pytest.raises(Refused, match="not on a Friday"):
            await client.open_tcp_stream("db", 13)
        with pytest.raises(Refused, match="not on a Friday"):
            await client.listen_tcp(13)
        await client.listen_tcp(14)
        assert log.find("target=db:13: refused: not on a Friday", "server")
    with pytest.raises(Refused, match="not on a Friday"):
        async with tunnel_pair(authorise=authorise, remotes=["1:db:13"]):
            raise AssertionError("it was let in")


async def test_a_hook_that_fails_denies_and_is_logged(autojump: trio.testing.MockClock) -> None:
    async def authorise(user: str, peer: str, remote: str) -> str | None:
        raise ZeroDivisionError

    async with watch_logs() as log, tunnel_pair(authorise=authorise) as (server, client):
        server.handle("db", 1, swallow)
        with pytest.raises(Refused, match="access to 'db:1' denied"):
            await client.open_tcp_stream("db", 1)
        assert log.find("authorise failed for db:1: denied", "server")


async def test_a_hook_that_hangs_denies_after_the_time_of_a_dial(
    autojump: trio.testing.MockClock,
) -> None:
    ended = []

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(remote)

    settings = ServerSettings(timings=Timings(dial_timeout=7))
    async with tunnel_pair(settings, authorise=authorise) as (_, client):
        began = trio.current_time()
        with pytest.raises(Refused, match="access to 'db:1' denied"):
            await client.open_tcp_stream("db", 1)
        assert trio.current_time() - began == pytest.approx(7)
        assert ended == ["db:1"]


async def test_a_hook_is_cancelled_with_its_session(autojump: trio.testing.MockClock) -> None:
    ended = []

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(remote)

    async with tunnel_pair(authorise=authorise) as (server, client):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(CotunError):
                    await client.open_tcp_stream("db", 1)

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            server.cut()
        assert ended == ["db:1"]
        assert trio.current_time() == began


async def test_a_hook_that_hangs_does_not_outlive_the_handshake(
    autojump: trio.testing.MockClock,
) -> None:
    async def authorise(user: str, peer: str, remote: str) -> str | None:
        await trio.sleep_forever()
        return None

    settings = ServerSettings(timings=Timings(dial_timeout=100, ssh_timeout=9))
    async with watch_logs() as log:
        with trio.move_on_after(10):
            async with tunnel_pair(settings, authorise=authorise, remotes=["1:db:1"]):
                raise AssertionError("it was let in")
        assert log.find("closed before it was open: the login took too long", "server")


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"host": "192.0.2.1"}, "cannot listen"), ({"authfile": "/nowhere"}, "nowhere")],
)
async def test_what_makes_no_sense_is_raised_before_the_block(
    settings: dict[str, str], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        async with open_server(ServerSettings(port=0, **settings)):
            raise AssertionError("it began")


async def test_both_ends_have_figures_of_all_that_passes() -> None:
    settings = ServerSettings(host=LOOPBACK, port=0)
    async with (
        listening(echo) as target,
        open_server(settings) as server,
        open_client(f"ws://{server.addresses[0]}") as client,
    ):
        host, port = split_address(target)
        async with await client.open_tcp_stream(host, port) as stream:
            assert await echoes(stream)
            ours, theirs = client.stats(), server.stats()
            assert ours.sessions == theirs.sessions == 1
            assert ours.channels == theirs.channels == 1
            assert ours.bytes_out >= theirs.bytes_in > 0  # some may be on the way
