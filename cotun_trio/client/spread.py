"""The servers of a client's connections: different ones, as far as there are.

Several URLs, several addresses of a name, and the servers behind a balancer are all ways to more
than one server.  A *seeker* is a connection without a session, and this leads it:

* First to a URL, and of a name to an address, where no other connection is.
* Then to one where another is, which may lead to another server.  Only the server itself knows: it
  refuses a second session (`cotun_trio.errors.SameServer`).  A server that has not told an
  identity, such as a Go server, counts as the only one at its address; and one of cotun-trio 0.1,
  as the only one with its host key.

At each URL, one seeker tries at a time, with its waits: several connections ask a server that is
away no more often than one would.  The others wait until that one has a session.  A seeker that has
just lost its own takes the place of one that waits, for its next attempt comes earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import SameServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client.open_sessions import OpenSessions
    from cotun_trio.client.session import ClientSession
    from cotun_trio.logs import Context
    from cotun_trio.settings import Route

MISSES = 8
"""Rounds in a row that led to servers of other connections, until the log says that there are
fewer servers.  They take a minute or so.  The next ones are some minutes apart: see
`cotun_trio.client.backoff`."""


@attrs.define(eq=False)
class Seeker:
    """A connection, as long as it has no session."""

    is_fresh: bool = False
    """Whether it has lost its session, and has not tried all servers since."""
    is_waiting: bool = False
    """Whether it waits for its next round."""
    is_parked: bool = False
    """Whether others try all that it could try."""
    has_given_up: bool = False
    """Whether it would end the client, if it were the only connection."""
    misses: int = 0


class Spread:
    """Leads the seekers of a client that has these `open_sessions`, and wants more: `wanted`."""

    def __init__(self, open_sessions: OpenSessions, wanted: int, log: Context) -> None:
        self._open = open_sessions
        self._log = log
        self.seekers = [Seeker() for _ in range(wanted)]
        """One for each connection."""
        self._holders: dict[Route, Seeker] = {}  # the seeker that tries each
        self._released = trio.lowlevel.ParkingLot()
        self._said = 0  # the number of servers that the log has told

    # ---- what to try

    def order(self, seeker: Seeker, routes: Sequence[Route]) -> Sequence[Route]:
        """Return `routes`, those first where no other connection is."""

        def others(route: Route) -> int:
            is_held = self._holders.get(route, seeker) is not seeker
            return is_held + sum(session.url == route.server for session in self._open)

        return sorted(routes, key=others)

    def take(self, seeker: Seeker, route: Route) -> bool:
        """Return whether it is the seeker's to try `route`, from now on until it has a session."""
        holder = self._holders.get(route, seeker)
        if holder is not seeker and not (seeker.is_fresh and holder.is_waiting):
            return False
        self._holders[route] = seeker
        seeker.is_parked = False
        return True

    async def wait(self, seeker: Seeker) -> None:
        """Wait until there may be something to try: others try all at present."""
        seeker.is_fresh = False
        seeker.is_parked = True
        await self._released.park()

    def taken_addresses(self, route: Route) -> frozenset[str]:
        """Return the addresses of a server's name where other connections are."""
        return frozenset(s.address for s in self._open if s.url == route.server and s.address)

    def check(self, route: Route, address: str) -> None:
        """Raise `SameServer` where nobody but another session's server can be at `address`."""
        for session in self._open:
            if (session.url, session.node, session.address) == (route.server, "", address):
                raise SameServer("another connection is there, to a server without an identity")

    def check_key(self, session: ClientSession) -> None:
        """Raise `SameServer` where another session has a server with the same host key, and the
        servers are of cotun-trio 0.1: they tell no identity, and take listeners over."""
        if not session.connection.peer_is_ours:
            return
        for other in self._open:
            old = other.connection.peer_is_ours and not other.node
            if old and other.fingerprint == session.fingerprint:
                raise SameServer("another connection is at a server with this host key")

    # ---- how it went

    def found(self, seeker: Seeker) -> None:
        """The seeker has a session."""
        seeker.has_given_up = False
        seeker.misses = 0
        self._holders = {r: holder for r, holder in self._holders.items() if holder is not seeker}
        self._released.unpark_all()

    def missed(self, seeker: Seeker) -> None:
        """In a round, the seeker found servers of other connections."""
        seeker.misses += 1
        servers, wanted = len(self._open), len(self.seekers)
        if servers and seeker.misses >= MISSES and servers != self._said:
            self._said = servers
            self._log.info(
                "%d connections wanted, but there %s: going on with %d",
                wanted,
                "is only 1 server" if servers == 1 else f"are only {servers} servers",
                servers,
                extra={"facts": {"connections": wanted, "servers": servers}},
            )

    @property
    def has_session(self) -> bool:
        """Whether the client has an open session."""
        return len(self._open) > 0

    def gives_up(self, seeker: Seeker) -> bool:
        """The seeker would end the client; return whether it does: no other has a session, or goes
        on."""
        seeker.has_given_up = True
        trying = [seeker for seeker in self.seekers if not seeker.is_parked]
        return not self.has_session and all(seeker.has_given_up for seeker in trying)
