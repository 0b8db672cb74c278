"""Events: the happenings that administrators want to hear of, beside the lines of the log.

An event has a kind, a number and facts, all for programs.  They are kept only where somebody has
asked for them with `record_events`, and then the latest `KEPT`; a flood by one source does not push
out all the others, since each has a limit for each kind.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping  # noqa: TC003  the schema of an event has it

import attrs
import trio

from cotun_trio.logs.rates import Rates

KEPT = 1000
"""Events that are kept; the eldest are dropped first."""
PER_SECOND = 10
"""Events of one kind that one source may cause in a second."""
MAX_FACT = 300
"""Characters of a fact; it ends there."""


@attrs.frozen
class Event:
    """An event of a server or a client."""

    number: int
    """1 for the first, and so on without a gap."""
    at: float
    """Seconds since 1970."""
    kind: str
    """``opened``, ``closed``, ``refused``, ``kicked``, ``reloaded``, ``lifted``, ``log-level``,
    ``worker-ready`` or ``worker-ended``."""
    role: str
    """``server`` or ``client``."""
    facts: Mapping[str, str]
    """The context, as the log has it (``session``, ``user``, ``peer``, ...), and more; escaped."""


class Events:
    """The latest events, and how many there have been."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._rates = Rates(PER_SECOND)
        self._news = trio.lowlevel.ParkingLot()
        self.last = 0
        """The number of the latest one; 0 where there was none."""

    def add(
        self, kind: str, role: str, facts: Mapping[str, object], at: float | None = None
    ) -> None:
        """Note an event of now, unless its source has had too many of its kind in this second.

        `at` is for one that comes from another process: its time there.
        """
        words = {name: str(value)[:MAX_FACT] for name, value in facts.items()}
        source = words.get("client") or words.get("peer") or words.get("server", "")
        self._rates.turn(time.monotonic())
        if self._rates.admits(f"{kind} {source.rpartition(':')[0] or source}"):
            self.last += 1
            self._kept.append(Event(self.last, at or time.time(), kind, role, words))
            self._news.unpark_all()

    def after(self, number: int) -> list[Event]:
        """Return the events that are kept and newer than the one with this number."""
        newer = min(self.last - number, len(self._kept))
        return [self._kept[index] for index in range(-newer, 0)] if newer > 0 else []

    async def news(self) -> None:
        """Wait for the next event.  Can be cancelled at any time."""
        await self._news.park()


_events: trio.lowlevel.RunVar[Events] = trio.lowlevel.RunVar("events")


def record_events() -> Events:
    """Return the events of this Trio run, which are recorded from the first call on."""
    try:
        return _events.get()
    except LookupError:
        made = Events()
        _events.set(made)
        return made


def recorded() -> Events | None:
    """Return the events of this Trio run; None where nobody has asked for them."""
    try:
        return _events.get()
    except (LookupError, RuntimeError):  # RuntimeError: there is no run
        return None
