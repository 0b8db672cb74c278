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
from cotun_trio.protocol.remote import Remote
from cotun_trio.server.server import Server
from cotun_trio.settings import ClientSettings, ServerSettings, ServerUrl, Timings
from cotun_trio.testing.places import Places
from cotun_trio.testing.wire import memory_wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.link import Link
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Way
    from cotun_trio.testing.places import Handler
    from cotun_trio.testing.wire import MemoryWire

URL = "http://memory"
"""Where the server is said to be."""


class ServerCore(Server):
    """A server to which one connects by `connect`."""

    def __init__(
        self,
        settings: ServerSettings,
        places: Places,
        authorise: Callable[[str, str, str], Awaitable[str | None]] | None,
    ) -> None:
        super().__init__(settings, authorise=authorise)
        self.places = places
        self.wires: list[MemoryWire] = []
        """The server's ends of all connections that there were."""
        self._connections: trio.Nursery | None = None

    async def _listen(self) -> None:
        await trio.lowlevel.checkpoint()

    def _accept(self, accepting: trio.Nursery, connections: trio.Nursery) -> None:  # noqa: ARG002
        self._connections = connections

    def connect(self) -> MemoryWire:
        """Return a client's end of a new connection.  Raises `ConnectionLost` after the end."""
        if self._connections is None or self._shutdown.is_set():
            raise ConnectionLost("the server does not listen")
        ours, theirs = memory_wires()
        self.wires.append(ours)
        self._connections.start_soon(self.serve_wire, ours, CHISEL, "memory")
        return theirs

    async def open_listener(self, remote: Remote, share: Share) -> Listener:  # noqa: ARG002
        """See `Server.open_listener`."""
        return await self.places.open_listener(remote)

    def inbox(self, target: Target) -> Inbox | None:
        """See `Server.inbox`."""
        return self.places.inbox(target)


class ClientCore(EmbeddedClient):
    """A client whose ports and targets are in memory."""

    def __init__(self, settings: ClientSettings, uplink: MemoryUplink, places: Places) -> None:
        super().__init__(settings, uplink)
        self.places = places

    async def open_listener(self, remote: Remote) -> Listener:
        """See `Client.open_listener`."""
        return await self.places.open_listener(remote)

    def inbox(self, target: Target) -> Inbox | None:
        """See `EmbeddedClient.inbox`."""
        return super().inbox(target) or self.places.inbox(target)


class MemoryUplink:
    """Connects to a server in this process."""

    def __init__(self, server: ServerCore) -> None:
        self._server = server

    async def dial(self, way: Way) -> MemoryWire:  # noqa: ARG002
        """See `cotun_trio.client.uplink.AnyUplink`."""
        await trio.lowlevel.checkpoint()
        return self._server.connect()

    async def watch(self, came_back: Callable[[], None]) -> None:  # noqa: ARG002
        """See `cotun_trio.client.uplink.AnyUplink`: this network never goes away."""
        await trio.lowlevel.checkpoint()


@attrs.frozen(eq=False, repr=False)
class MemoryServer(TunnelServer):
    """A `TunnelServer` in memory: from `tunnel_pair`."""

    _core: ServerCore

    def handle(self, host: str, port: int, handler: Handler) -> None:
        """Be a target: have ``await handler(stream)`` serve each connection to it.

        What a handler raises ends the pair, but for `trio.BrokenResourceError` and
        `trio.ClosedResourceError`.  Connections to anything else are refused.
        """
        self._core.places.handle(host, port, handler)

    async def connect(self, address: str) -> trio.abc.HalfCloseableStream:
        """Connect to where the server listens for a client, ``host:port``.

        Raises `OSError` where it does not, and `trio.BrokenResourceError` where the client refuses.
        """

        async def session(remote: Remote) -> Link:
            return next(s for s in self._core.sessions if any(r is remote for r in s.listening))

        return await self._core.places.connect(address, session)

    def cut(self) -> None:
        """Lose all connections, as a network does; clients come back."""
        for wire in self._core.wires:
            for end in (wire, wire.peer):
                end.fail(ConnectionLost("the connection was cut"))


@attrs.frozen(eq=False, repr=False)
class MemoryClient(TunnelClient):
    """A `TunnelClient` in memory: from `tunnel_pair`."""

    _core: ClientCore

    def handle(self, host: str, port: int, handler: Handler) -> None:
        """Be a target of reverse remotes; see `MemoryServer.handle`."""
        self._core.places.handle(host, port, handler)

    async def connect(self, address: str) -> trio.abc.HalfCloseableStream:
        """Connect to where the client listens, ``host:port``; see `MemoryServer.connect`."""

        async def session(_remote: Remote) -> Link:
            return await self._core.wait_session()

        return await self._core.places.connect(address, session)


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
        server_core = ServerCore(
            settings or ServerSettings(reverse=True), Places(nursery), authorise
        )
        client_core = ClientCore(
            ClientSettings(
                server=ServerUrl.parse(URL),
                remotes=tuple(map(Remote.parse, remotes)),
                auth=to_credentials(auth),
                timings=timings or Timings(),
            ),
            MemoryUplink(server_core),
            Places(nursery),
        )
        async with running_server(server_core) as ended, connected(client_core, None):
            yield MemoryServer(core=server_core, ended=ended), MemoryClient(client_core)


async def _nothing(*, task_status: trio.TaskStatus[None]) -> None:
    """Only the nursery is wanted."""
    task_status.started()
