"""A worker that has too much to do, or hangs, when it is handed a connection from a certain port.

It is a program: a test runs it in place of ``cotun_trio.workers``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cotun_trio.workers import worker

if TYPE_CHECKING:
    from cotun_trio.workers.handover import Connection

BUSY, STUCK = 1, 2
"""The ports."""
WHILE = "BUSY_WHILE"
"""The environment variable with the path of a file: the worker is busy while that exists."""
TURNS, TURN = 3000, 0.02
"""How many tasks have a turn before anything else has, and how many seconds that takes each."""


class BusyListening(worker.LinkListening):
    """Where a worker has those two weaknesses."""

    def serve_connection(self, connection: Connection, descriptor: int) -> None:
        """See `LinkListening`."""
        if connection.port == STUCK:
            while True:
                pass
        os.close(descriptor)
        if connection.port != BUSY:
            self._served.add(1)
            return
        self._is_busy = False
        for _ in range(TURNS):
            trio.lowlevel.spawn_system_task(self._turn)

    async def _turn(self) -> None:
        if not self._is_busy:  # the first of them: nothing else has a turn from here on
            self._is_busy = True
            self._served.add(1)
        if Path(os.environ[WHILE]).exists():
            time.sleep(TURN)


if __name__ == "__main__":
    worker.LinkListening = BusyListening  # type: ignore[misc]
    worker.main(sys.argv[1:])
