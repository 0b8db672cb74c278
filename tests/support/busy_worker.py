"""A worker that has too much to do, or hangs, when it is handed a connection from a certain port.

It is a program: a test runs it in place of ``cotun_trio.workers``.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import trio

from cotun_trio.workers import worker

if TYPE_CHECKING:
    from cotun_trio.workers.handover import Connection

BUSY, STUCK = 1, 2
"""The ports."""
TURNS, TURN = 100, 0.05
"""How many tasks have a turn before anything else has, and how many seconds that takes each."""


class BusyWorker(worker.Worker):
    """A worker with those two weaknesses."""

    def _serve_connection(self, connection: Connection, descriptor: int) -> None:
        if connection.port == STUCK:
            while True:
                pass
        os.close(descriptor)
        trio.lowlevel.spawn_system_task(self._count_served)
        for _ in range(TURNS if connection.port == BUSY else 0):
            trio.lowlevel.spawn_system_task(self._turn)

    async def _count_served(self) -> None:
        # In the round after that in which it was taken, which is the busy one.
        self._served.own += 1

    async def _turn(self) -> None:
        time.sleep(TURN)


if __name__ == "__main__":
    worker.Worker = BusyWorker  # type: ignore[misc]
    worker.main(sys.argv[1:])
