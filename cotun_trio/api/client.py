"""A tunnel client, for programs that embed one."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.api.core import EmbeddedClient, inbox_remote
from cotun_trio.api.forwards import TunnelListener
from cotun_trio.api.lifetime import running
from cotun_trio.client.remotes import NO_STDIO
from cotun_trio.errors import ConnectionLost, UsageError
from cotun_trio.forwards.in_process import Inbox, TunnelStream
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.port_ranges import parse_single
from cotun_trio.protocol.remote import ANY_INTERFACE
from cotun_trio.protocol.target import Target
from cotun_trio.settings import ClientSettings
from cotun_trio.settings.values import to_seconds
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from typing import Unpack

    from cotun_trio.api.events import Event
    from cotun_trio.api.forwards import Forward
    from cotun_trio.settings import ClientOptions
    from cotun_trio.snapshot import Figures

CONNECT_TIMEOUT = 30.0
"""Seconds for the first tunnel, unless it is told otherwise."""


@attrs.frozen(eq=False, repr=False)
class TunnelClient:
    """A client that stays connected: from `open_client`."""

    _core: EmbeddedClient

    @property
    def forwards(self) -> tuple[Forward, ...]:
        """Current forwards: those of `open_client` in their order, then those that came later."""
        return self._core.forwards

    @property
    def connected(self) -> bool:
        """Whether there is a tunnel at this moment, to one server at least."""
        return len(self._core.client.open_sessions) > 0

    def stats(self) -> Figures:
        """Return the figures of this moment: sessions, channels, bytes, memory and so on."""
        return self._core.client.shown.figures()

    async def forward(self, remote: str) -> Forward:
        """Forward what `remote` says, written as for the command line, but no stdio remote.

        It is one remote, with an address, counters and an end of its own, so a range of ports is
        not taken: `open_client` takes ranges, or this takes each of their remotes.

        A local one listens when this returns, whether there is a tunnel or not; a reverse one
        (``R:…``) when the server has said so.  A Go server is only asked when a session begins, and
        has to find reverse remotes in `open_client`.  Raises `UsageError` for what makes no sense
        or cannot be listened on here, `Refused` with the server's reason, `ConnectionLost` after
        `Timings.ssh_wait` seconds without a tunnel.  When cancelled, nothing is left of it.
        """
        await trio.lowlevel.checkpoint()
        return self._core.forward_of(await self._core.add(parse_single(remote)))

    async def open_tcp_stream(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Return a connection from the server to `host`, a name or an address without brackets.

        It takes no port here.  Closing it ends what was sent, all of which still arrives; closed by
        `trio.aclose_forcefully`, it breaks off.  Raises `UsageError` for what is no target,
        `Refused` with the server's reason, `ConnectionLost` after `Timings.ssh_wait` seconds
        without a tunnel.  When cancelled, nothing is left open.
        """
        try:
            target = Target(host, port)
        except RemoteError as error:
            raise UsageError(str(error)) from None
        await trio.lowlevel.checkpoint()
        session = await self._core.client.wait_session()
        return TunnelStream(await session.connection.open_channel(str(target).encode()))

    async def listen_tcp(
        self, port: int = 0, *, host: str = ANY_INTERFACE, allow: Iterable[str] = ()
    ) -> TunnelListener:
        """Have the server listen on `host` and `port` (0 for any free one), for this program.

        With `allow`, networks such as ``10.0.0.0/8``, it lets in only visitors of these.

        The server has to allow reverse remotes.  A Go server has been asked when the session began,
        or never: this returns what `open_client` was told by `listen`.  Raises and is cancelled as
        `forward`.
        """
        await trio.lowlevel.checkpoint()
        remote = inbox_remote(host, port, allow)
        item = self._core.claim(remote)
        if item is None:
            item = await self._core.add(remote, Inbox())
        return TunnelListener(self._core.client.remotes, item)

    def events(self) -> AsyncIterator[Event]:
        """Return what happens from now on: `Connected`, `Lost` and `ForwardFailed`.

        It begins with how things are, and ends with the client.  It never holds the client up: a
        subscriber that is 64 events behind loses the oldest of them.  Cancelling loses none.
        """
        return self._core.events.subscribe()


@asynccontextmanager
async def open_client(
    server: str | Iterable[str],
    *,
    listen: Iterable[tuple[str, int]] = (),
    connect_timeout: float | str | None = CONNECT_TIMEOUT,
    **options: Unpack[ClientOptions],
) -> AsyncIterator[TunnelClient]:
    """Connect to `server`, the URL of one or those of several that are tried in turn.

    The block begins when there is a tunnel, and the client stays connected as long as it runs; at
    its end, open connections are cut.  The options (`cotun_trio.settings.ClientOptions`) are those
    of the command line; times are in seconds or texts like ``25s``, TLS files are paths, and
    ``auth`` is ``user:password`` or a tuple of both.  With `connect_timeout` None, the first tunnel
    is waited for without end.  ``remotes`` are there when the block begins, and a server that does
    not allow one ends the client; so are the hosts and ports of `listen`, where the server listens
    for this program, and which `TunnelClient.listen_tcp` then returns.

    Raises `UsageError` for what makes no sense; `ConnectionLost` where there is no tunnel in time;
    and `Refused`, `cotun_trio.errors.FingerprintMismatch` or `cotun_trio.errors.GaveUp` where it
    makes no sense to try again: later in the block, too, which is cancelled then.  When cancelled,
    the server is told, for which it takes up to a second.
    """
    timeout = connect_timeout
    if timeout is not None and timeout != math.inf:
        timeout = to_seconds("connect_timeout", timeout)
    settings = ClientSettings.from_options(server, **options)
    try:
        inboxes = {inbox_remote(host, port): Inbox() for host, port in listen}
    except (TypeError, ValueError, AttributeError):
        raise UsageError("listen is a list of tuples, each a host and a port") from None
    settings = attrs.evolve(settings, remotes=(*settings.remotes, *inboxes))
    if any(remote.stdio for remote in settings.remotes):
        raise UsageError(NO_STDIO)
    core = EmbeddedClient(settings, inboxes=inboxes)
    async with connected(core, timeout):
        yield TunnelClient(core)


@asynccontextmanager
async def connected(core: EmbeddedClient, timeout: float | None) -> AsyncIterator[None]:
    """Run a client; the block begins when there is a tunnel.  See `open_client`."""
    async with running(core.run):
        await _wait_connected(core, timeout)
        yield


async def _wait_connected(core: EmbeddedClient, timeout: float | None) -> None:
    if timeout is None:
        await core.client.open_sessions.wait()
        return
    with trio.move_on_after(timeout):
        await core.client.open_sessions.wait()
        return
    reason = "" if core.last_failure is None else f": {core.last_failure}"
    raise ConnectionLost(f"no tunnel in {format_duration(timeout)}{reason}")
