"""A worker, as its supervisor sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.workers import control

if TYPE_CHECKING:
    import socket

    from cotun_trio.logs import Context
    from cotun_trio.stats import Count
    from cotun_trio.workers.link import Link

INTERVAL = 5.0
"""Seconds between two questions whether it is there, and for each answer."""
MISSES = 3
"""Unanswered ones after which it is killed: its event loop does not run any more.  Not a single
one: a machine that has been asleep finds all deadlines past."""


class Member:
    """A worker with this number, and with this slot in the shared memory.

    `served` counts the connections that have ended there.
    """

    def __init__(
        self, number: int, slot: int, process: trio.Process, link: Link, served: Count
    ) -> None:
        self.number = number
        self.slot = slot
        self.process = process
        self.link = link
        self.sessions = 0
        self.kept = False
        """Whether another one has to take its place when it ends."""
        self.retired = False
        """Whether it has been told to end."""
        self.problem = ""
        """Why it cannot serve."""
        self.is_ready = False
        self.settled = trio.Event()
        """It is ready, or has ended."""
        self.ended = trio.Event()
        self._served = served
        self._given = 0
        self._missed = 0

    @property
    def load(self) -> int:
        """See `cotun_trio.workers.roster.Candidate`."""
        return self._given - self._served.own

    @property
    def answers(self) -> bool:
        """See `cotun_trio.workers.roster.Candidate`."""
        return not self._missed

    def give(self, connection: control.Connection, sock: socket.socket) -> None:
        """Have it serve a connection."""
        self._given += 1
        self.link.send(connection, sock)

    def retire(self) -> None:
        """Have it end, when what it has open has ended, or its time is over."""
        self.kept = False
        if not self.retired:
            self.retired = True
            self.link.send(control.Drain())

    def now_ready(self) -> None:
        """It can be given connections."""
        self.is_ready = True
        self.settled.set()

    def now_ended(self) -> None:
        """It is gone."""
        self.settled.set()
        self.ended.set()

    async def watch(self, log: Context) -> None:
        """Ask again and again whether it is there, and kill it when it is not.

        Raises `LinkLost` when its process has ended.
        """
        while True:
            await trio.sleep(INTERVAL)
            with trio.move_on_after(INTERVAL) as waiting:
                await self.link.ask(control.Ping(), control.Done)
                self._missed = 0
            if waiting.cancelled_caught:
                self._missed += 1
                if self._missed >= MISSES:
                    log.warning("worker %d does not answer any more", self.number)
                    self.process.kill()
