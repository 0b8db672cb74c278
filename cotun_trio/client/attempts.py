"""Attempts to get a session from one server, several beside each other where nothing comes back.

A network that drops packets leaves an attempt in the dark.  When the network is healed, that
attempt does not know: its SYN is repeated after 1, 3, 7, 15 and 31 s (RFC 6298), its bytes as
seldom.  So another attempt begins beside one from which nothing has come for `SILENCE`, in the same
way: with the same server, proxy and dialects.  A new one every 3 s, whose SYN is repeated after 1
s, leaves no more than 2 s in which nothing is sent.

How they get on with each other:

* The attempt that gets further ends the ones behind it.  Only one ever agrees on keys, and so
  logs in: a server never sees two logins of one client, and never hashes a password twice.
  From there on there is one session, with its own time limits, as if there had been no other.
* The first one is ended by another that gets further, never because it is old: a server or a
  proxy that takes ten seconds for its first byte is reached as it would be without all this.  The
  second one makes room for a third if it still dials.  If it is connected, no third begins: a
  server that is too busy to answer is not asked again and again.
* Where a dial fails, all attempts that still dial end with it: they would fail in the same way.  A
  connection that fails ends alone, since a server with a limit may have turned it away because of
  the others. After any failure no more begin.
* A failure that is `fatal` ends them all.
* The time limit of a login counts from the first connection on, for all of them: a server that
  stalls does not win time by being asked again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.session import Stage
from cotun_trio.errors import ConnectionLost, CotunError, DialFailed, UpgradeRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cotun_trio.client.session import ClientSession
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.websocket.wire_protocol import WireProtocol

SILENCE = 3.0
"""Seconds without a byte after which another attempt begins beside the present ones: longer than
any round trip.  When a network is healed, a crowd of clients behind it comes back with 7 % in a
tenth of a second: 3 % by the attempts that begin then, as many by repeated SYNs.  In the first
moment there may be 3 % more, by the SYNs of their first attempts."""
SLOW = 1.0
"""Seconds without keys after which the log says what the client is doing."""
MAX_BESIDE = 2
"""Attempts at a time.  With more of them, several SYNs of one client would get through in the same
moment, since the system repeats them in the same rhythm, and a crowd would be denser by that."""


@attrs.define(eq=False)
class _Attempt:
    """One of them."""

    scope: trio.CancelScope
    stage: Stage = Stage.DIALLING
    session: ClientSession | None = None
    noticed: int = 0
    """Bytes that had come when it was last looked at."""

    def look(self) -> bool:
        """Return whether bytes have come since the last look."""
        before = self.noticed
        self.noticed = 0 if self.session is None else self.session.wire.bytes_in
        return self.noticed != before

    def give_up(self) -> None:
        """End it, for another one."""
        self.scope.cancel()
        if self.session is not None:
            self.session.fail(ConnectionLost("another attempt got further"))


class Attempts:
    """The attempts of one round at one server.

    `dialects` are offered in turn, until the server takes one.  `dial` returns a new connection,
    and `begin` starts a session on it, which has to be open at a time of Trio's clock, and to tell
    how far it gets.  `timeout` is for that, in seconds from the first connection on.  `slow` is
    called where the server has not proved its key after `SLOW`.
    """

    def __init__(
        self,
        dialects: Sequence[Dialect],
        dial: Callable[[], Awaitable[WireProtocol]],
        begin: Callable[[WireProtocol, Dialect, float, Callable[[Stage], None]], ClientSession],
        log: Context,
        *,
        timeout: float,
        slow: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialects = dialects
        self._dial = dial
        self._begin = begin
        self._log = log
        self._timeout = timeout
        self._slow = slow
        self._deadline = math.inf  # when one has to be open, once one is connected
        self._present: list[_Attempt] = []  # the oldest first
        self._looking = trio.CancelScope()
        self._silent_since = 0.0
        self._outcome: tuple[ClientSession | None, CotunError] = None, ConnectionLost("no attempt")

    async def run(self) -> tuple[ClientSession | None, CotunError]:
        """Connect, and live with the session as long as it lasts.

        Returns the session, which has never been open where none of the attempts got through, and
        why it is no use any more.  When cancelled, connections that are being made are closed; a
        session goes on.
        """
        async with trio.open_nursery() as nursery:
            self._start(nursery)
            with self._looking:
                await trio.sleep(SLOW)  # which is less than `SILENCE`
                self._slow()
                while True:
                    await trio.sleep_until(self._silent_since + SILENCE)
                    if self._is_silent():
                        self._start(nursery)
        return self._outcome

    def _is_silent(self) -> bool:
        """Return whether nothing has come for `SILENCE`.

        When bytes came is not known to the moment, only that they did since the last look.
        """
        looks = [attempt.look() for attempt in self._present]
        if any(looks):
            self._silent_since = trio.current_time()
        return trio.current_time() >= self._silent_since + SILENCE

    def _start(self, nursery: trio.Nursery) -> None:
        """Start another attempt, if there is room for one."""
        self._silent_since = trio.current_time()
        if len(self._present) >= MAX_BESIDE:
            dialling = [a for a in self._present[1:] if a.stage is Stage.DIALLING]
            if not dialling:
                return
            self._give_up(dialling[:1])
        if self._present:
            self._log.debug("no answer for %g s: trying again beside that", SILENCE)
        attempt = _Attempt(trio.CancelScope(deadline=self._deadline))
        self._present.append(attempt)
        nursery.start_soon(self._run, attempt)

    async def _run(self, attempt: _Attempt) -> None:
        failure: CotunError = ConnectionLost("the login took too long")
        with attempt.scope:
            failure = await self._connect(attempt)
        if attempt not in self._present:
            return  # it was given up, and how it ended says nothing
        self._present.remove(attempt)
        self._looking.cancel()
        self._outcome = attempt.session, failure
        if failure.fatal:
            self._give_up(self._present)
        elif isinstance(failure, DialFailed):
            self._give_up([a for a in self._present if a.stage is Stage.DIALLING])

    async def _connect(self, attempt: _Attempt) -> CotunError:
        """Dial, and have a session; return why that has ended."""
        failure: CotunError = ConnectionLost("no dialect")
        for dialect in self._dialects:
            try:
                wire = await self._dial()
            except CotunError as error:
                return error
            if attempt not in self._present:  # it was given up while the dial was succeeding
                wire.close()
                break
            self._connected(attempt)
            attempt.session = self._begin(
                wire, dialect, self._deadline, lambda stage: self._reached(attempt, stage)
            )
            failure = await attempt.session.wait_left()
            if not isinstance(failure, UpgradeRefused) or failure.retry_after is not None:
                break  # or perhaps it speaks the other dialect
        return failure

    def _connected(self, attempt: _Attempt) -> None:
        """Leave the time limit to the session from now on."""
        if self._deadline == math.inf:
            self._deadline = trio.current_time() + self._timeout
        attempt.scope.deadline = math.inf
        self._reached(attempt, Stage.CONNECTED)

    def _reached(self, attempt: _Attempt, stage: Stage) -> None:
        """Let the attempts that are behind `attempt` end.  Called before its next step."""
        if attempt not in self._present or stage <= attempt.stage:
            return
        attempt.stage = stage
        self._silent_since = trio.current_time()
        self._give_up([other for other in self._present if other.stage < stage])
        if stage is Stage.KEYS_AGREED:
            self._looking.cancel()

    def _give_up(self, attempts: Sequence[_Attempt]) -> None:
        given_up = list(attempts)
        self._present = [a for a in self._present if a not in given_up]
        for attempt in given_up:
            attempt.give_up()
