"""The order in which passwords are checked; each check may take a second of a processor.

A source with wrong checks of late waits for sources with fewer wrong ones, and for sources that
have logged in before.  Among equals, the one that came last goes first: where they wait at all
there are too many, and the ones that came first are the nearest to their deadlines.  So thirty
guessers hold a good login up for no longer than the check that is running.  That holds for the
first guess of each, too, which cannot be known as one yet.  The one that has waited longest is
passed over `PATIENCE` times in a row at most: no source waits for ever.

A source is checked by one thread at a time.  One that has gone away keeps its thread busy all the
same, and does not get another one before that is done.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

PATIENCE = 8
"""Turns that others have before the one that has waited longest."""
FORGET = 600.0
"""Seconds after its last wrong check for which a source waits for others."""
MAX_SOURCES = 65_536
"""Sources that are remembered for wrong checks, and as many for good ones, some 10 MB each.  An
attacker with more sources than that has as many unknown ones anyway."""


@attrs.define(eq=False)
class Turn:
    """A source's turn.  `go` is called when it has come."""

    source: str
    go: Callable[[], None]


@attrs.define
class _Wrong:
    """A source's wrong checks, the last one at the time `last`."""

    count: int = 0
    last: float = -math.inf


class LoginQueue:
    """Gives turns, up to `threads` at a time.

    A source waits for one turn at most.  Times are seconds of a clock that does not go backwards.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._running: set[str] = set()  # sources that have a thread
        self._waiting: dict[str, Turn] = {}  # in the order in which they came
        self._passed_over = 0  # turns since the first source in line could have had one
        self._wrong: dict[str, _Wrong] = {}  # the last one comes last
        self._good: dict[str, None] = {}  # sources that have logged in, the last one last

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, source: str, now: float, go: Callable[[], None]) -> Turn:
        """Wait for a turn of `source`; it may come at once.  `done` or `give_up` has to follow."""
        assert source not in self._waiting
        turn = self._waiting[source] = Turn(source, go)
        self._serve(now)
        return turn

    def give_up(self, turn: Turn) -> None:
        """Wait no more."""
        if self._waiting.get(turn.source) is turn:
            del self._waiting[turn.source]

    def done(self, turn: Turn, now: float, *, right: bool | None) -> None:
        """Note that the thread is free, and whether the password was right; None: not checked."""
        source = turn.source
        self._running.remove(source)
        if right:
            _remember(self._good, source, None)
        elif right is not None:
            wrong = _Wrong(self._wrong_checks(source, now) + 1, now)
            _remember(self._wrong, source, wrong)
        self._serve(now)

    def _serve(self, now: float) -> None:
        while len(self._running) < self._threads:
            ready = [turn for turn in self._waiting.values() if turn.source not in self._running]
            if not ready:
                return
            # The first of the best ones, seen from the end: the one that came last.
            best = min(reversed(ready), key=lambda turn: self._rank(turn.source, now))
            if best is ready[0] or self._passed_over >= PATIENCE:
                best = ready[0]
                self._passed_over = 0
            else:
                self._passed_over += 1
            del self._waiting[best.source]
            self._running.add(best.source)
            best.go()

    def _rank(self, source: str, now: float) -> tuple[int, bool]:
        return self._wrong_checks(source, now), source not in self._good

    def _wrong_checks(self, source: str, now: float) -> int:
        wrong = self._wrong.get(source)
        return 0 if wrong is None or now - wrong.last > FORGET else wrong.count


def _remember(table: dict[str, _T], source: str, value: _T) -> None:
    """Put it last, and forget the first where there are too many."""
    table.pop(source, None)
    table[source] = value
    if len(table) > MAX_SOURCES:
        del table[next(iter(table))]
