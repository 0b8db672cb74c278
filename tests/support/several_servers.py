"""Several servers in memory, and a client with a connection to each.

The hosts of URLs are places: behind each there is a server, or several in turn, as behind a
balancer.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.api.core import EmbeddedClient
from cotun_trio.api.server import running_server
from cotun_trio.errors import ConnectionLost
from cotun_trio.protocol.remote import Remote
from cotun_trio.server.server import Server
from cotun_trio.settings import ClientSettings, Route, ServerSettings, ServerUrl
from cotun_trio.testing.pair import MemoryClient, MemoryNetwork, MemoryServer
from cotun_trio.testing.places import MemoryPlaces
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    from cotun_trio.client.client import Client
    from cotun_trio.testing.wire import MemoryWire


class Ways:
    """An `AnyUplink` to servers in memory."""

    def __init__(self, behind: dict[str, list[MemoryNetwork]]) -> None:
        self.behind = behind
        """The servers at each host, for which a client's connections are taken in turn."""
        self.addresses: dict[str, list[str]] = {}
        """The addresses of hosts that have several, of the servers behind them in their order."""
        self.dials: list[str] = []
        """The host of each connection so far."""
        self._turns: dict[str, itertools.count[int]] = {}

    async def dial(self, route: Route, taken: Collection[str] = ()) -> MemoryWire:
        """See `cotun_trio.client.uplink.AnyUplink`."""
        await trio.lowlevel.checkpoint()
        host = route.server.host
        self.dials.append(host)
        if host in self.addresses:
            addresses = self.addresses[host]
            address = next((each for each in addresses if each not in taken), addresses[0])
            wire = self.behind[host][addresses.index(address)].connect()
            wire.peer_address = address
            return wire
        if not self.behind[host]:
            raise ConnectionLost("nobody is there")
        turn = next(self._turns.setdefault(host, itertools.count()))
        return self.behind[host][turn % len(self.behind[host])].connect()

    async def watch(self, came_back: Callable[[], None]) -> None:
        """See `cotun_trio.client.uplink.AnyUplink`: it never goes away."""
        await trio.lowlevel.checkpoint()


class MemoryNode(MemoryServer):
    """A server, of several."""

    @property
    def network(self) -> MemoryNetwork:
        """Where it is reached."""
        return self._network

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """Have it vanish, as by a power cut; at the end of the block, it is back."""
        connect = self._network._connect
        self._network.close()
        self._network.cut()
        yield
        self._network._connect = connect

    @property
    def core(self) -> Server:
        """The server itself."""
        return self._core


@contextlib.asynccontextmanager
async def memory_node(nursery: trio.Nursery, **settings: Any) -> AsyncIterator[MemoryNode]:
    """Run a server, which allows reverse remotes."""
    network, places = MemoryNetwork(), MemoryPlaces(nursery)
    server = Server(
        ServerSettings(**{"reverse": True, **settings}), listening=network, places=places
    )
    async with running_server(server) as ended:
        yield MemoryNode(core=server, ended=ended, places=places, network=network)


class SeveralServers:
    """What `several_servers` gives."""

    def __init__(self, nodes: list[MemoryNode], ways: Ways, nursery: trio.Nursery) -> None:
        self.nodes = nodes
        self.ways = ways
        self.nursery = nursery

    def embedded(self, *remotes: str, connections: int = 2, **settings: Any) -> EmbeddedClient:
        """Return a client of all hosts."""
        first, *others = [ServerUrl.parse(f"http://{host}") for host in self.ways.behind]
        self.places = MemoryPlaces(self.nursery)
        return EmbeddedClient(
            ClientSettings(
                server=first,
                alternatives=tuple(map(Route, others)),
                remotes=tuple(map(Remote.parse, remotes)),
                connections=connections,
                **settings,
            ),
            uplink=self.ways,
            places=self.places,
        )

    @contextlib.asynccontextmanager
    async def client(self, *remotes: str, **settings: Any) -> AsyncIterator[MemoryClient]:
        """Run a client of all hosts."""
        core = self.embedded(*remotes, **settings)
        async with background() as nursery:
            await nursery.start(core.run)
            yield MemoryClient(core=core, places=self.places)


def client_of(client: MemoryClient) -> Client:
    """Return the client behind the API."""
    return client._core.client


async def connected(client: MemoryClient, count: int) -> None:
    """Wait until a client has so many open sessions."""
    with trio.fail_after(1000):
        while len(client_of(client).open_sessions) != count:
            await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def several_servers(
    *hosts: str, count: int = 2, settings: tuple[dict[str, Any], ...] = ({}, {})
) -> AsyncIterator[SeveralServers]:
    """Run `count` servers, one at each of `hosts`; with a single host, all are behind that."""
    async with contextlib.AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(background())
        nodes = [
            await stack.enter_async_context(memory_node(nursery, **options))
            for _, options in zip(range(count), itertools.cycle(settings), strict=False)
        ]
        networks = [node.network for node in nodes]
        if len(hosts) == 1:
            ways = Ways({hosts[0]: networks})
        else:
            ways = Ways({host: [network] for host, network in zip(hosts, networks, strict=True)})
        yield SeveralServers(nodes, ways, nursery)
