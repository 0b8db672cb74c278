"""One connection of a client: which server is tried when, and which failures end the client.

The servers are tried in the order in which the user gave them, without a pause between them; that
is a round.  At each server there may be several attempts beside each other, see
`cotun_trio.client.attempts`; together they count once.  Between two rounds there is a wait, see
`cotun_trio.client.backoff`.  It is cut short by `Connector.retry_now`, and by a network that comes
back.

A client can have several of them (`cotun_trio.client.connectors`).  Then each goes to the servers
of its own that `cotun_trio.client.spread` finds, and a failure ends the client only where no
connection has a session.
"""

from __future__ import annotations

import logging
import random
from functools import partial
from typing import TYPE_CHECKING

import trio

from cotun_trio.client.attempts import Attempts
from cotun_trio.client.backoff import FIRST_INTERVAL, Backoff
from cotun_trio.client.session import Stage
from cotun_trio.errors import (
    AuthenticationFailed,
    DialFailed,
    FingerprintMismatch,
    GaveUp,
    SameServer,
)
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.client.running_sessions import RunningSessions
    from cotun_trio.client.session import ClientHost, ClientSession
    from cotun_trio.client.spread import Seeker, Spread
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.errors import CotunError
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.settings import Route
    from cotun_trio.websocket.wire_protocol import WireProtocol

STABLE = 5.0
"""Seconds that a session has to last for the backoff to start again: a server that accepts and then
drops us is no success."""


class Connector:
    """Gives `owner` one session after another, over the connections that `uplink` dials.

    They run in `running`.  `seeker` is the connector's own, among those that `spread` leads.
    """

    def __init__(
        self,
        owner: ClientHost,
        uplink: AnyUplink,
        running: RunningSessions,
        spread: Spread,
        seeker: Seeker,
        log: Context,
    ) -> None:
        self._owner = owner
        self._settings = owner.settings
        self._log = log
        self._uplink = uplink
        self._running = running
        self._spread = spread
        self._seeker = seeker
        self._dialects = owner.settings.dialects
        self._retry = trio.Event()
        self._waiting = trio.CancelScope()
        self._dialled = 0.0  # when the latest attempt began
        self._patience = 0.0  # seconds from the news of a network to the next attempt
        self._not_before = 0.0  # when one of the servers may be asked again
        self._paused: dict[Route, tuple[float, CotunError]] = {}  # until when, and what they said

    def retry_now(self) -> None:
        """Cut the present wait for the next attempt short, whatever the servers have said."""
        self._paused.clear()
        self._retry.set()

    def network_came_back(self) -> None:
        """Cut a long wait short, but not so that all clients of a network come at once."""
        soon = max(trio.current_time(), self._not_before) + self._patience
        self._waiting.deadline = min(self._waiting.deadline, soon)

    def _new_backoff(self) -> Backoff:
        most = self._settings.max_retry_count
        return Backoff(
            self._settings.max_retry_interval,
            hold=most is None or most < 0,
            shortest=self._settings.min_retry_interval,
        )

    async def run(self, nursery: trio.Nursery) -> CotunError:
        """Connect again and again; return the error that says that it makes no sense any more.

        Sessions are tasks of the nursery, and go on there when this is cancelled.
        """
        failed, backoff = 0, self._new_backoff()
        routes: Sequence[Route] = self._settings.routes
        while True:
            session, failures = await self._try_all(nursery, routes, failed)
            if not failures:
                await self._spread.wait(self._seeker)
                failed, backoff = 0, self._new_backoff()
                continue
            routes = self._order(session)
            if session is not None and session.lasted >= STABLE:
                failed = 0
                backoff.start_again()
            if (end := self._end(failures, failed)) is not None:
                if self._spread.gives_up(self._seeker):
                    self._say_end(end)
                    return end
                failed = -1  # it begins again, since others go on
            failed += not _only_missed(failures)
            reached = not all(isinstance(failure, DialFailed) for failure in failures)
            seconds = backoff.draw(trio.current_time(), dialled=self._dialled, reached=reached)
            least = self._pause()
            if least:  # but not all of its clients at once
                seconds = max(seconds, least + random.uniform(0, FIRST_INTERVAL))
            await self._wait(seconds, max(least, backoff.least), failures)

    async def _try_all(
        self, nursery: trio.Nursery, routes: Sequence[Route], failed: int
    ) -> tuple[ClientSession | None, list[CotunError]]:
        """Try one server after the other, until there is a session; live with that.

        Returns the last session, and why it is no use any more; or the failures at all of them,
        except those that other connections try.
        """
        failures: list[CotunError] = []
        session = None
        for route in self._spread.order(self._seeker, routes):
            if not self._spread.take(self._seeker, route):
                continue
            until, failure = self._paused.pop(route, (0.0, None))
            if failure is None or until <= trio.current_time():
                session, failure = await self._try(nursery, route, failed)
                if session is not None and session.was_open:
                    self._seeker.is_fresh = True
                    return session, [failure]
                until = trio.current_time() + (failure.retry_after or 0.0)
            if failure.retry_after is not None:
                self._paused[route] = until, failure
            failures.append(failure)
        self._seeker.is_fresh = False
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
        if _only_missed(failures):
            return None
        most = self._settings.max_retry_count
        if most is None:
            return failures[0] if all(failure.fatal for failure in failures) else None
        if 0 <= most <= failed:
            return GaveUp(f"gave up after {failed + 1} attempts: {failures[-1]}")
        return None

    def _say_end(self, end: CotunError) -> None:
        if isinstance(end, GaveUp):
            self._log.error("Give up")

    # ---- between two rounds

    async def _wait(self, seconds: float, least: float, failures: Sequence[CotunError]) -> None:
        others = [failure for failure in failures if not isinstance(failure, SameServer)]
        if len(others) < len(failures):
            self._spread.missed(self._seeker)
        self._say_wait(seconds, others[-1] if others else None)
        self._owner.retrying(seconds, failures[-1])
        self._retry = trio.Event()
        # One interface makes for many pieces of news: they share one draw, or the crowd behind it
        # would have the least of many.
        self._patience = random.uniform(0, FIRST_INTERVAL)
        self._not_before = trio.current_time() + least
        self._waiting = trio.move_on_after(seconds)
        self._seeker.is_waiting = True
        with self._waiting:
            await self._retry.wait()
        self._seeker.is_waiting = False

    def _say_wait(self, seconds: float, failure: CotunError | None) -> None:
        waiting = format_duration(round(seconds, 3))
        if failure is None:
            self._log.debug("Looking for another server in %s...", waiting)
        else:
            facts = {"seconds": round(seconds, 3), "reason": str(failure)}
            self._log.info("Retrying in %s...", waiting, extra={"facts": facts})

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
        self._running.limit_leaving()

        async def dial() -> WireProtocol:
            log.debug("connecting to %s", route.server)
            self._dialled = trio.current_time()
            return await self._dial(route)

        def begin(
            wire: WireProtocol,
            dialect: Dialect,
            deadline: float,
            reached: Callable[[Stage], None],
        ) -> ClientSession:
            def notice(stage: Stage) -> None:
                reached(stage)
                if stage is Stage.IDENTIFIED:
                    self._check_key(session)
                elif stage is Stage.OPEN:
                    self._spread.found(self._seeker)

            session = self._running.begin(nursery, route, log, wire, dialect, deadline, notice)
            return session

        timeout = self._settings.timings.ssh_timeout
        slow = partial(log.info, "Connecting to %s...", route.server)
        attempts = Attempts(self._dialects, dial, begin, log, timeout=timeout, slow=slow)
        session, failure = await attempts.run()
        if session is not None and session.was_open:
            # It does speak this one; but its successor need not.
            others = (each for each in self._settings.dialects if each is not session.dialect)
            self._dialects = (session.dialect, *others)
        if isinstance(failure, SameServer):
            log.debug("no use: %s", failure)
        else:
            self._log_end(session, failure, failed, log)
        return session, failure

    def _check_key(self, session: ClientSession) -> None:
        try:
            self._spread.check_key(session)
        except SameServer as error:
            session.fail(error)

    async def _dial(self, route: Route) -> WireProtocol:
        taken = frozenset() if route.proxy else self._spread.taken_addresses(route)
        wire = await self._uplink.dial(route, taken)
        try:
            self._spread.check(route, "" if route.proxy else wire.peer_address)
        except SameServer:
            wire.close()
            raise
        return wire

    def _level(self, failure: CotunError) -> int:
        """Return the level of a failure's line: that of an error, where it ends the client."""
        may_end = self._settings.max_retry_count is None and not self._spread.has_session
        return logging.ERROR if failure.fatal and may_end else logging.WARNING

    def _log_end(
        self, session: ClientSession | None, failure: CotunError, failed: int, log: Context
    ) -> None:
        most = self._settings.max_retry_count
        level = self._level(failure)
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


def _only_missed(failures: Sequence[CotunError]) -> bool:
    """Return whether all servers have a session with another connection: that is no fault."""
    return all(isinstance(failure, SameServer) for failure in failures)


def _show_attempt(failed: int, most: int | None) -> str:
    """Return the number of a repeated attempt, in Go's words."""
    if not failed:
        return ""
    return f" (Attempt: {failed}/{'unlimited' if most is None or most < 0 else most})"
