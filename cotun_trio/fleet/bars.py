"""The sources that are barred at present, from memory: a login asks nobody for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.access.penalties import MAX_SOURCES
from cotun_trio.fleet.entries import Barred

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.fleet.entries import Lifted


class Bars:
    """Sources, each barred until some time."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lifted: Callable[[str], object] = lambda _source: None

    def notify(self, lifted: Callable[[str], object]) -> None:
        """Have `lifted` called with each source whose bar is lifted, here or at another node."""
        self._lifted = lifted

    def bar(self, source: str, seconds: float, now: float) -> None:
        """Bar a source for so long; a bar that ends later stays."""
        if len(self._until) >= MAX_SOURCES and source not in self._until:
            self._make_room(now)
        self._until[source] = max(self._until.get(source, now), now + seconds)

    def barred(self, source: str, now: float) -> float:
        """Return for how many seconds more a source is barred; 0 if it is not."""
        until = self._until.get(source)
        return 0.0 if until is None else max(until - now, 0.0)

    def hear(self, entry: Barred | Lifted, now: float) -> None:
        """Take an entry of the stream."""
        if isinstance(entry, Barred):
            self.bar(entry.source, entry.seconds, now)
        else:
            self.lift(entry.source)

    def lift(self, source: str) -> None:
        """Let a source in again."""
        self._until.pop(source, None)
        self._lifted(source)

    def present(self, now: float) -> list[tuple[str, float]]:
        """Return the sources that are barred, each with its seconds."""
        return [(source, until - now) for source, until in self._until.items() if until > now]

    def _make_room(self, now: float) -> None:
        """Forget the bars that are over; at least the one that began first."""
        self._until = {source: until for source, until in self._until.items() if until > now}
        if len(self._until) >= MAX_SOURCES:
            del self._until[next(iter(self._until))]
