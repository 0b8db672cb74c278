"""Orphans: the children of processes that have ended, in a container.

They become children of its first process.  Where that does not wait for them, each of them stays as
a zombie, until there is no room for another process.  They come from what is run in the container
besides the program: by ``docker exec``, or by a health check that was cut off.

Everywhere else, all of this does nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import trio

from cotun_trio.system.first_process import is_first


class Children:
    """The processes that this one has started, which orphans must not be mistaken for."""

    def __init__(self) -> None:
        self._started: set[trio.Process] = set()
        self._starting = 0

    async def start(self, command: list[str], **options: Any) -> trio.Process:
        """Start a process as `trio.lowlevel.open_process` does; raises what that raises.

        When it is cancelled, the process is not started, or it is among ours all the same.
        """
        self._starting += 1
        try:
            process: trio.Process = await trio.lowlevel.open_process(command, **options)
            if is_first():
                self._started.add(process)
        finally:
            self._starting -= 1
            if is_first():
                self.reap_orphans()  # those that ended meanwhile
        return process

    async def keep_reaping(self) -> None:
        """Reap orphans until cancelled, where they come to this process."""
        if not is_first():
            return
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            self.reap_orphans()
            async for _ in signals:
                self.reap_orphans()

    def reap_orphans(self) -> None:
        """Reap the orphans that have ended."""
        if self._starting:  # one that has just ended may be the one that is started
            return
        # To ask for the status of our own reaps those of them that have ended.
        self._started = {each for each in self._started if each.returncode is None}
        ours = {each.pid for each in self._started}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            # One of our own, that ends in this moment, has a SIGCHLD that is still to come.
            if ended is None or ended.si_pid in ours:
                return
            os.waitpid(ended.si_pid, 0)


children = Children()
"""Those of this process."""
