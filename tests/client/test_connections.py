"""A client with connections to several servers: one is lost, and the others carry on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.api.events import Connected, Lost
from cotun_trio.client.backoff import FIRST_INTERVAL
from cotun_trio.errors import AuthenticationFailed, GaveUp, NotNow
from cotun_trio.server.session import ServerSession
from tests.support.log_watch import watch_logs
from tests.support.several_servers import client_of, connected, several_servers
from tests.support.targets import echoes

if TYPE_CHECKING:
    from tests.support.several_servers import MemoryNode

NOBODY_ELSE = "^2 connections wanted, but there is only 1 server: going on with 1$"


async def echo(stream: trio.abc.Stream) -> None:
    async for data in stream:
        await stream.send_all(data)


def name(text: str):
    """Return a target that says its name."""

    async def say(stream: trio.abc.HalfCloseableStream) -> None:
        await stream.send_all(text.encode())
        await stream.send_eof()

    return say


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([data async for data in stream])


def sessions(nodes: list[MemoryNode]) -> list[int]:
    """Return how many sessions each server has."""
    return [len(node.sessions()) for node in nodes]


# ---- where they lead


async def test_each_connection_leads_to_a_server_of_its_own(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client() as client:
        await connected(client, 2)
        assert sessions(it.nodes) == [1, 1]
        assert sorted(it.ways.dials) == ["a", "b"]


async def test_behind_a_balancer_they_lead_to_different_servers(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("balancer", count=3) as it, it.client(connections=3) as client:
        await connected(client, 3)
        assert sessions(it.nodes) == [1, 1, 1]


async def test_of_a_name_with_several_addresses_each_has_its_own(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("name") as it:
        it.ways.addresses["name"] = ["192.0.2.1", "192.0.2.2"]
        async with it.client() as client:
            await connected(client, 2)
            assert sessions(it.nodes) == [1, 1]
            assert len(it.ways.dials) == 2


@pytest.mark.slow
async def test_with_fewer_servers_it_says_so_once_and_goes_on_looking(
    autojump: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        several_servers("balancer") as it,
    ):
        second = it.ways.behind["balancer"].pop()
        async with it.client("R:4000:db:1") as client:
            await connected(client, 1)
            (first,) = client_of(client).open_sessions
            await log.wait_for(NOBODY_ELSE, "client", timeout=300)
            await trio.sleep(3600)
            assert len(log.find(NOBODY_ELSE, "client")) == 1
            assert len(it.ways.dials) < 60
            # Nothing was taken over from the first one, and nobody else was told.
            assert tuple(client_of(client).open_sessions) == (first,)
            assert not log.find("replaced|Retrying|Disconnected|Connection error", "client")
            assert len([line for line in log.lines("client") if "Fingerprint" in line]) == 1
            it.ways.behind["balancer"].append(second)
            await connected(client, 2)
            assert sessions(it.nodes) == [1, 1]


async def test_a_server_without_an_identity_is_the_only_one_at_its_address(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotun_trio.server.session.MARK", "")  # it passes for one of Go
    async with watch_logs() as log, several_servers("a", count=1) as it, it.client() as client:
        await connected(client, 1)
        await log.wait_for(NOBODY_ELSE, "client", timeout=300)
        assert sessions(it.nodes) == [1]
        assert len(log.find("Fingerprint", "client")) == 1  # the others did not get that far


async def test_servers_without_an_identity_are_told_apart_by_their_urls(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotun_trio.server.session.MARK", "")
    async with several_servers("a", "b") as it, it.client() as client:
        await connected(client, 2)
        assert sessions(it.nodes) == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
async def test_two_urls_of_one_server_have_one_session(
    old: bool, autojump: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, several_servers("a", count=1) as it:
        (server,) = it.nodes
        if old:  # it tells no identity
            server.core.node = ""
        it.ways.behind["b"] = it.ways.behind["a"]
        async with it.client("R:4000:db:1") as client:
            client.handle("db", 1, echo)
            await log.wait_for(NOBODY_ELSE, "client", timeout=300)
            stream = await server.connect("127.0.0.1:4000")
            await trio.sleep(300)
            assert await echoes(stream)
            assert sessions(it.nodes) == [1]
            assert len([line for line in log.lines("client") if "Fingerprint" in line]) <= 3
            # At the very beginning, neither of the two knows of the other.
            assert len(log.find("replaced", "server")) <= old


# ---- one is lost


async def test_a_lost_server_costs_its_own_streams_and_nothing_else(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it:
        for node in it.nodes:
            node.handle("db", 1, echo)
        async with it.client("4000:db:1") as client:
            await connected(client, 2)
            streams = [await client.connect("127.0.0.1:4000") for _ in range(4)]
            assert [node.stats().channels for node in it.nodes] == [2, 2]
            with it.nodes[0].lost():
                cut = []
                for stream in streams:
                    try:
                        assert await echoes(stream)
                    except trio.BrokenResourceError:
                        cut.append(stream)
                assert len(cut) == 2
                before = trio.current_time()
                for _ in range(20):
                    assert await echoes(await client.connect("127.0.0.1:4000"))
                assert trio.current_time() == before
                assert client.connected
            await connected(client, 2)


async def test_the_limit_on_connections_is_for_all_sessions_together(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client("4000:db:1", max_connections=3) as client:
        for node in it.nodes:
            node.handle("db", 1, echo)
        await connected(client, 2)
        streams = [await client.connect("127.0.0.1:4000") for _ in range(3)]
        assert all(session.flows.quota.used_up for session in client_of(client).open_sessions)
        await streams.pop().aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not any(s.flows.quota.used_up for s in client_of(client).open_sessions)


@pytest.mark.slow
async def test_a_server_that_is_back_is_there_at_once_when_the_other_one_is_lost(
    autojump: trio.testing.MockClock,
) -> None:
    async with (
        several_servers("a", "b") as it,
        it.client(max_retry_interval=1e5, keepalive=0.0) as client,
    ):
        await connected(client, 2)
        with it.nodes[1].lost():
            await trio.sleep(1e5)  # by now, the next attempt there is hours away
        with it.nodes[0].lost():
            await connected(client, 0)
            with trio.fail_after(FIRST_INTERVAL + 1):
                await connected(client, 1)


async def test_reverse_remotes_are_at_all_servers(autojump: trio.testing.MockClock) -> None:
    async with several_servers("a", "b") as it, it.client("R:4000:db:1") as client:
        client.handle("db", 1, echo)
        await connected(client, 2)
        for node in it.nodes:
            assert await echoes(await node.connect("127.0.0.1:4000"))
        with it.nodes[0].lost():
            assert await echoes(await it.nodes[1].connect("127.0.0.1:4000"))
        await connected(client, 2)
        assert await echoes(await it.nodes[0].connect("127.0.0.1:4000"))


async def test_behind_a_balancer_the_lost_one_is_found_again(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("balancer") as it, it.client("R:4000:db:1") as client:
        client.handle("db", 1, echo)
        await connected(client, 2)
        with it.nodes[0].lost():
            await trio.sleep(50)
            assert await echoes(await it.nodes[1].connect("127.0.0.1:4000"))
        await connected(client, 2)
        assert sessions(it.nodes) == [1, 1]
        assert await echoes(await it.nodes[0].connect("127.0.0.1:4000"))


async def test_a_server_that_ends_is_left_while_another_carries_on(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it:
        for node in it.nodes:
            node.handle("db", 1, echo)
        async with it.client("4000:db:1") as client:
            await connected(client, 2)
            streams = [await client.connect("127.0.0.1:4000") for _ in range(2)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.nodes[0].drain)
                await connected(client, 1)
                for stream in streams:  # they have their time, on either server
                    assert await echoes(stream)
                    assert await echoes(await client.connect("127.0.0.1:4000"))
                    await stream.aclose()


async def test_only_the_last_one_is_an_event_when_it_is_lost(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client() as client:
        await connected(client, 2)
        events = client.events()
        assert isinstance(await anext(events), Connected)
        with it.nodes[0].lost():
            await trio.sleep(1)
            assert client.connected
            with it.nodes[1].lost():
                assert isinstance(await anext(events), Lost)
                assert not client.connected
            while isinstance(await anext(events), Lost):  # it may have tried in vain
                pass
            assert client.connected


async def test_without_any_session_a_single_connection_asks_a_balancer(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("balancer") as it, it.client(connections=2) as client:
        await connected(client, 2)
        with it.nodes[0].lost(), it.nodes[1].lost():
            await connected(client, 0)
            before = len(it.ways.dials)
            await trio.sleep(120)
            # One every 7.5 s or so, as of a client with one connection, and the first of the other.
            assert len(it.ways.dials) - before < 40
        await connected(client, 2)


# ---- failures that end a client


async def test_a_wrong_password_is_tried_once(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    verify = ServerSession.verify_login

    async def watched(session: ServerSession, user: str, password: str) -> bool:
        tried.append(user)
        return await verify(session, user, password)

    monkeypatch.setattr(ServerSession, "verify_login", watched)
    auth = Credentials("alice", "right")
    async with several_servers("balancer", settings=({"auth": auth},)) as it:
        client = it.embedded(connections=9, auth=Credentials("alice", "wrong")).client
        with pytest.raises(AuthenticationFailed):
            await client.run()
    assert tried == ["alice"]


async def test_what_one_server_refuses_does_not_matter_while_there_is_another(
    autojump: trio.testing.MockClock,
) -> None:
    auth = Credentials("alice", "right")
    other = Credentials("alice", "other")
    async with (
        watch_logs() as log,
        several_servers("a", "b", settings=({"auth": auth}, {"auth": other})) as it,
        it.client(auth=auth) as client,
    ):
        await connected(client, 1)
        await log.wait_for("Authentication failed", "client", times=3, timeout=100)
        assert not [r for r in log.records if r.levelname == "ERROR"]
        assert sessions(it.nodes) == [1, 0]
    async with several_servers("a", "b", settings=({"auth": other},)) as it:
        with pytest.raises(AuthenticationFailed):  # now both do
            await it.embedded(auth=auth).client.run()


@pytest.mark.parametrize("hosts", [("balancer",), ("a", "b")])
async def test_it_gives_up_when_all_connections_have(
    hosts: tuple[str, ...], autojump: trio.testing.MockClock
) -> None:
    async with several_servers(*hosts) as it:
        client = it.embedded(max_retry_count=3).client
        with (
            it.nodes[0].lost(),
            it.nodes[1].lost(),
            pytest.raises(GaveUp, match="gave up after 4 attempts"),
        ):
            await client.run()
        # The one that gave up first went on for the time that the other took.
        assert min(it.ways.dials.count(host) for host in hosts) == 4


@pytest.mark.slow
async def test_it_does_not_give_up_while_there_is_a_session(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client(max_retry_count=2) as client:
        await connected(client, 2)
        with it.nodes[0].lost():
            await trio.sleep(600)
            assert client.connected
        await connected(client, 2)


# ---- remotes that come and go


async def test_a_new_reverse_remote_is_told_to_all_servers(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client() as client:
        client.handle("db", 1, name("hello"))
        await connected(client, 2)
        forward = await client.forward("R:4000:db:1")
        await trio.testing.wait_all_tasks_blocked()
        for node in it.nodes:
            assert await receive_all(await node.connect("127.0.0.1:4000")) == b"hello"
        await forward.aclose()
        for node in it.nodes:
            with pytest.raises(OSError, match="nobody listens"):
                await node.connect("127.0.0.1:4000")


async def test_a_reverse_remote_that_one_server_cannot_have_is_there_all_the_same(
    autojump: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        several_servers("a", "b") as it,
        it.client() as client,
        it.client(connections=1) as holder,  # of the first server
    ):
        await connected(client, 2)
        await connected(holder, 1)
        await holder.forward("R:4000:db:1")
        client.handle("db", 1, name("ours"))
        await client.forward("R:4000:db:1")
        await log.wait_for("R:4000.*: the server refused: .*Address already in use", "client")
        assert await receive_all(await it.nodes[1].connect("127.0.0.1:4000")) == b"ours"
        (remotes,) = [f.values for f in client_of(client).shown.facts if f.name == "Remotes"]
        assert "Address already in use" in remotes[0]  # administrators see it, too


async def test_a_reverse_remote_that_no_server_can_have_is_refused(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client() as client, it.client() as holder:
        await connected(client, 2)
        await connected(holder, 2)
        await holder.forward("R:4000:db:1")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NotNow, match="Address already in use"):
            await client.forward("R:4000:db:1")
        assert client.forwards == ()


async def test_basic_remotes_are_replaced_at_all_servers(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client("R:4000:db:1") as client:
        client.handle("db", 1, name("hello"))
        await connected(client, 2)
        await client_of(client).remotes.replace(it.embedded("R:4001:db:1").client.settings.remotes)
        for node in it.nodes:
            assert await receive_all(await node.connect("127.0.0.1:4001")) == b"hello"


async def test_what_one_server_refuses_of_a_reload_is_taken_back_at_the_others(
    autojump: trio.testing.MockClock,
) -> None:
    async with several_servers("a", "b") as it, it.client("R:4000:db:1") as client:
        client.handle("db", 1, name("hello"))
        await connected(client, 2)
        second = it.ways.behind.pop("a")
        async with it.client(connections=1) as holder:  # of the second server
            it.ways.behind["a"] = second
            await connected(holder, 1)
            await holder.forward("R:4001:db:1")
            others = it.embedded("R:4001:db:1").client.settings.remotes
            with pytest.raises(NotNow):
                await client_of(client).remotes.replace(others)
            await trio.testing.wait_all_tasks_blocked()
            for node in it.nodes:
                assert await receive_all(await node.connect("127.0.0.1:4000")) == b"hello"
            with pytest.raises(OSError, match="nobody listens"):
                await it.nodes[0].connect("127.0.0.1:4001")
