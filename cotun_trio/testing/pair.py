"""The two ends of a tunnel in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.access.credentials import to_credentials
from cotun_trio.api.client import TunnelClient, connected
from cotun_trio.api.core import EmbeddedClient
from cotun_trio.api.lifetime import running
from cotun_trio.api.server import TunnelServer, running_server
from cotun_trio.errors import ConnectionLost
from cotun_trio.protocol.dialect import CHISEL
from cotun_trio.protocol.endpoints import Endpoint
from cotun_trio.protocol.port_ranges import parse_remotes
from cotun_trio.server.server import Server
from cotun_trio.settings import ClientSettings, ServerSettings, ServerUrl, Timings
from cotun_trio.testing.places import MemoryPlaces
from cotun_trio.testing.wire import memory_wires

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Sequence,
    )

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.server.listening import Doors
    from cotun_trio.settings import Route
    from cotun_trio.testing.places import Handler
    from cotun_trio.testing.wire import MemoryWire

URL = "http://memory"
"""Where the server is said to be."""


class MemoryNetwork:
    """Between a client and a server in one process: where the server listens, and the route there.

    It is a `cotun_trio.server.listening.Listening` and a `cotun_trio.client.uplink.AnyUplink`.
    """

    announces = True
    addresses: Sequence[str] = ()
    health_addresses: Sequence[str] = ()

    def __init__(self) -> None:
        self._wires: list[MemoryWire] = []  # the server's ends of all connections so far
        self._connect: Callable[[MemoryWire], None] | None = None

    async def open(self) -> None:
        """See `Listening`."""
        await trio.lowlevel.checkpoint()

    def accept(self, accepting: trio.Nursery, connections: trio.Nursery, doors: Doors) -> None:  # noqa: ARG002
        """See `Listening`."""
        self._connect = lambda wire: connections.start_soon(
            doors.serve_wire, wire, CHISEL, "memory"
        )

    def close(self) -> None:
        """See `Listening`."""
        self._connect = None

    async def dial(self, route: Route, taken: Collection[str] = ()) -> MemoryWire:  # noqa: ARG002
        """See `AnyUplink`."""
        await trio.lowlevel.checkpoint()
        return self.connect()

    def connect(self) -> MemoryWire:
        """Return the client's end of a new connection.  Raises `ConnectionLost`."""
        if self._connect is None:
            raise ConnectionLost("the server does not listen")
        ours, theirs = memory_wires()
        self._wires.append(ours)
        self._connect(ours)
        return theirs

    async def watch(self, came_back: Callable[[], None]) -> None:  # noqa: ARG002
        """See `AnyUplink`: this network never goes away."""
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Lose all connections."""
        for wire in self._wires:
            for end in (wire, wire.peer):
                end.fail(ConnectionLost("the connection was cut"))


@attrs.frozen(eq=False, repr=False)
class MemoryServer(TunnelServer):
    """A `TunnelServer` in memory: from `tunnel_pair`."""

    _places: MemoryPlaces
    _network: MemoryNetwork

    def handle(self, host: str, port: int, handler: Handler) -> None:
        """Be a target: have ``await handler(stream)`` serve each connection to it.

        An exception of a handler ends the pair, except `trio.BrokenResourceError` and
        `trio.ClosedResourceError`.  Connections to anything else are refused.
        """
        self._places.handle(host, port, handler)

    async def connect(self, address: str, *, source: str = "") -> trio.abc.HalfCloseableStream:
        """Connect to where the server listens for a client, ``host:port``.

        The client hears that it is `source` who connects, such as ``192.0.2.7:1234``.  Raises
        `OSError` where the server does not listen, and `trio.BrokenResourceError` where the client
        refuses, or does not allow `source`.
        """

        async def session(remote: Remote) -> OpenSession:
            return next(
                s
                for s in self._core.sessions
                if any(r is remote for r in s.client_remotes.listening)
            )

        visitor = Endpoint.parse(source) if source else None
        return await self._places.connect(address, session, visitor)

    def cut(self) -> None:
        """Lose all connections, as a network does; clients come back."""
        self._network.cut()


@attrs.frozen(eq=False, repr=False)
class MemoryClient(TunnelClient):
    """A `TunnelClient` in memory: from `tunnel_pair`."""

    _places: MemoryPlaces

    def handle(self, host: str, port: int, handler: Handler) -> None:
        """Be a target of reverse remotes; see `MemoryServer.handle`."""
        self._places.handle(host, port, handler)

    async def connect(self, address: str) -> trio.abc.HalfCloseableStream:
        """Connect to where the client listens, ``host:port``; see `MemoryServer.connect`."""

        async def session(_remote: Remote) -> OpenSession:
            return await self._core.client.wait_session()

        return await self._places.connect(address, session)


@asynccontextmanager
async def tunnel_pair(
    settings: ServerSettings | None = None,
    *,
    remotes: Iterable[str] = (),
    auth: tuple[str, str] | None = None,
    authorise: Callable[[str, str, str], Awaitable[str | None]] | None = None,
    timings: Timings | None = None,
) -> AsyncIterator[tuple[MemoryServer, MemoryClient]]:
    """Run a server and a client that is connected to it, in memory.

    Without `settings`, the server allows reverse remotes.  `remotes`, `auth` and `timings` are the
    client's, `authorise` is the server's.  Raises what `open_server` and `open_client` raise.
    """
    async with running(_nothing) as nursery:
        network = MemoryNetwork()
        server_places, client_places = MemoryPlaces(nursery), MemoryPlaces(nursery)
        server = Server(
            settings or ServerSettings(reverse=True),
            authorise=authorise,
            listening=network,
            places=server_places,
        )
        client = EmbeddedClient(
            ClientSettings(
                server=ServerUrl.parse(URL),
                remotes=parse_remotes(remotes),
                auth=to_credentials(auth),
                timings=timings or Timings(),
            ),
            uplink=network,
            places=client_places,
        )
        async with running_server(server) as ended, connected(client, None):
            yield (
                MemoryServer(core=server, ended=ended, places=server_places, network=network),
                MemoryClient(core=client, places=client_places),
            )


async def _nothing(*, task_status: trio.TaskStatus[None]) -> None:
    """Only the nursery is wanted."""
    task_status.started()
