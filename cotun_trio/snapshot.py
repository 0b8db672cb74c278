"""What a process is doing, on one line; SIGUSR2 asks for it, as with the Go programs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.durations import format_duration
from cotun_trio.stats import show_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.session import Session


@attrs.define
class Past:
    """What sessions that have ended have carried."""

    began: float = attrs.field(factory=time.monotonic)
    """When it all began, on the monotonic clock."""
    sessions: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, session: Session) -> None:
        """Count one that has ended, unless it was never open."""
        if not session.was_open:
            return
        self.sessions += 1
        self.bytes_in += session.wire.bytes_in
        self.bytes_out += session.wire.bytes_out


def snapshot(past: Past, present: Collection[Session]) -> str:
    """Return the line, for sessions that have ended and those that there are."""
    sent = past.bytes_out + sum(session.wire.bytes_out for session in present)
    received = past.bytes_in + sum(session.wire.bytes_in for session in present)
    channels = sum(len(session.connection.channels) for session in present)
    words = [
        f"up {format_duration(round(time.monotonic() - past.began))}",
        f"{len(present)} sessions ({past.sessions + len(present)} so far)",
        f"{channels} channels",
        f"{show_bytes(sent)} sent",
        f"{show_bytes(received)} received",
        f"{trio.lowlevel.current_statistics().tasks_living} tasks",
    ]
    return ", ".join(words + _resources())


def _resources() -> list[str]:
    """Return what the process takes, where the system says so (proc(5))."""
    try:
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  one is of the listing
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return []
    return [
        f"{descriptors} descriptors",
        f"{show_bytes(pages * os.sysconf('SC_PAGE_SIZE'))} of memory",
    ]
