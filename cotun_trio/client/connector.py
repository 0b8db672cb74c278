"""Staying connected: which server is tried when, and which failures end the client.

The servers are tried in the order in which the user gave them, without a pause between them; that
is a round.  At each server there may be several attempts beside each other, see
`cotun_trio.client.attempts`; together they count once.  Between two rounds there is a wait, see
`cotun_trio.client.backoff`.  It is cut short by `Connector.retry_now`, and by a network that comes
back.

A session is a task of its own, and may outlive its place here: a server of our kind that is about
to end says so, and then the next session is looked for while the streams of this one end.
"""

from __future__ import annotations

import itertools
import logging
import random
from functools import partial
from typing import TYPE_CHECKING

import trio

from cotun_trio.client.attempts import Attempts
from cotun_trio.client.backoff import FIRST_INTERVAL, Backoff
from cotun_trio.client.session import ClientSession
from cotun_trio.client.uplink import Uplink
from cotun_trio.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CotunError,
    DialFailed,
    FingerprintMismatch,
    GaveUp,
)
from cotun_trio.snapshot import EndedTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.client.session import ClientHost, Stage
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.settings import Route, ServerUrl
    from cotun_trio.websocket.wire_protocol import WireProtocol

STABLE = 5.0
"""Seconds that a session has to last for the backoff to start again: a server that accepts and then
drops us is no success."""

MAX_LEAVING = 16
"""Draining sessions that are kept: a server could say again and again that it is about to end."""


class Connector:
    """Gives `owner` one session after another, over the connections that `uplink` dials.

    Raises `UsageError` where the TLS files of its settings cannot be used.
    """

    def __init__(self, owner: ClientHost, uplink: AnyUplink | None = None) -> None:
        self.sessions: set[ClientSession] = set()
        """Current sessions, open or not."""
        self.ended_totals = EndedTotals()
        """The totals of sessions that have ended."""
        self._owner = owner
        self._settings = owner.settings
        self._log = owner.log
        self.warnings: tuple[str, ...] = ()
        """Advice about the settings and their files, as far as a network is behind it: a line
        each."""
        self.certificate_expires: float | None = None
        """When the client's own certificate ends, in seconds since 1970; None where it has none."""
        if uplink is None:
            uplink = own = Uplink(owner.settings, owner.scratch)
            self.warnings = (*owner.settings.warnings, *own.warnings)
            self.certificate_expires = own.certificate_expires
        self._uplink: AnyUplink = uplink
        self._dialects = owner.settings.dialects
        self._numbers = itertools.count(1)  # of sessions
        self._retry = trio.Event()
        self._waiting = trio.CancelScope()
        self._dialled = 0.0  # when the latest attempt began
        self._patience = 0.0  # seconds from the news of a network to the next attempt
        self._not_before = 0.0  # when one of the servers may be asked again
        self._paused: dict[Route, tuple[float, CotunError]] = {}  # until when, and what they said

    @property
    def servers(self) -> list[ServerUrl]:
        """The servers that may be tried, in this order."""
        return [route.server for route in self._settings.routes]

    def retry_now(self) -> None:
        """Cut the present wait for the next attempt short, whatever the servers have said."""
        self._paused.clear()
        self._retry.set()

    async def run(self, sessions: trio.Nursery) -> CotunError:
        """Connect again and again; return the error that says that it makes no sense any more.

        Sessions are tasks of the nursery `sessions`, and go on there when this is cancelled.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._uplink.watch, self._network_came_back)
            failure = await self._stay_connected(sessions)
            nursery.cancel_scope.cancel()
        return failure

    async def _stay_connected(self, nursery: trio.Nursery) -> CotunError:
        failed, most = 0, self._settings.max_retry_count
        backoff = Backoff(
            self._settings.max_retry_interval,
            hold=most is None or most < 0,
            shortest=self._settings.min_retry_interval,
        )
        routes: Sequence[Route] = self._settings.routes
        while True:
            session, failures = await self._try_all(nursery, routes, failed)
            routes = self._order(session)
            if session is not None and session.lasted >= STABLE:
                failed = 0
                backoff.start_again()
            if (end := self._end(failures, failed)) is not None:
                return end
            failed += 1
            reached = not all(isinstance(failure, DialFailed) for failure in failures)
            seconds = backoff.draw(trio.current_time(), dialled=self._dialled, reached=reached)
            least = self._pause()
            if least:  # but not all of its clients at once
                seconds = max(seconds, least + random.uniform(0, FIRST_INTERVAL))
            await self._wait(seconds, max(least, backoff.least), failures[-1])

    async def _try_all(
        self, nursery: trio.Nursery, routes: Sequence[Route], failed: int
    ) -> tuple[ClientSession | None, list[CotunError]]:
        """Try one server after the other, until there is a session; live with that.

        Returns the last session, and why it is no use any more; or the failures at all of them.
        """
        failures: list[CotunError] = []
        session = None
        for route in routes:
            until, failure = self._paused.pop(route, (0.0, None))
            if failure is None or until <= trio.current_time():
                session, failure = await self._try(nursery, route, failed)
                if session is not None and session.was_open:
                    return session, [failure]
                until = trio.current_time() + (failure.retry_after or 0.0)
            if failure.retry_after is not None:
                self._paused[route] = until, failure
            failures.append(failure)
        return session, failures

    def _pause(self) -> float:
        """Return for how many seconds none of the servers wants another attempt."""
        routes = self._settings.routes
        if not all(route in self._paused for route in routes):
            return 0.0
        first = min(self._paused[route][0] for route in routes)
        return max(0.0, first - trio.current_time())

    def _order(self, session: ClientSession | None) -> Sequence[Route]:
        """Return the routes in the order for the next round, after this session, if any."""
        if session is None or not session.draining:
            return self._settings.routes
        # The server that is about to end comes last.
        return sorted(self._settings.routes, key=lambda route: route.server is session.url)

    def _end(self, failures: Sequence[CotunError], failed: int) -> CotunError | None:
        """Return the error to end with, after `failed` rounds and another one; None to go on."""
        most = self._settings.max_retry_count
        if most is None:
            return failures[0] if all(failure.fatal for failure in failures) else None
        if 0 <= most <= failed:
            self._log.error("Give up")
            return GaveUp(f"gave up after {failed + 1} attempts: {failures[-1]}")
        return None

    # ---- between two rounds

    async def _wait(self, seconds: float, least: float, failure: CotunError) -> None:
        self._owner.retrying(seconds, failure)
        self._retry = trio.Event()
        # One interface makes for many pieces of news: they share one draw, or the crowd behind it
        # would have the least of many.
        self._patience = random.uniform(0, FIRST_INTERVAL)
        self._not_before = trio.current_time() + least
        self._waiting = trio.move_on_after(seconds)
        with self._waiting:
            await self._retry.wait()

    def _network_came_back(self) -> None:
        """Cut a long wait short, but not so that all clients of a network come at once."""
        soon = max(trio.current_time(), self._not_before) + self._patience
        self._waiting.deadline = min(self._waiting.deadline, soon)

    # ---- one server

    async def _try(
        self, nursery: trio.Nursery, route: Route, failed: int
    ) -> tuple[ClientSession | None, CotunError]:
        """Connect to one server, and live with that as long as it lasts.

        Returns the session, and why it is no use any more.
        """
        log = self._log
        if len(self._settings.routes) > 1:
            log = log.within(server=route.server)
        self._limit_leaving()

        async def dial() -> WireProtocol:
            log.debug("connecting to %s", route.server)
            self._dialled = trio.current_time()
            return await self._uplink.dial(route)

        begin = partial(self._begin, nursery, route.server, log)
        timeout = self._settings.timings.ssh_timeout
        slow = partial(log.info, "Connecting to %s...", route.server)
        attempts = Attempts(self._dialects, dial, begin, log, timeout=timeout, slow=slow)
        session, failure = await attempts.run()
        if session is not None and session.was_open:
            # It does speak this one; but its successor need not.
            others = (each for each in self._settings.dialects if each is not session.dialect)
            self._dialects = (session.dialect, *others)
        self._log_end(session, failure, failed, log)
        return session, failure

    def _limit_leaving(self) -> None:
        """End a session whose server is about to end, where there are too many of them."""
        leaving = [s for s in self.sessions if s.draining and s.failure is None]
        if len(leaving) >= MAX_LEAVING:
            eldest = max(leaving, key=lambda session: session.lasted)
            eldest.fail(ConnectionLost("the server has been about to end for too long"))

    def _begin(
        self,
        nursery: trio.Nursery,
        url: ServerUrl,
        log: Context,
        wire: WireProtocol,
        dialect: Dialect,
        deadline: float,
        reached: Callable[[Stage], None],
    ) -> ClientSession:
        log = log.limited(self._owner.log_limits.of(str(url)))
        number = next(self._numbers)
        session = ClientSession(self._owner, url, wire, dialect, log, reached, number=number)
        self.sessions.add(session)
        nursery.start_soon(self._run_session, session, deadline)
        return session

    async def _run_session(self, session: ClientSession, deadline: float) -> None:
        try:
            await session.run(deadline=deadline)
        except CotunError:
            pass  # `ClientSession.wait_left` gives it to the connector
        except Exception:
            # An error that a server causes ends its session only, here as in the server.
            session.log.exception("internal error, the session is closed")
            session.fail(ConnectionLost("internal error"))
        finally:
            self.sessions.remove(session)
            self.ended_totals.add(session)

    def _log_end(
        self, session: ClientSession | None, failure: CotunError, failed: int, log: Context
    ) -> None:
        most = self._settings.max_retry_count
        level = logging.ERROR if failure.fatal and most is None else logging.WARNING
        facts = {"reason": str(failure), "attempt": failed + 1}
        was_open = session is not None and session.was_open
        log.event("closed" if was_open else "refused", **facts)
        if session is not None and was_open:
            if session.draining:  # the server has announced it
                level = logging.INFO
            log.log(level, "Disconnected: %s", failure, extra={"facts": facts})
        elif isinstance(failure, AuthenticationFailed):
            log.log(level, "Authentication failed: %s", failure, extra={"facts": facts})
        elif isinstance(failure, FingerprintMismatch):
            log.log(level, "%s", failure, extra={"facts": facts})
        else:
            attempt = _show_attempt(failed, most)
            log.log(level, "Connection error: %s%s", failure, attempt, extra={"facts": facts})


def _show_attempt(failed: int, most: int | None) -> str:
    """Return the number of a repeated attempt, in Go's words."""
    if not failed:
        return ""
    return f" (Attempt: {failed}/{'unlimited' if most is None or most < 0 else most})"
