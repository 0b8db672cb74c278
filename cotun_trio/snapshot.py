"""The present figures of a process, on one line; SIGUSR2 asks for it, as with the Go programs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.session import Session


@attrs.define
class EndedTotals:
    """The totals of sessions that have ended."""

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


@attrs.frozen(kw_only=True)
class Figures:
    """The figures of one process, or of several together."""

    sessions: int = 0
    """Current sessions."""
    ended: int = 0
    """Sessions that have ended."""
    channels: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    tasks: int = 0
    descriptors: int = 0
    """0 where the system does not say; so is the memory."""
    memory: int = 0
    """Bytes."""

    def __add__(self, other: Figures) -> Figures:
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return Figures(**{name: mine[name] + others[name] for name in mine})

    def show(self, uptime: float) -> str:
        """Return the line, after `uptime` seconds."""
        words = [
            f"up {format_duration(round(uptime))}",
            f"{self.sessions} sessions ({self.ended + self.sessions} so far)",
            f"{self.channels} channels",
            f"{show_bytes(self.bytes_out)} sent",
            f"{show_bytes(self.bytes_in)} received",
            f"{self.tasks} tasks",
        ]
        if self.memory:
            words.append(f"{self.descriptors} descriptors")
            words.append(f"{show_bytes(self.memory)} of memory")
        return ", ".join(words)


def figures(ended: EndedTotals, present: Collection[Session]) -> Figures:
    """Return the figures of this process, of its ended and its present sessions."""
    descriptors, memory = _resources()
    return Figures(
        sessions=len(present),
        ended=ended.sessions,
        channels=sum(len(session.connection.channels) for session in present),
        bytes_out=ended.bytes_out + sum(session.wire.bytes_out for session in present),
        bytes_in=ended.bytes_in + sum(session.wire.bytes_in for session in present),
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=descriptors,
        memory=memory,
    )


def snapshot(ended: EndedTotals, present: Collection[Session]) -> str:
    """Return the line, for ended and present sessions."""
    return figures(ended, present).show(time.monotonic() - ended.began)


def _resources() -> tuple[int, int]:
    """Return how many descriptors and bytes the process takes, where the system says so
    (proc(5))."""
    try:
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  one is of the listing
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0, 0
    return descriptors, pages * os.sysconf("SC_PAGE_SIZE")
