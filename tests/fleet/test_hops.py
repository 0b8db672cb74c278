"""A hop from one node to another: real servers and links, and a table of routes by hand."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.client.client import Client
from cotun_trio.errors import GaveUp
from cotun_trio.fleet.credentials import FleetKey, is_node
from cotun_trio.fleet.ingress import SETTLING, Ingress, LocalOwner
from cotun_trio.fleet.passed_visitors import PassedVisitors
from cotun_trio.fleet.peer_links import PeerLinks
from cotun_trio.fleet.records import NodeFacts, Route
from cotun_trio.logs import get_logger
from cotun_trio.net.dial import open_listeners
from cotun_trio.server.server import Server
from cotun_trio.server.shared import SharedState
from cotun_trio.settings import Timings
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    background,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    receive_exactly,
    refused_address,
    split_address,
    turned_away,
)
from tests.support.tunnel import client_settings, running_client, server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from tests.support.tunnel import WatchedClient

KEY = FleetKey(b"0123456789abcdef0123456789abcdef")


@attrs.define
class Table:
    """Routes by hand; see `cotun_trio.fleet.ingress.Owners`."""

    routes: list[tuple[NodeFacts, Route]] = attrs.field(factory=list)
    avoided: list[str] = attrs.field(factory=list)

    def choose(
        self, place: str, tried: Collection[tuple[str, int]]
    ) -> tuple[NodeFacts, Route] | None:
        """See `Owners`."""
        for node, route in self.routes:
            if route.place == place and (node.id, route.session) not in tried:
                return node, route
        return None

    def avoid(self, node: str) -> None:
        """See `Owners`."""
        self.avoided.append(node)


@contextlib.asynccontextmanager
async def node(key: FleetKey = KEY) -> AsyncIterator[Server]:
    """Run a server that takes visitors from peers."""
    settings = server_settings(reverse=True)
    visitors = PassedVisitors(key)
    shared = attrs.evolve(SharedState.alone(settings), peers=visitors)
    server = Server(settings, shared=shared)
    visitors.serve(server)
    async with background() as nursery:
        await nursery.start(server.run)
        yield server


def facts(server: Server, name: str = "owner", fingerprint: str | None = None) -> NodeFacts:
    """Describe a server as a node."""
    return NodeFacts(
        id=name,
        address=f"http://{server.addresses[0]}",
        fingerprint=fingerprint or server.fingerprint,
        version="1",
    )


OTHER = "127.0.0.2"
"""The interface of the node that has no client: its places are those of the owner."""


async def elsewhere(_host: str, port: int) -> list[socket.socket]:
    """Listen on the other node's interface."""
    return await open_listeners(OTHER, port)


@contextlib.asynccontextmanager
async def entry(
    table: Table,
    key: FleetKey = KEY,
    local: Callable[[str], LocalOwner | None] = lambda _place: None,
) -> AsyncIterator[tuple[Ingress, PeerLinks]]:
    """Run the ingress of a node that has no client."""
    log = get_logger("server")
    links = PeerLinks("entry", key, Timings())
    ingress = Ingress(table, links, log, elsewhere, local)
    async with background() as nursery:
        nursery.start_soon(links.run)
        nursery.start_soon(ingress.run)
        await trio.testing.wait_all_tasks_blocked()
        yield ingress, links


@attrs.frozen
class Fleet:
    """A node that has a client, and one that has none."""

    owner: Server
    client: WatchedClient
    table: Table
    ingress: Ingress
    links: PeerLinks
    port: int

    @property
    def visited(self) -> str:
        """Where visitors come, at the node without a client."""
        return f"{OTHER}:{self.port}"


@contextlib.asynccontextmanager
async def fleet(
    *,
    target: str,
    remote: str = "R:{host}:{port}:{target}",
    local: Callable[[str], LocalOwner | None] = lambda _place: None,
    **client: Any,
) -> AsyncIterator[Fleet]:
    """Run both, with a client whose reverse remote leads to `target`."""
    port, table = free_port(), Table()
    words = remote.format(host=LOOPBACK, port=port, target=target)
    async with (
        node() as owner,
        running_client(owner.addresses[0], words, **client) as running,
        entry(table, local=local) as (ingress, links),
    ):
        await running.opened()
        place = f"tcp/{LOOPBACK}:{port}"
        table.routes.append((facts(owner), Route(place, 1, "", "", 1)))
        assert await ingress.listen(place)
        yield Fleet(owner, running, table, ingress, links, port)


async def test_a_visitor_at_another_node_reaches_the_client_by_one_hop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "cotun")
    async with nothing_left(), listening(echo) as target, fleet(target=target) as both:
        async with await connect(both.visited) as stream:
            assert await echoes(stream)
        async with await connect(both.visited) as first, await connect(both.visited) as second:
            assert await echoes(first)
            assert await echoes(second)
        assert len(both.links) == 1  # for all of them
        # What a link does is for those who look for it.
        assert "Connected (Latency" in caplog.text
        assert {r.levelname for r in caplog.records if "node=owner" in r.getMessage()} == {"DEBUG"}


async def test_each_direction_ends_by_itself() -> None:
    async def answer_at_the_end(stream: trio.SocketStream) -> None:
        data = bytearray()
        async for piece in stream:
            data += piece
        await stream.send_all(bytes(reversed(data)))

    async with (
        listening(answer_at_the_end) as target,
        fleet(target=target) as both,
        await connect(both.visited) as stream,
    ):
        await stream.send_all(b"abc")
        await stream.send_eof()
        assert await receive_exactly(stream, 3) == b"cba"
        assert await stream.receive_some() == b""


async def test_a_reset_of_the_target_reaches_the_visitor() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with (
        listening(reset) as target,
        fleet(target=target) as both,
        await connect(both.visited) as stream,
    ):
        await stream.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_socks_listener_is_reached_through_another_node_too() -> None:
    async with (
        listening(echo) as target,
        fleet(target="socks", remote="R:{host}:{port}:{target}") as both,
    ):
        host, port = split_address(target)
        async with await connect(both.visited) as stream:
            await stream.send_all(bytes((5, 1, 0)))
            assert await receive_exactly(stream, 2) == bytes((5, 0))
            address = socket.inet_aton(host) + port.to_bytes(2, "big")
            await stream.send_all(bytes((5, 1, 0, 1)) + address)
            assert (await receive_exactly(stream, 10))[1] == 0
            assert await echoes(stream)


async def test_a_refused_hop_tries_one_other_owner() -> None:
    async with listening(echo) as target, fleet(target=target) as both:
        node, route = both.table.routes[0]
        both.table.routes.insert(
            0, (attrs.evolve(node, id="stale"), attrs.evolve(route, session=99))
        )
        async with await connect(both.visited) as stream:
            assert await echoes(stream)
        assert both.table.avoided == []  # it was reached, and knew better


async def test_a_node_that_cannot_be_reached_is_avoided() -> None:
    async with listening(echo) as target, fleet(target=target) as both:
        node, route = both.table.routes[0]
        gone = attrs.evolve(node, id="gone", address=f"http://{refused_address()}")
        both.table.routes.insert(0, (gone, route))
        async with await connect(both.visited) as stream:
            assert await echoes(stream)
        assert both.table.avoided == ["gone"]


async def test_a_visitor_does_not_wait_where_the_client_cannot_reach_its_target(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with fleet(target=refused_address()) as both:
        before = trio.current_time()
        assert await turned_away(both.visited)
        assert trio.current_time() < before + SETTLING


async def test_a_visitor_waits_for_a_client_that_moves() -> None:
    async with listening(echo) as target, fleet(target=target) as both, watch_logs() as log:
        right = both.table.routes[0]
        stale = attrs.evolve(right[1], session=99)
        both.table.routes[:] = [(right[0], stale)]
        async with await connect(both.visited) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"are you there?")
            await log.wait_for("refuses: this node has no such route any more", "server")
            # It has come back to the same node, by another session.
            both.table.routes[:] = [right]
            assert await receive_exactly(stream, 14) == b"are you there?"


async def test_a_visitor_is_told_at_once_that_the_session_has_ended_which_it_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def does_not_answer(_target: bytes) -> None:
        await trio.sleep_forever()

    async with listening(echo) as target, fleet(target=target) as both, watch_logs() as log:
        [session] = both.owner.sessions
        monkeypatch.setattr(session.connection, "open_channel", does_not_answer)
        async with await connect(both.visited):
            while session.flows.idle:
                await trio.lowlevel.checkpoint()
            session.kick("moved")
            await log.wait_for("refuses: this node has no such route any more", "server")


async def test_a_visitor_waits_for_a_client_that_moves_to_this_node() -> None:
    here: list[LocalOwner] = []
    async with (
        listening(echo) as target,
        fleet(target=target, local=lambda _place: here[0] if here else None) as both,
    ):
        both.table.routes.clear()
        async with await connect(both.visited) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"are you there?")
            await trio.testing.wait_all_tasks_blocked()
            [session] = both.owner.sessions
            [listener] = both.owner.listeners.held_by(session)
            here.append(LocalOwner(session, listener.remote))
            assert await receive_exactly(stream, 14) == b"are you there?"
        assert not len(both.links)


async def test_visitors_that_wait_are_handed_over_with_the_sockets() -> None:
    async with listening(echo) as target, fleet(target=target) as both:
        place = both.table.routes[0][1].place
        with socket.create_connection(split_address(both.visited)) as visitor:
            # Nobody else has had a turn since: it waits in the listening socket.
            sockets = both.ingress.give(place)
            assert place not in both.ingress.places
            both.ingress.adopt(place, sockets)
            visitor.setblocking(False)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(visitor)) as stream:
                assert await echoes(stream)


async def test_a_visitor_is_reset_where_nobody_is_left(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with listening(echo) as target, fleet(target=target) as both:
        both.table.routes.clear()
        assert await turned_away(both.visited)


@pytest.mark.parametrize("wrong", ["key", "fingerprint"])
async def test_a_false_peer_is_not_talked_to(
    wrong: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    # Somebody has written into the directory, or into the way.
    other = FleetKey(b"another-key-of-another-fleet-----")
    async with listening(echo) as target, fleet(target=target) as both, watch_logs() as log:
        node, route = both.table.routes[0]
        key = other if wrong == "key" else KEY
        fingerprint = None if wrong == "key" else "1" * 42 + "0="
        table = Table([(facts(both.owner, fingerprint=fingerprint), route)])
        del node
        async with entry(table, key) as (ingress, _links):
            both.ingress.leave(route.place)
            assert await ingress.listen(route.place)
            assert await turned_away(both.visited)
        assert table.avoided == ["owner"]
        assert not log.find("Connected", "client")


async def test_a_peer_may_do_nothing_else() -> None:
    async with listening(echo) as target, node() as owner:
        settings = attrs.evolve(
            client_settings(owner.addresses[0], f"{LOOPBACK}:0:{target}"),
            auth=KEY.credentials("entry", owner.fingerprint),
            max_retry_count=0,
        )
        # Not even a remote is accepted.
        with pytest.raises(GaveUp, match=r"access to .* denied"):
            await Client(settings).run()


async def test_users_of_the_server_are_no_peers_and_peers_need_the_key() -> None:
    assert KEY.verify("fleet:a", "x", "f") is None
    login = KEY.credentials("a", "f")
    assert KEY.verify(login.user, login.password, "f") is not None
    assert KEY.verify(login.user, login.password, "g") is None
    assert KEY.verify("fleet:b", login.password, "f") is None
    assert not is_node("alice")
    assert "0123" not in repr(KEY)


async def test_the_clients_target_hears_of_the_visitor_behind_a_hop() -> None:
    heard: list[bytes] = []

    async def hear(stream: trio.SocketStream) -> None:
        heard.append(await stream.receive_some())
        await stream.send_all(b".")

    remote = "R:{host}:{port}:{target},proxy=v1"
    async with (
        listening(hear) as target,
        fleet(target=target, remote=remote) as both,
        await connect(both.visited) as stream,
    ):
        host, port = stream.socket.getsockname()
        assert await receive_exactly(stream, 1) == b"."
        assert heard == [f"PROXY TCP4 {host} {OTHER} {port} {both.port}\r\n".encode()]


async def test_the_clients_rules_about_visitors_hold_behind_a_hop() -> None:
    remote = "R:{host}:{port}:{target},allow=192.0.2.0/24"
    async with listening(echo) as target, fleet(target=target, remote=remote) as both:
        assert await turned_away(both.visited)
