"""A worker's reports for the admin interface, which its supervisor has: answers, and events."""

from __future__ import annotations

import inspect
import json
import math
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.admin.watched import Watched
from cotun_trio.logs.events import record_events, recorded
from cotun_trio.workers import control, values
from cotun_trio.workers.control_link import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.logs import Context
    from cotun_trio.workers.control_link import ControlLink

PART = 256 * 1024
"""Bytes of the items in one message, except the last of them: some milliseconds of work."""
MARGIN = 1024
"""Bytes of a message besides its items."""
PAUSE = 0.5
"""Seconds between two rounds of events, each at most as many as are kept: the supervisor has the
events of all workers to read, and connections to accept."""
_METHODS = frozenset(
    name for name, method in vars(Watched).items() if inspect.iscoroutinefunction(method)
)


class Reports:
    """Reports by `link` about `shown`, the server in this process."""

    def __init__(self, shown: Watched, link: ControlLink, log: Context) -> None:
        self._shown = shown
        self._link = link
        self._log = log
        self._reported = 0  # the number of the last event that was reported

    async def answer(self, look: control.Look, number: int) -> None:
        """Answer a look; where that fails by an error of ours, it is logged, and not answered."""
        log = self._log
        try:
            for part, more in _parts(await self._see(look)):
                self._link.send(control.Seen(tuple(part), more), number=number)
                await self._link.all_sent(math.inf)
        except Exception:
            log.exception("internal error, an administrator gets no answer")

    async def _see(self, look: control.Look) -> list[Any]:
        """Return the items of what a method returns: those of a list, or its one value."""
        if look.name not in _METHODS:
            raise LookupError(look.name)
        found = await getattr(self._shown, look.name)(*look.arguments)
        items = found if isinstance(found, list | tuple) else [found]
        return [values.pack(item) for item in items]

    async def run(self) -> None:
        """Have events recorded, and report them, until cancelled."""
        events = record_events()
        while True:
            if events.last == self._reported:
                await events.news()
            self.report_events()
            await self._link.all_sent(math.inf)
            await trio.sleep(PAUSE)

    def report_events(self) -> None:
        """Report the events that have not been reported, where they are recorded."""
        events = recorded()
        if events is None:
            return
        for event in events.after(self._reported):
            self._link.send(control.Happened(event.at, event.kind, dict(event.facts)))
        self._reported = events.last


def _parts(items: list[Any]) -> Iterator[tuple[list[Any], bool]]:
    """Return the items in parts that fit a message, each with whether there are more.

    There are no more parts than the link takes: the rest is left out.  Raises `ValueError` for an
    item that does not fit a message.
    """
    part: list[Any] = []
    parts, size = 1, 0
    for item in items:
        if size >= PART:
            if parts == MAX_PARTS:
                break
            yield part, True
            parts, part, size = parts + 1, [], 0
        length = len(json.dumps(item))
        if length > control.MAX_BODY - PART - MARGIN:
            raise ValueError("an item is too long for a message")
        part.append(item)
        size += length
    yield part, False
