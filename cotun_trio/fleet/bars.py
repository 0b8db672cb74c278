"""The sources that are barred at present, from memory: a login asks nobody for that."""

from __future__ import annotations

from cotun_trio.access.penalties import MAX_SOURCES


class Bars:
    """Sources, each barred until some time."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def bar(self, source: str, seconds: float, now: float) -> None:
        """Bar a source for so long; a bar that ends later stays."""
        if len(self._until) >= MAX_SOURCES and source not in self._until:
            self._make_room(now)
        self._until[source] = max(self._until.get(source, now), now + seconds)

    def barred(self, source: str, now: float) -> float:
        """Return for how many seconds more a source is barred; 0 if it is not."""
        until = self._until.get(source)
        return 0.0 if until is None else max(until - now, 0.0)

    def _make_room(self, now: float) -> None:
        """Forget the bars that are over; at least the one that began first."""
        self._until = {source: until for source, until in self._until.items() if until > now}
        if len(self._until) >= MAX_SOURCES:
            del self._until[next(iter(self._until))]
