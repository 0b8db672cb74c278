"""``/api/v1/events``: the events as they come, or the latest of them.

They come as Server-Sent Events (WHATWG HTML, section 9.2): ``id`` is the event's number, ``event``
its kind, ``data`` all of it as JSON.  A reader that connects again gives the last number that it
has (``Last-Event-ID``, or ``?after=``), and misses nothing that is still kept; a new reader gets
what is new, and with ``?last=N`` the latest N before that.  With ``Accept: application/json``, it
is a list of those that are there, and ends.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.admin.answers import JSON, Stream
from cotun_trio.admin.operations import Failure
from cotun_trio.escape import escape
from cotun_trio.logs.events import KEPT, record_events

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call
    from cotun_trio.logs.events import Event, Events

CONTENT_TYPE = "text/event-stream"
RETRY = 3.0
"""Seconds for a reader to wait before it connects again."""
KEEPALIVE = 15.0
"""Seconds without an event after which a comment is sent: proxies close what says nothing."""
MAX_BATCH = 100
"""Events that are written at once."""
_UNBUFFERED = "X-Accel-Buffering: no"
"""A header for nginx, which else keeps the events until it has many."""
NUMBER = "[0-9]{1,15}"
"""The form of the number of an event."""


async def events(call: Call) -> list[Event] | Stream:
    """Return events as they happen; with ``Accept: application/json`` those so far.

    They come as Server-Sent Events: the id is the number of an event, and a reader that connects
    again with ``Last-Event-ID`` misses none that is still kept.
    """
    noted, role = record_events(), call.watched.role
    whole = JSON.encode() in call.request.members(b"accept")
    start = _start(noted, call, default=0 if whole else noted.last)
    if whole:
        return events_of(noted, role, start)
    return Stream(_Reader(noted, role, start).next_part, CONTENT_TYPE, (_UNBUFFERED,))


def events_of(noted: Events, role: str, after: int = 0) -> list[Event]:
    """Return the events of a role that are kept and newer than the one with this number."""
    return [event for event in noted.after(after) if event.role == role]


def _start(noted: Events, call: Call, default: int) -> int:
    """Return the number of the last event that a reader does not need.  Raises `Failure`."""
    after, last = call.query("after"), call.query("last")
    for value in call.request.values(b"last-event-id"):  # of a later connection, to the same path
        after = value.decode("ascii", "replace")
    before = None if after is None else _number("after", after)
    most = None if last is None else min(_number("last", last), KEPT)
    if before is not None:
        return before if before <= noted.last else 0  # or it is of a process that has ended
    if most is not None:
        latest = events_of(noted, call.watched.role)[-most:] if most else []
        return latest[0].number - 1 if latest else noted.last
    return default


def _number(name: str, text: str) -> int:
    if not re.fullmatch(NUMBER, text):
        detail = f"{name} wants a number, which '{escape(text)}' is not"
        raise Failure(HTTPStatus.BAD_REQUEST, detail)
    return int(text)


class _Reader:
    """Tells one reader the events of a role that are newer than the one with this number."""

    def __init__(self, events: Events, role: str, number: int) -> None:
        self._events = events
        self._role = role
        self._number = number
        # An id without data is no event, and yet what the reader comes back with.
        self._greeting = f"retry: {RETRY * 1000:.0f}\nid: {number}\n\n"

    async def next_part(self) -> bytes:
        """See `Stream`."""
        greeting, self._greeting = self._greeting, ""
        if greeting:
            return greeting.encode()
        with trio.move_on_after(KEEPALIVE):
            while True:
                batch = events_of(self._events, self._role, self._number)[:MAX_BATCH]
                if batch:
                    self._number = batch[-1].number
                    return b"".join(map(_shown, batch))
                self._number = self._events.last
                await self._events.news()
        return b":\n\n"


def _shown(event: Event) -> bytes:
    data = json.dumps(attrs.asdict(event), separators=(",", ":"))
    return f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n".encode()
