"""Whether a worker answers: seen by the clock, and without its help.

A worker owes an answer while a question (`Ping`) is open, or a connection that it has been given is
not taken.  The age of the oldest of these decides:

* `LATE`: it gets a new connection only where all workers are late, and its untaken connections go
  to workers that are not.  If no question is open, it is asked one.
* `SILENT`: it gets nothing new until it answers.
* When it does not answer and makes no progress for `LOOKS` looks, it is killed.
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
"""Seconds: twice as long as one peer may make another wait.  To take a connection back and give it
to another worker costs two system calls only, so a wrong guess is cheap."""
SILENT = 1.0
"""Seconds: no new connection has to wait for longer than that."""
INTERVAL = 5.0
"""Seconds between two questions to a worker that owes nothing."""
LOOK = 1.0
"""Seconds between two looks at the progress of a worker that has not answered."""
LOOKS = 15
"""Looks without any progress after which it is killed.  Looks are counted, and no time is measured:
after a sleep of the machine, all deadlines are past, but only one look is due."""


class Attention:
    """Watches a worker by its `link`, its connections and its `steps`.

    `run` it.  `news` is called whenever it may have changed whether connections go to the worker.
    """

    def __init__(
        self, link: ControlLink, outgoing: Outgoing, steps: Count, news: Callable[[], None]
    ) -> None:
        self._link = link
        self._outgoing = outgoing
        self._steps = steps
        self._news = news
        self._asked_at = math.inf  # the time since which it owes an answer
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
        """The worker has been given a connection, and has to take it."""
        self._owing.set()

    async def run(self, dead: Callable[[], None]) -> None:
        """Watch until cancelled; call `dead` when the worker makes no progress any more."""
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
            # It has taken all connections that were given before the question: nothing is owed.
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
        """Call `news` where only the passing of time has changed something."""
        while True:
            await self._owing.wait()
            stage = 0
            while (since := self._since) < math.inf:
                before, stage = stage, self.is_late + self.is_silent
                if stage > before:
                    # It owes an answer now as well: it stays late until that comes, even if
                    # its untaken connections are given to others.
                    self._asked_at = since
                    self._in_doubt.set()
                    self._news()
                if stage == 2:
                    break  # time alone changes nothing more, before it answers
                self._answered = trio.Event()
                with trio.move_on_at(since + (SILENT if stage else LATE)):
                    await self._answered.wait()
            self._owing = trio.Event()
