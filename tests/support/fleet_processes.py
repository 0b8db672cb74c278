"""A fleet of real processes on this machine: Redis, nodes, HAProxy, and visitors.

Node 0 is on 127.0.0.1, node 1 on 127.0.0.2, and so on: all have the same port of a reverse remote.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs
import trio

from scripts.fleet_demo import BALANCER, haproxy_config
from tests.support.programs import ours, running
from tests.support.redis import Redis
from tests.support.targets import (
    LOOPBACK,
    background,
    connect,
    echoes,
    free_port,
    receive_exactly,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.programs import Program

LEASE = 10.0
"""Seconds of a node's lease."""
PATIENCE = 45.0
"""Seconds for something that takes a lease at the most, on a busy machine."""


@attrs.define
class NodeProcess:
    """A node, and where it is."""

    host: str
    port: int
    users: Path | None = None
    program: Program = attrs.field(init=False)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{self.host}:{self.port}"


@attrs.define
class FleetProcesses:
    """The nodes, and what they share."""

    redis: Redis
    directory: Program
    nodes: list[NodeProcess]
    health_port: int
    """Of each node."""
    port: int = attrs.field(factory=free_port)
    """Of the reverse remote."""

    def remote(self, target: str) -> str:
        """Return the reverse remote to `target`, with the fleet's port."""
        return f"R:{self.port}:{target}"

    def visited(self, number: int) -> str:
        """Return where visitors come to the node with this number."""
        return f"{self.nodes[number].host}:{self.port}"

    def servers(self, first: int = 0) -> list[str]:
        """Return the options of a client that knows all nodes, with one of them as the first."""
        others = [node.url for node in self.nodes if node is not self.nodes[first]]
        options = [word for url in others for word in ("--server", url)]
        return ["--max-retry-interval", "500ms", "--min-retry-interval", "0s", *options]

    async def until_reached(self, *numbers: int) -> float:
        """Wait until visitors of these nodes reach the target, an echo; return the seconds."""
        return await until_reached(*map(self.visited, numbers))


async def reaches(address: str) -> bool:
    """Return whether a visitor of `address` reaches an echo."""
    with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError), trio.move_on_after(3):
        async with await connect(address) as stream:
            return await echoes(stream)
    return False


async def until_reached(*addresses: str) -> float:
    """Wait until visitors of all `addresses` reach an echo; return the seconds that it took."""
    began = trio.current_time()
    with trio.fail_after(PATIENCE):
        for address in addresses:
            while not await reaches(address):
                await trio.sleep(0.02)
    return trio.current_time() - began


@contextlib.asynccontextmanager
async def fleet(
    tmp_path: Path, count: int = 3, *options: str, users: str | None = None
) -> AsyncIterator[FleetProcesses]:
    """Run Redis and some nodes with these `options`, each with a users file of its own."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    redis = Redis(tmp_path)
    async with redis.running() as directory, contextlib.AsyncExitStack() as stack:
        port, health_port, nodes = free_port(), free_port(), []
        for number in range(count):
            node = NodeProcess(f"127.0.0.{number + 1}", port)
            words = ["--health-listen", f"{node.host}:{health_port}", *options]
            if users is not None:
                node.users = tmp_path / f"users{number}.json"
                node.users.write_text(users)
                node.users.chmod(0o600)
                words += ["--authfile", str(node.users)]
            node.program = await stack.enter_async_context(
                _node(node, f"redis://{LOOPBACK}:{redis.port}", key, *words)
            )
            nodes.append(node)
        for node in nodes:
            await node.program.wait_for("Listening on")
        yield FleetProcesses(redis, directory, nodes, health_port)


def _node(
    node: NodeProcess, directory: str, key: Path, *options: str
) -> contextlib.AbstractAsyncContextManager[Program]:
    return ours(
        *("server", "--host", node.host, "--port", str(node.port), "--reverse"),
        *("--reverse-host", node.host, "--fleet", directory, "--fleet-key", str(key)),
        *("--fleet-address", node.url, *options),
    )


@attrs.frozen
class Balancer:
    """HAProxy in front of a fleet."""

    program: Program
    url: str
    """For clients."""
    visited: str
    """Where visitors come."""


@contextlib.asynccontextmanager
async def balancer(nodes: FleetProcesses, tmp_path: Path) -> AsyncIterator[Balancer]:
    """Run HAProxy by the configuration in ``scripts/fleet``."""
    port = free_port()
    config = haproxy_config(
        clients=port,
        visitors=str(nodes.port),
        node=nodes.nodes[0].port,
        health=nodes.health_port,
    )
    path = tmp_path / "haproxy.cfg"
    path.write_text(config)
    async with running("haproxy", "-db", "-f", str(path)) as program:
        with trio.fail_after(PATIENCE):
            while not await _accepts(f"{LOOPBACK}:{port}"):
                assert not program.has_ended, program.lines
                await trio.sleep(0.02)
        yield Balancer(program, f"http://{LOOPBACK}:{port}", f"{BALANCER}:{nodes.port}")


async def _accepts(address: str) -> bool:
    with contextlib.suppress(OSError):
        await (await connect(address)).aclose()
        return True
    return False


# ---- visitors without an end


@attrs.define
class Visitors:
    """How visitors of some addresses fare, one after the other at each."""

    served: int = 0
    failures: list[str] = attrs.field(factory=list)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def come(self, address: str) -> None:
        """Come to `address` again and again."""
        while True:
            await self._visit(address)
            self._news.unpark_all()
            await trio.sleep(0.01)

    async def _visit(self, address: str) -> None:
        try:
            with trio.fail_after(5):
                async with await connect(address) as stream:
                    await stream.send_all(b"are you there?")
                    await receive_exactly(stream, 14)
            self.served += 1
        except (OSError, EOFError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self.failures.append(f"{address} after {self.served} good ones: {error!r}")

    async def more(self, count: int) -> None:
        """Wait until so many more have been served."""
        wanted = self.served + count
        with trio.fail_after(PATIENCE):
            while self.served < wanted:
                await self._news.park()


@contextlib.asynccontextmanager
async def visitors(*addresses: str) -> AsyncIterator[Visitors]:
    """Have visitors come to all `addresses` during the block."""
    found = Visitors()
    async with background() as nursery:
        for address in addresses:
            nursery.start_soon(found.come, address)
        yield found
