"""Control groups that tests make for a system of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.support.programs import PATIENCE


def remove_group(group: Path) -> None:
    """Remove a control group and those below it, if it is there; what runs in them is killed.

    It blocks until the kernel has let the processes go, for `PATIENCE` seconds at most.
    """
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(FileNotFoundError):  # what has made it has just removed it
            _end_all(Path(directory) / "cgroup.procs")
            Path(directory).rmdir()


def _end_all(processes: Path) -> None:
    """Kill the processes that a file lists, until there are none or `PATIENCE` is over."""
    until = time.monotonic() + PATIENCE
    while (numbers := processes.read_text().split()) and time.monotonic() < until:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(int(number), signal.SIGKILL)
        time.sleep(0.01)
