"""The sessions of a client as tasks: open ones, those that are being opened, and those that end.

A session may outlive its place in a `cotun_trio.client.connector`: a server of our kind that is
about to end says so, and then the next session is looked for while the streams of this one end.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cotun_trio.client.session import ClientSession
from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.forwards.quota import Quota
from cotun_trio.snapshot import EndedTotals

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from cotun_trio.client.session import ClientHost, Stage
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.settings import Route, ServerUrl
    from cotun_trio.websocket.wire_protocol import WireProtocol

MAX_LEAVING = 16
"""Draining sessions that are kept, beside one for each further connection: a server could say again
and again that it is about to end."""


class RunningSessions:
    """The sessions of the client `owner`, which run in tasks of a nursery that it gives."""

    def __init__(self, owner: ClientHost) -> None:
        self.present: set[ClientSession] = set()
        """Current sessions, open or not."""
        self.ended_totals = EndedTotals()
        """The totals of sessions that have ended."""
        self._owner = owner
        self._numbers = itertools.count(1)
        self._last_keys: dict[ServerUrl, str] = {}  # of the session that ended last at each
        settings = owner.settings
        # A single session has its own limit.
        self._quota = Quota(settings.max_connections if settings.connections > 1 else 0)

    def begin(
        self,
        nursery: trio.Nursery,
        route: Route,
        log: Context,
        wire: WireProtocol,
        dialect: Dialect,
        deadline: float,
        reached: Callable[[Stage], None],
    ) -> ClientSession:
        """Begin a session on `wire`, which has to be open at `deadline`, and return it."""
        url = route.server
        log = log.limited(self._owner.log_limits.of(str(url)))
        session = ClientSession(
            self._owner,
            url,
            wire,
            dialect,
            log,
            reached,
            number=next(self._numbers),
            address="" if route.proxy else wire.peer_address,
            quota=self._quota,
            keys=self._known_keys(url),
        )
        self.present.add(session)
        nursery.start_soon(self._run, session, deadline)
        return session

    def _known_keys(self, url: ServerUrl) -> list[str]:
        """Return the fingerprints that the log has of `url`, as long as there is an open session:
        one connection after another may look there for a server of its own."""
        opened = [s for s in self.present if s.was_open and not s.draining and s.failure is None]
        keys = [session.fingerprint for session in opened if session.url == url]
        return [*keys, self._last_keys.get(url, "")] if opened else []

    async def _run(self, session: ClientSession, deadline: float) -> None:
        try:
            await session.run(deadline=deadline)
        except CotunError:
            pass  # `ClientSession.wait_left` gives it to the connector
        except Exception:
            # An error that a server causes ends its session only, here as in the server.
            session.log.exception("internal error, the session is closed")
            session.fail(ConnectionLost("internal error"))
        finally:
            self.present.remove(session)
            self._last_keys[session.url] = session.fingerprint
            self.ended_totals.add(session)

    @property
    def quiet(self) -> bool:
        """Whether all of them are: see `Session.quiet`."""
        return all(session.quiet for session in self.present)

    def cut_what_is_not_allowed(self) -> None:
        """Cut the connections of remotes that are gone."""
        for session in self.present:
            session.flows.cut(session.rights.still_allows)

    def drain(self, reason: str) -> None:
        """End all of them: what is open has its time, what is being opened has none."""
        for session in list(self.present):
            if session.was_open:
                session.drain(reason)
            else:
                session.fail(ConnectionLost(reason))

    def limit_leaving(self) -> None:
        """End a session whose server is about to end, where there are too many of them."""
        leaving = [s for s in self.present if s.draining and s.failure is None]
        if len(leaving) >= MAX_LEAVING + self._owner.settings.connections - 1:
            eldest = max(leaving, key=lambda session: session.lasted)
            eldest.fail(ConnectionLost("the server has been about to end for too long"))
