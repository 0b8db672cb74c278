"""A tunnel server, for programs that embed one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.api.lifetime import running
from cotun_trio.errors import UsageError
from cotun_trio.server.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cotun_trio.server.session import ServerSession
    from cotun_trio.settings import ServerSettings
    from cotun_trio.snapshot import Figures


@attrs.frozen(kw_only=True)
class SessionInfo:
    """A client that is connected, as it was when `TunnelServer.sessions` was called."""

    user: str
    """The user's name; where there are no users, the name that the client gives, often none."""
    peer: str
    """The address that the client comes from."""
    since: datetime
    """When it was let in (UTC)."""
    remotes: tuple[str, ...]
    """Its remotes, each in full."""
    channels: int
    """Connections at present."""
    bytes_in: int
    """Received from it, as the network has them."""
    bytes_out: int
    """Sent to it."""


@attrs.frozen(eq=False, repr=False)
class TunnelServer:
    """A running server: from `open_server`."""

    _core: Server
    _ended: trio.Event

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, ``host:port`` each, with the real port."""
        return tuple(self._core.addresses)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its host key in base64, by which clients know it."""
        return self._core.fingerprint

    def sessions(self) -> tuple[SessionInfo, ...]:
        """Return the clients that are connected at this moment."""
        return tuple(map(_info, self._core.sessions))

    def stats(self) -> Figures:
        """Return the figures of this moment: sessions, channels, bytes, memory and so on."""
        return self._core.shown.figures()

    async def drain(self) -> None:
        """Accept no more connections, and wait until the open ones have ended.

        Clients are told, and those of our kind go elsewhere.  After `Timings.shutdown_grace`
        seconds, connections that are still open are cut.  Cancelling ends the wait only.
        """
        self._core.shut_down()
        await self._ended.wait()


def _info(session: ServerSession) -> SessionInfo:
    about = session.about
    return SessionInfo(
        user=about.user,
        peer=about.peer,
        since=datetime.now(UTC) - timedelta(seconds=about.seconds),
        remotes=about.remotes,
        channels=len(session.connection.channels),
        bytes_in=session.wire.bytes_in,
        bytes_out=session.wire.bytes_out,
    )


@asynccontextmanager
async def open_server(
    settings: ServerSettings,
    *,
    authorise: Callable[[str, str, str], Awaitable[str | None]] | None = None,
) -> AsyncIterator[TunnelServer]:
    """Serve as long as the block runs, which begins when it listens; its end cuts open connections.

    ``await authorise(user, peer, remote)``, if given, is asked for each remote that a client
    declares and for each connection that it makes, when the settings and the access list allow
    that: `user` is the user's name, `peer` the address that the client comes from, `remote` what it
    wants in the form that access lists have, such as ``db:5432``, ``R:0.0.0.0:80`` or ``socks``. It
    returns None to allow it, or the reason why not, which the client is told; or raises `Refused`
    with that.  `cotun_trio.errors.NotNow` denies for this time, and the client asks again later; so
    does any other exception, which is logged.  For a declared remote it has the rest of the
    handshake's time (`Timings.ssh_timeout`), for a connection `Timings.dial_timeout` seconds; it is
    cancelled when its client goes.

    Raises `UsageError` where the server cannot listen or a file cannot be used.  When cancelled,
    clients are told, for which it takes up to a second.
    """
    if settings.fleet is not None:
        raise UsageError("a server in a program is in no fleet: run cotun-trio server --fleet")
    core = Server(settings, authorise=authorise)
    async with running_server(core) as ended:
        yield TunnelServer(core, ended)


@asynccontextmanager
async def running_server(core: Server) -> AsyncIterator[trio.Event]:
    """Run a server; the event that it gives is set when nothing of that runs any more."""
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await core.run(task_status=task_status)
        finally:
            ended.set()

    async with running(run):
        yield ended
