"""A server and a client of ours in this process, joined by a loopback connection.

Everything listens on a port that the system chose.  Whoever is running is cancelled at the end of
its ``async with``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.client.client import Client
from cotun_trio.protocol.port_ranges import parse_remotes
from cotun_trio.server.server import Server
from cotun_trio.settings import ClientSettings, ServerSettings, ServerUrl
from tests.support.targets import LOOPBACK, background, connect, echo, listening, split_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.client.session import ClientSession
    from cotun_trio.settings import Timings


def server_settings(**settings: Any) -> ServerSettings:
    """Return settings for a server on any free port of the loopback interface."""
    return ServerSettings(**{"host": LOOPBACK, "port": 0, **settings})


def client_settings(server: str, *remotes: str, **settings: Any) -> ClientSettings:
    """Return settings for a client of the server at the address `server`."""
    return ClientSettings(
        server=ServerUrl.parse(server), remotes=parse_remotes(remotes), **settings
    )


class WatchedClient(Client):
    """A client that says when it has a session."""

    def __init__(self, settings: ClientSettings, *more: Any, **others: Any) -> None:
        super().__init__(settings, *more, **others)
        self.sessions: list[ClientSession] = []
        """All that were ever open."""
        self._news = trio.Event()

    def session_opened(self, session: ClientSession) -> None:
        """See `Client.session_opened`."""
        super().session_opened(session)
        self.sessions.append(session)
        news, self._news = self._news, trio.Event()
        news.set()

    async def opened(self, times: int = 1) -> ClientSession:
        """Wait until it has had `times` sessions; return the last of them."""
        while len(self.sessions) < times:
            await self._news.wait()
        return self.sessions[times - 1]


@contextlib.asynccontextmanager
async def running_server(**settings: Any) -> AsyncIterator[Server]:
    """Run a server."""
    server = Server(server_settings(**settings))
    async with background() as nursery:
        await nursery.start(server.run)
        yield server


class Switch:
    """A server that can be stopped and started again, on the same port and with a new host key."""

    def __init__(self, nursery: trio.Nursery, settings: dict[str, Any]) -> None:
        self.address = ""
        self._nursery = nursery
        self._settings = settings
        self.server: Server
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()

    async def start(self) -> Server:
        """Start it, and return when it listens."""
        server = self.server = Server(server_settings(**self._settings))
        self._scope, self._stopped = trio.CancelScope(), trio.Event()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with self._scope:
                await server.run(task_status=task_status)
            self._stopped.set()

        await self._nursery.start(run)
        self.address = server.addresses[0]
        self._settings = {**self._settings, "port": split_address(self.address)[1]}
        return server

    async def stop(self) -> None:
        """Stop it, and return when nothing of it is left."""
        self._scope.cancel()
        await self._stopped.wait()

    async def stopped(self) -> None:
        """Wait until it has stopped by itself."""
        await self._stopped.wait()


@contextlib.asynccontextmanager
async def switchable_server(**settings: Any) -> AsyncIterator[Switch]:
    """Run a server that can be stopped."""
    async with background() as nursery:
        switch = Switch(nursery, settings)
        await switch.start()
        yield switch


@contextlib.asynccontextmanager
async def running_client(
    server: str, *remotes: str, **settings: Any
) -> AsyncIterator[WatchedClient]:
    """Run a client; what ends it for good is raised, in an exception group."""
    client = WatchedClient(client_settings(server, *remotes, **settings))
    async with background() as nursery:
        await nursery.start(client.run)
        yield client


@attrs.frozen
class Tunnel:
    """What `tunnel` gives."""

    server: Server
    client: WatchedClient

    async def connect(self, number: int = 0) -> trio.SocketStream:
        """Connect to where the client listens for its remote `number`."""
        return await connect(self.client.addresses[number])


@contextlib.asynccontextmanager
async def tunnel(
    *targets: str,
    remotes: tuple[str, ...] = (),
    timings: Timings | None = None,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
) -> AsyncIterator[Tunnel]:
    """Run a server and a connected client with a remote for each of `targets`, and `remotes`."""
    both = {} if timings is None else {"timings": timings}
    remotes = (*(f"{LOOPBACK}:0:{target}" for target in targets), *remotes)
    async with (
        running_server(**both, **server or {}) as the_server,
        running_client(the_server.addresses[0], *remotes, **both, **client or {}) as the_client,
    ):
        await the_client.opened()
        yield Tunnel(the_server, the_client)


@contextlib.asynccontextmanager
async def echo_tunnel(**options: Any) -> AsyncIterator[Tunnel]:
    """Run a tunnel to an echo target."""
    async with listening(echo) as target, tunnel(target, **options) as both:
        yield both
