"""The surroundings of one end of a tunnel in memory: ports that are listened on, and targets."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.errors import CotunError, UsageError
from cotun_trio.forwards.admission import EVERYBODY
from cotun_trio.forwards.counted import Counted
from cotun_trio.forwards.in_process import Inbox, TunnelStream
from cotun_trio.forwards.listener import Listener
from cotun_trio.protocol.addresses import canonical_host, clean_host, join_host_port
from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.visitor_address import with_visitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target

    Handler = Callable[[trio.abc.HalfCloseableStream], Awaitable[object]]

FIRST_PORT = 40_000
"""The first port that 0 stands for."""


class MemoryListener(Listener):
    """Where a remote listens, without a socket."""

    def __init__(self, remote: Remote, port: int) -> None:
        super().__init__(remote, [])
        self.port = port
        self.addresses = [join_host_port(remote.local_host, port)]
        self.closed = trio.Event()

    async def serve(self, *_: object, **__: Any) -> None:
        """Wait for its end: connections come by `MemoryPlaces.connect`."""
        await self.closed.wait()

    def close(self) -> None:
        """See `Listener.close`."""
        self.closed.set()


class Connecting:
    """A connection to a port, being made."""

    def __init__(self) -> None:
        self.stream: TunnelStream | None = None
        self.settled = trio.Event()

    async def carry(
        self, session: OpenSession, remote: Remote, endpoints: Endpoints | None
    ) -> None:
        """Open a channel, and stay until it is over."""
        target = with_visitor(remote.channel_target, endpoints)
        try:
            with session.flows.begin(remote) as flow, suppress(CotunError):
                channel = await Counted(session, flow).open_channel(target)
                self.stream = TunnelStream(channel)
                self.settled.set()
                await self.stream.over.wait()
        finally:
            self.settled.set()
            if self.stream is not None and not self.stream.over.is_set():
                self.stream.break_off()


class MemoryPlaces:
    """The ports and the targets of one end.  Targets are served by tasks of `nursery`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._listeners: dict[int, MemoryListener] = {}
        self._inboxes: dict[tuple[str, int], Inbox] = {}
        self._nobody = Inbox()
        self._nobody.close()

    # ---- ports

    async def open_listener(self, remote: Remote, share: Share | None = None) -> Listener:  # noqa: ARG002
        """Listen for `remote`.  Raises `UsageError`, also for kinds that take real sockets."""
        await trio.lowlevel.checkpoint()
        if remote.udp or remote.socks or remote.local_path or remote.remote_path:
            raise UsageError(f"{remote}: in memory there is only TCP")
        port = remote.local_port or FIRST_PORT
        while not remote.local_port and self._is_taken(port):
            port += 1
        if self._is_taken(port):
            where = join_host_port(remote.local_host, port)
            raise UsageError(f"cannot listen on {where}: Address already in use")
        listener = self._listeners[port] = MemoryListener(remote, port)
        return listener

    def _is_taken(self, port: int) -> bool:
        return port in self._listeners and not self._listeners[port].closed.is_set()

    async def connect(
        self,
        address: str,
        find_session: Callable[[Remote], Awaitable[OpenSession]],
        visitor: Endpoint | None = None,
    ) -> TunnelStream:
        """Connect to ``host:port`` here, and through the session that `find_session` returns.

        Raises `OSError` where nobody listens, `trio.BrokenResourceError` where the other end
        refuses, or `visitor` is not let in.
        """
        await trio.lowlevel.checkpoint()
        port = int(address.rpartition(":")[2])
        if not self._is_taken(port):
            raise ConnectionRefusedError(f"nobody listens on {address}")
        remote = self._listeners[port].remote
        host = "" if visitor is None else visitor.host
        if not EVERYBODY.limited_to(remote.options.allow).admits(host):
            raise trio.BrokenResourceError("the connection was reset")
        connecting = Connecting()
        session = await find_session(remote)
        here = Endpoint("127.0.0.1", port)
        endpoints = None if visitor is None else Endpoints(visitor, here)
        session.start_soon(connecting.carry, session, remote, endpoints)
        try:
            await connecting.settled.wait()
        except BaseException:
            if connecting.stream is not None:
                connecting.stream.break_off()
            raise
        if connecting.stream is None:
            raise trio.BrokenResourceError("the connection was reset")
        return connecting.stream

    # ---- targets

    def handle(self, host: str, port: int, handler: Handler) -> None:
        """Run `handler` for each connection to a target."""
        inbox = self._inboxes[(canonical_host(clean_host(host)), port)] = Inbox()
        self._nursery.start_soon(self._serve, inbox, handler)

    async def _serve(self, inbox: Inbox, handler: Handler) -> None:
        while True:
            self._nursery.start_soon(self._handle, await inbox.accept(), handler)

    async def _handle(self, stream: TunnelStream, handler: Handler) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await handler(stream)

    def inbox(self, target: Target) -> Inbox:
        """Return the inbox for connections to `target`, which may refuse all."""
        if not target.host or target.udp:
            return self._nobody
        return self._inboxes.get((canonical_host(target.host), target.port), self._nobody)
