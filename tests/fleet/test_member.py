"""Servers of a fleet: real ones, each on an interface of its own, with a directory in memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from cotun_trio.access.credentials import Credentials
from cotun_trio.fleet.member import FleetServer
from cotun_trio.settings import FleetSettings
from tests.support.fleet import ModelDirectory
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
    turned_away,
)
from tests.support.tunnel import WatchedClient, client_settings, running_client, server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Operation

pytestmark = pytest.mark.slow


class SharedDirectory:
    """The directory of several nodes in this process; see `Directory`."""

    def __init__(self) -> None:
        self.model = ModelDirectory(per_minute=2)
        self.away = False
        """Whether it does not answer."""
        self._news = trio.lowlevel.ParkingLot()

    async def perform(self, operation: Operation) -> Any:
        """See `Directory`."""
        await self._come_back()
        answer = self.model.perform(operation, trio.current_time())
        self._news.unpark_all()
        return answer

    async def after(self, position: int) -> Sequence[tuple[int, Entry]]:
        """See `Directory`."""
        await self._come_back()
        with trio.move_on_after(1):
            while not (found := self.model.after(position)):
                await self._news.park()
            return found
        return []

    async def _come_back(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            await trio.sleep_forever()


@attrs.frozen
class Fleet:
    """Some nodes, and what they share."""

    nodes: list[FleetServer]
    directory: SharedDirectory
    port: int
    """Of the reverse remote."""
    ended: list[trio.Event] = attrs.field(factory=list)
    """For each node, whether it has ended."""

    def remote(self, target: str) -> str:
        """Return the reverse remote to `target`, with the fleet's port."""
        return f"R:{self.port}:{target}"

    def visited(self, number: int) -> str:
        """Return where visitors come to the node with this number."""
        return f"127.0.0.{number + 1}:{self.port}"

    async def until_reached(self, number: int) -> None:
        """Wait until visitors of a node reach the target, an echo."""
        while True:
            with contextlib.suppress(OSError, trio.BrokenResourceError, AssertionError):
                async with await connect(self.visited(number)) as stream:
                    if await echoes(stream):
                        return
            await trio.lowlevel.checkpoint()

    async def until_gone(self, number: int) -> None:
        """Wait until a node does not listen for visitors any more."""
        with contextlib.suppress(OSError):
            while True:
                await (await connect(self.visited(number))).aclose()


@contextlib.asynccontextmanager
async def fleet(
    tmp_path: Path, count: int = 2, *, fleet: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Fleet]:
    """Run some nodes."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    directory = SharedDirectory()
    ended: list[trio.Event] = []

    async def run(
        server: FleetServer, event: trio.Event, task_status: trio.TaskStatus[None]
    ) -> None:
        await server.run(task_status=task_status)
        event.set()

    async with background() as nursery:
        nodes = []
        for number in range(count):
            host, port = f"127.0.0.{number + 1}", free_port()
            of_fleet = FleetSettings(
                directory="redis://unused",
                key=str(key),
                address=f"http://{host}:{port}",
                **(fleet or {}),
            )
            mine = {"host": host, "port": port, "reverse": True, "reverse_host": host}
            server = FleetServer(
                server_settings(**{**mine, "fleet": of_fleet, **settings}),
                directory=lambda: contextlib.nullcontext(directory),
            )
            ended.append(trio.Event())
            await nursery.start(run, server, ended[-1])
            nodes.append(server)
        yield Fleet(nodes, directory, free_port(), ended)


async def test_visitors_reach_a_client_through_any_node(tmp_path: Path) -> None:
    async with (
        nothing_left(),
        listening(echo) as target,
        fleet(tmp_path, 3) as nodes,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client,
    ):
        await client.opened()
        for number in range(3):
            await nodes.until_reached(number)


async def test_a_place_has_one_owner_in_the_fleet(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        watch_logs() as log,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as first,
    ):
        await first.opened()
        await nodes.until_reached(1)
        async with running_client(nodes.nodes[1].addresses[0], nodes.remote("a:1")):
            await log.wait_for(r"refused: .*tcp/0\.0\.0\.0:\d+: another client has it", "client")
            # And who is refused has taken nothing from the visitors of that node.
            async with await connect(nodes.visited(1)) as stream:
                assert await echoes(stream)


async def test_a_client_that_leaves_frees_its_place_at_all_nodes(tmp_path: Path) -> None:
    async with listening(echo) as target, fleet(tmp_path) as nodes:
        async with running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client:
            await client.opened()
            await nodes.until_reached(1)
        async with running_client(nodes.nodes[1].addresses[0], nodes.remote(target)) as client:
            await client.opened()
            await nodes.until_reached(0)


async def test_only_the_owner_listens_where_that_is_wished(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path, fleet={"ingress": "owner"}) as nodes,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client,
    ):
        await client.opened()
        await nodes.until_reached(0)
        with pytest.raises(OSError, match="failed"):
            await connect(nodes.visited(1))


async def test_a_draining_node_is_left_without_a_gap(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path, 3) as nodes,
        watch_logs() as log,
        running_client(
            nodes.nodes[0].addresses[0],
            nodes.remote(target),
            alternatives=(),
        ) as client,
    ):
        await client.opened()
        await nodes.until_reached(2)
        async with await connect(nodes.visited(2)) as stream:
            nodes.nodes[0].shut_down()
            await log.wait_for("Disconnected: the server is shutting down", "client")
            # Its only server drains: it stays for as long as it is given time.
            assert await echoes(stream)
            async with await connect(nodes.visited(2)) as another:
                assert await echoes(another)


async def test_what_is_known_goes_on_without_the_directory(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client,
    ):
        await client.opened()
        await nodes.until_reached(1)
        nodes.directory.away = True
        async with await connect(nodes.visited(1)) as stream:
            assert await echoes(stream)


async def test_a_bar_holds_at_all_nodes(tmp_path: Path) -> None:
    async with (
        fleet(tmp_path, auth="alice:secret", max_auth_failures=2) as nodes,
        watch_logs() as log,
    ):
        first, second = (node.addresses[0] for node in nodes.nodes)
        wrong, right = Credentials("alice", "wrong"), Credentials("alice", "secret")
        again = {"max_retry_count": 50, "max_retry_interval": 0.01}
        async with running_client(first, f"{LOOPBACK}:0:a:1", auth=wrong, **again):
            await log.wait_for("is barred for", "server")
        while not nodes.nodes[1].barred(LOOPBACK):
            await trio.lowlevel.checkpoint()
        async with running_client(second, f"{LOOPBACK}:0:a:1", auth=right, **again):
            await log.wait_for("HTTP 429", "client", times=1)


async def test_a_user_removed_at_one_node_is_cut_at_all(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text('{"alice:a": [""], "bob:b": [""]}')
    users.chmod(0o600)
    alice = Credentials("alice", "a")
    async with (
        fleet(tmp_path, authfile=str(users)) as nodes,
        watch_logs() as log,
        running_client(nodes.nodes[1].addresses[0], f"{LOOPBACK}:0:a:1", auth=alice) as client,
    ):
        await client.opened()
        # The other node's own file may be read a moment later: the fleet is to say it.
        users.write_text('{"bob:b": [""]}')
        nodes.nodes[0].reload()
        await log.wait_for("Disconnected: .*alice' has been removed", "client")


async def test_what_no_node_has_is_refused(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        assert not await _accepts(nodes.visited(0))


async def _accepts(address: str) -> bool:
    with contextlib.suppress(OSError):
        return not await turned_away(address)
    return False


async def test_a_draining_node_lets_the_visitors_end_that_it_passes_on(tmp_path: Path) -> None:
    async with (
        nothing_left(),
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client,
    ):
        await client.opened()
        await nodes.until_reached(1)
        async with await connect(nodes.visited(1)) as stream:
            assert await echoes(stream)
            nodes.nodes[1].shut_down()
            await nodes.until_gone(1)
            assert await echoes(stream)
        await nodes.ended[1].wait()


async def test_a_bar_is_shown_and_lifted_at_any_node(tmp_path: Path) -> None:
    async with (
        fleet(tmp_path, auth="alice:secret", max_auth_failures=2) as nodes,
        watch_logs() as log,
    ):
        first, second = nodes.nodes
        wrong = Credentials("alice", "wrong")
        again = {"max_retry_count": 50, "max_retry_interval": 0.01}
        async with running_client(first.addresses[0], f"{LOOPBACK}:0:a:1", auth=wrong, **again):
            await log.wait_for("is barred for", "server")
        while not second.barred(LOOPBACK):
            await trio.lowlevel.checkpoint()
        shown = second.shown
        assert shown is not None
        assert [bar.source for bar in await shown.bars()] == [LOOPBACK]
        assert await shown.lift(LOOPBACK)
        assert not second.barred(LOOPBACK)
        while first.barred(LOOPBACK):
            await trio.lowlevel.checkpoint()
        assert not await shown.lift(LOOPBACK)


async def test_a_client_that_moves_leaves_no_gap_where_it_was_and_where_it_comes(
    tmp_path: Path,
) -> None:
    moved: list[bool] = []

    async def visit(address: str) -> None:
        while not moved:
            async with await connect(address) as stream:  # which is never refused
                # The earlier session ends with what it carries.
                with contextlib.suppress(EOFError, trio.BrokenResourceError):
                    assert await echoes(stream)

    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        watch_logs() as log,
        running_client(nodes.nodes[0].addresses[0], nodes.remote(target)) as client,
    ):
        await client.opened()
        await nodes.until_reached(1)
        # Its next session, at the other node; the one here has not ended.
        again = WatchedClient(client_settings(nodes.nodes[1].addresses[0], nodes.remote(target)))
        again.identity = client.identity
        async with background() as nursery, trio.open_nursery() as visitors:
            for _ in range(3):
                visitors.start_soon(visit, nodes.visited(0))
                visitors.start_soon(visit, nodes.visited(1))
            nursery.start_soon(again.run)
            await again.opened()
            await log.wait_for("is lost to another session", "server")
            await log.wait_for("Listening on .* for a client at another node", "server", times=2)
            await nodes.until_reached(0)
            moved.append(True)
