"""A session in memory for the two ends of a UDP channel, without the tunnel around them."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from cotun_trio.forwards.admission import EVERYBODY
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.forwards.udp_listener import UdpListener
from cotun_trio.logs import Context
from cotun_trio.protocol.remote import Remote
from tests.support.ssh_connection import ConnectionPair

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.open_session import Opener

LOG = Context(logging.getLogger("cotun.test"))


class Dropped:
    """Drops that are only counted (`cotun_trio.forwards.drops.Drops`)."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def add(self, reason: str, count: int = 1) -> None:
        """See `Drops.add`."""
        if count:
            self.reasons[reason] = self.reasons.get(reason, 0) + count


class Link:
    """An `OpenSession`."""

    share: Any = None

    def __init__(self, connection: Opener, nursery: trio.Nursery, *, in_runs: bool = False) -> None:
        self.connection = connection
        self.flows = Flows(Quota(0))
        self.flows.datagrams_in_runs = in_runs
        self.failures: list[CotunError] = []
        self._nursery = nursery

    def fail(self, failure: CotunError) -> None:
        """See `OpenSession`."""
        self.failures.append(failure)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """See `OpenSession`."""
        self._nursery.start_soon(function, *args)


class Entry:
    """A listener on `sock`, and the connection that its channel is in: its client is `pair`'s."""

    def __init__(self, sock: socket.socket, link: Link, pair: ConnectionPair) -> None:
        self.link = link
        self.pair = pair
        self.drops = Dropped()
        remote = Remote.parse("127.0.0.1:5000:127.0.0.1:1/udp")
        drops: Any = self.drops
        self.listener = UdpListener(
            sock, remote, drops, max_size=65_507, admission=EVERYBODY, log=LOG
        )
        self.session: Link | None = link

    async def serve(self) -> None:
        """Serve the listener."""
        await self.listener.serve(lambda: self.session)


@contextlib.asynccontextmanager
async def listening_in_memory(
    sock: socket.socket, *, in_runs: bool = False
) -> AsyncIterator[Entry]:
    """Serve a listener on `sock`; the other end of the connection has to accept its channel."""
    pair = ConnectionPair()
    async with trio.open_nursery() as nursery:
        entry = Entry(sock, Link(pair.client, nursery, in_runs=in_runs), pair)
        nursery.start_soon(entry.serve)
        await trio.testing.wait_all_tasks_blocked()
        yield entry
        nursery.cancel_scope.cancel()
