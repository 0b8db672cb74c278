"""Nodes of a fleet with their shell, and servers that only note what they are told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.fleet.node import Node
from cotun_trio.logs import get_logger
from tests.support.fleet import node_facts
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from cotun_trio.fleet.directory import Directory
    from cotun_trio.fleet.records import NodeFacts


@attrs.define
class NotingHost:
    """A server; see `cotun_trio.fleet.node.NodeHost`."""

    yielded: list[tuple[str, int]] = attrs.field(factory=list)
    cut: list[str] = attrs.field(factory=list)
    changed: set[str] = attrs.field(factory=set)
    """Places that other nodes have come to own, or do not any more."""
    silent: set[int] = attrs.field(factory=set)
    """The sessions whose clients do not answer."""

    def yield_place(self, place: str, session: int, reason: str) -> None:
        """See `NodeHost`."""
        assert reason
        self.yielded.append((place, session))

    async def is_alive(self, session: int) -> bool:
        """See `NodeHost`."""
        await trio.sleep(0.5 if session in self.silent else 0.01)
        return session not in self.silent

    def cut_user(self, user: str) -> None:
        """See `NodeHost`."""
        self.cut.append(user)

    def places_changed(self, places: Collection[str]) -> None:
        """See `NodeHost`."""
        self.changed.update(places)


@attrs.frozen
class RunningNode:
    """A node at work, and its server."""

    node: Node
    host: NotingHost
    scope: trio.CancelScope
    """Cancel it to end the node without a word."""

    @property
    def others(self) -> list[NodeFacts]:
        """The other nodes that it knows."""
        return [known.facts for known in self.node.rules.view.table.nodes.values()]


@contextlib.asynccontextmanager
async def running_node(
    directory: Directory,
    name: str,
    *,
    local: bool = False,
    max_auth_failures: int = 0,
    users: str = "",
) -> AsyncIterator[RunningNode]:
    """Run a node to the end of the block."""
    host = NotingHost()
    log = get_logger("server").within(node=name)
    node = Node(
        node_facts(name, users=users),
        directory,
        host,
        log,
        local=local,
        max_auth_failures=max_auth_failures,
    )
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await node.run()

    async with background() as nursery:
        nursery.start_soon(run)
        yield RunningNode(node, host, scope)


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)
