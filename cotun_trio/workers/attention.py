"""Whether a worker answers: seen by the clock, and without its help.

A worker owes something while it has not answered a question (`Ping`), and while there is a
connection that it has not taken.  How long it has owed the oldest of that is a property that grows
with the clock, whether anybody looks or not.  What follows from it:

* `LATE`: it gets a new connection only where all are late, and what it has not taken others get
  that are not.  If nobody has asked it yet, it is asked.
* `SILENT`: it gets nothing new until it answers.
* When it does not answer and makes no progress for so many looks, it is killed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from cotun_trio.workers import control
from cotun_trio.workers.control_link import LinkLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.counts import Count
    from cotun_trio.workers.control_link import ControlLink
    from cotun_trio.workers.handover import Outgoing

LATE = 0.2
"""Seconds: twice what one peer may make another wait.  To take a connection back and give it to
another worker costs two system calls, so that this can be short of what is certain."""
SILENT = 1.0
"""Seconds: nobody who connects has to wait for longer than that."""
INTERVAL = 5.0
"""Seconds between two questions to a worker that owes nothing."""
LOOK = 1.0
"""Seconds between two looks at the progress of a worker that has not answered."""
LOOKS = 15
"""Looks without any progress after which it is killed.  They are counted rather than their time is
measured: after a sleep of the machine all deadlines are past, but only one look is due."""


class Attention:
    """Watches a worker by its `link`, its connections and its `steps`.

    `run` it.  `news` is called whenever it may have changed what the worker can be given.
    """

    def __init__(
        self, link: ControlLink, outgoing: Outgoing, steps: Count, news: Callable[[], None]
    ) -> None:
        self._link = link
        self._outgoing = outgoing
        self._steps = steps
        self._news = news
        self._asked_at = math.inf  # since when it owes an answer
        self._owing = trio.Event()
        self._in_doubt = trio.Event()
        self._answered = trio.Event()

    @property
    def is_late(self) -> bool:
        """Whether it has owed something for `LATE`."""
        return trio.current_time() >= self._since + LATE

    @property
    def is_silent(self) -> bool:
        """Whether it has owed something for `SILENT`."""
        return trio.current_time() >= self._since + SILENT

    @property
    def _since(self) -> float:
        return min(self._asked_at, self._outgoing.since)

    def given(self) -> None:
        """The worker has been given a connection, and owes it to us to take it."""
        self._owing.set()

    async def run(self, dead: Callable[[], None]) -> None:
        """Watch until cancelled; call `dead` where the worker makes no progress any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_now_and_then, dead)
            nursery.start_soon(self._mind_the_clock)
            while True:
                await self._outgoing.regain_room()
                self._news()

    # ---- questions

    async def _ask_now_and_then(self, dead: Callable[[], None]) -> None:
        while True:
            with trio.move_on_after(INTERVAL):
                await self._in_doubt.wait()
            await self._ask(dead)
            self._answered.set()
            self._owing.set()
            self._news()

    async def _ask(self, dead: Callable[[], None]) -> None:
        """Wait for an answer, however long it takes: a late one is as good as any."""
        self._asked_at = min(self._since, trio.current_time())
        self._owing.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_progress, dead)
            try:
                await self._link.ask(control.Ping(), control.Done)
            except LinkLost:
                await trio.sleep_forever()  # the pool notices, too, and ends this
            # All has been taken that was given before the question, so that there is no doubt.
            self._asked_at = math.inf
            self._in_doubt = trio.Event()
            nursery.cancel_scope.cancel()

    async def _look_for_progress(self, dead: Callable[[], None]) -> None:
        before, in_vain = self._steps.own, 0
        while in_vain < LOOKS:
            await trio.sleep(LOOK)
            now = self._steps.own
            in_vain = in_vain + 1 if now == before else 0
            before = now
        dead()

    # ---- the clock

    async def _mind_the_clock(self) -> None:
        """Tell the news that come from nothing but the time."""
        while True:
            await self._owing.wait()
            stage = 0
            while (since := self._since) < math.inf:
                before, stage = stage, self.is_late + self.is_silent
                if stage > before:
                    # It owes an answer as well now: it stays late until there is one, even if
                    # the connections that it owes are given to others.
                    self._asked_at = since
                    self._in_doubt.set()
                    self._news()
                if stage == 2:
                    break  # there is nothing more to come of the time, before it answers
                self._answered = trio.Event()
                with trio.move_on_at(since + (SILENT if stage else LATE)):
                    await self._answered.wait()
            self._owing = trio.Event()
