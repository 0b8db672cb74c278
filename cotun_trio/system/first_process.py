"""The first process of a container, which has no default for signals.

The kernel drops a signal that would end process 1 of a PID namespace by default.  So SIGTERM would
do nothing while the program still imports its modules, which takes half a second, and nothing in a
command that has no handler for it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def is_first() -> bool:
    """Return whether this is the first process of a container."""
    return os.getpid() == 1


def end_by_sigterm() -> None:
    """Let SIGTERM end the process as it ends others, until there is another handler.

    It changes the whole process, and so only a program may call this, before all that takes time.
    """
    if is_first():
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)  # the status that a shell has for it
