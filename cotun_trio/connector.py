"""Staying connected: which server is tried when, and what is no use to be tried again.

The servers are tried in the order in which the user gave them, without a pause between them; that
is a round.  Between two rounds there is a wait, with exponential backoff and full jitter, so that a
thousand clients that lost the same server do not come back in the same moment.  It is cut short by
`Connector.retry_now`, and by a network that comes back.

A session is a task of its own, and may outlive its place here: a server of our kind that is about
to end says so, and then the next session is looked for while the streams of this one end.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from cotun_trio.client_session import ClientSession
from cotun_trio.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CotunError,
    FingerprintMismatch,
    GaveUp,
    UpgradeRefused,
)
from cotun_trio.snapshot import Past
from cotun_trio.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client_session import Owner
    from cotun_trio.logs import Context
    from cotun_trio.settings import Way
    from cotun_trio.uplink import AnyUplink

FIRST_INTERVAL = 3.0
"""Seconds: the longest wait before the first retry; it doubles with each round that fails.  Over a
shorter one a crowd of clients would be too dense: so a tenth of a second has 3 % of them, and even
of a hundred hardly ever more than 10."""
STABLE = 5.0
"""Seconds that a session has to last for the backoff to start again: a server that accepts and then
drops us is no success."""

MAX_LEAVING = 16
"""Sessions whose servers are about to end: one that says so again and again, and never does, shall
not have more of us than that."""


class Connector:
    """Gives `owner` one session after another, over the connections that `uplink` dials.

    Raises `UsageError` where the TLS files of its settings cannot be used.
    """

    def __init__(self, owner: Owner, uplink: AnyUplink | None = None) -> None:
        self.sessions: set[ClientSession] = set()
        """Those that there are, open or not."""
        self.past = Past()
        """Those that there were."""
        self._owner = owner
        self._settings = owner.settings
        self._log = owner.log
        self._uplink = uplink or Uplink(owner.settings, owner.scratch)
        self._dialects = owner.settings.dialects
        self._retry = trio.Event()
        self._waiting = trio.CancelScope()
        self._patience = 0.0  # seconds from the news of a network to the next attempt

    def retry_now(self) -> None:
        """Cut the present wait for the next attempt short."""
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
        ways: Sequence[Way] = self._settings.ways
        while True:
            failures: list[CotunError] = []
            for way in ways:
                session, failure = await self._try(nursery, way, failed)
                failures.append(failure)
                if session is not None and session.was_open:
                    failures = [failure]
                    break
            # Not the one that is about to end, if there is another.
            ways = self._settings.ways
            if session is not None and session.draining:
                ways = [*(other for other in ways if other is not way), way]
            if session is not None and session.lasted >= STABLE:
                failed = 0
            if most is None and all(failure.fatal for failure in failures):
                return failures[0]
            if most is not None and 0 <= most <= failed:
                self._log.info("Give up")
                return GaveUp(f"gave up after {failed + 1} attempts: {failures[-1]}")
            # 2³⁰ s is far above any interval, and far below what a float can hold.
            interval = min(FIRST_INTERVAL * 2 ** min(failed, 30), self._settings.max_retry_interval)
            failed += 1
            await self._wait(random.uniform(0, interval), failures[-1])

    # ---- between two rounds

    async def _wait(self, seconds: float, failure: CotunError) -> None:
        self._owner.retrying(seconds, failure)
        self._retry = trio.Event()
        # One interface makes for many pieces of news: they share one draw, or the crowd behind it
        # would have the least of many.
        self._patience = random.uniform(0, FIRST_INTERVAL)
        self._waiting = trio.move_on_after(seconds)
        with self._waiting:
            await self._retry.wait()

    def _network_came_back(self) -> None:
        """Cut a long wait short, but not so that all who share the network come at once."""
        soon = trio.current_time() + self._patience
        self._waiting.deadline = min(self._waiting.deadline, soon)

    # ---- one attempt

    async def _try(
        self, nursery: trio.Nursery, way: Way, failed: int
    ) -> tuple[ClientSession | None, CotunError]:
        """Connect to one server, and live with that as long as it lasts.

        Returns the session, and why it is no use any more.
        """
        log = self._log
        if len(self._settings.ways) > 1:
            log = log.within(server=way.server)
        leaving = [s for s in self.sessions if s.draining and s.failure is None]
        if len(leaving) >= MAX_LEAVING:
            eldest = max(leaving, key=lambda session: session.lasted)
            eldest.fail(ConnectionLost("the server has been about to end for too long"))
        session: ClientSession | None = None
        failure: CotunError = ConnectionLost("no attempt")
        for dialect in self._dialects:
            try:
                log.debug("connecting to %s", way.server)
                session = ClientSession(
                    self._owner,
                    way.server,
                    await self._uplink.dial(way),
                    dialect,
                    log.limited(self._owner.log_limits.of(str(way.server))),
                )
            except CotunError as error:
                failure = error
                break
            self.sessions.add(session)
            nursery.start_soon(self._run_session, session)
            failure = await session.wait_left()
            if session.was_open:
                # It does speak this one; but its successor need not.
                others = (other for other in self._settings.dialects if other is not dialect)
                self._dialects = (dialect, *others)
            if not isinstance(failure, UpgradeRefused):
                break  # or perhaps it speaks the other dialect
        self._log_end(session, failure, failed, log)
        return session, failure

    async def _run_session(self, session: ClientSession) -> None:
        deadline = trio.current_time() + self._settings.timings.ssh_timeout
        try:
            await session.run(deadline=deadline)
        except CotunError:
            pass  # it is told to whoever waits for its end
        except Exception:
            # Whatever a server makes us do ends with its session, here as in the server.
            session.log.error("internal error, the session is closed")
            session.log.debug("what happened", exc_info=True)
            session.fail(ConnectionLost("internal error"))
        finally:
            self.sessions.remove(session)
            self.past.add(session)

    def _log_end(
        self, session: ClientSession | None, failure: CotunError, failed: int, log: Context
    ) -> None:
        if session is not None and session.was_open:
            log.info("Disconnected: %s", failure)
        elif isinstance(failure, AuthenticationFailed):
            log.info("Authentication failed: %s", failure)
        elif isinstance(failure, FingerprintMismatch):
            log.info("%s", failure)
        else:
            most = self._settings.max_retry_count
            attempt = f" (Attempt: {failed}/{'unlimited' if most is None or most < 0 else most})"
            log.info("Connection error: %s%s", failure, attempt if failed else "")
