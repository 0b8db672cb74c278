"""The connections of a client: as many connectors as it wants sessions.

Each keeps a session of its own, and has its own waits (`cotun_trio.client.connector`).  What they
share is here: the sessions as tasks, the way to servers, and which of these is whose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.client.connector import Connector
from cotun_trio.client.running_sessions import RunningSessions
from cotun_trio.client.spread import Spread
from cotun_trio.client.uplink import Uplink

if TYPE_CHECKING:
    from cotun_trio.client.open_sessions import OpenSessions
    from cotun_trio.client.session import ClientHost
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.errors import CotunError


class Connectors:
    """Give `owner` sessions, over the connections that `uplink` dials.

    Raises `UsageError` where the TLS files of its settings cannot be used.
    """

    def __init__(
        self, owner: ClientHost, open_sessions: OpenSessions, uplink: AnyUplink | None = None
    ) -> None:
        settings, log = owner.settings, owner.log
        self.running = RunningSessions(owner)
        """Current sessions."""
        self.warnings: tuple[str, ...] = ()
        """Advice about the settings and their files, as far as a network is behind it: a line
        each."""
        self.certificate_expires: float | None = None
        """When the client's own certificate ends, in seconds since 1970; None where it has none."""
        self.servers = [route.server for route in settings.routes]
        """The servers that may be tried, in this order."""
        if uplink is None:
            uplink = own = Uplink(settings, owner.scratch)
            self.warnings = (*settings.warnings, *own.warnings)
            self.certificate_expires = own.certificate_expires
        self._uplink: AnyUplink = uplink
        spread = Spread(open_sessions, settings.connections, log)
        several = settings.connections > 1
        self._connectors = [
            Connector(
                owner,
                uplink,
                self.running,
                spread,
                seeker,
                log.within(connection=number) if several else log,
            )
            for number, seeker in enumerate(spread.seekers, 1)
        ]

    def retry_now(self) -> None:
        """Cut present waits for the next attempt short, whatever the servers have said."""
        for connector in self._connectors:
            connector.retry_now()

    async def run(self, sessions: trio.Nursery) -> CotunError:
        """Connect again and again; return the error that says that it makes no sense any more.

        Sessions are tasks of the nursery `sessions`, and go on there when this is cancelled.
        """
        ends: list[CotunError] = []
        async with trio.open_nursery() as nursery:

            async def run(connector: Connector) -> None:
                ends.append(await connector.run(sessions))
                nursery.cancel_scope.cancel()

            nursery.start_soon(self._uplink.watch, self._network_came_back)
            for connector in self._connectors:
                nursery.start_soon(run, connector)
        return ends[0]

    def _network_came_back(self) -> None:
        for connector in self._connectors:
            connector.network_came_back()
