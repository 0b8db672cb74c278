"""The tables of the page.

The roles are those that the elements have anyway: a style sheet that shows rows as blocks, on a
phone, would take them away.  For the same reason each cell has the name of its column.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cotun_trio.admin.page.markup import Html, join, tag
from cotun_trio.escape import escape
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cotun_trio.logs.events import Event
    from cotun_trio.snapshot import SessionFigures

MAX_SESSIONS = 200
"""Sessions that are shown, those with the most traffic: a page is for people."""
MAX_REMOTES = 5
"""Remotes that are shown of a session."""
MAX_EVENTS = 10
"""Events that are shown of each kind."""
_PEER = {"server": ["User", "From"], "client": ["Server or remote"]}
_NUMBERS = {"Open for", "Channels", "Received", "Sent", "Round trip"}


def sessions_table(sessions: Sequence[SessionFigures], role: str) -> Html:
    """Return the open sessions as a table."""
    shown = busiest(sessions)
    caption = f"{len(sessions)} open"
    if len(shown) < len(sessions):
        caption = f"The {len(shown)} of {len(sessions)} open sessions with the most traffic"
    peer = "Client" if role == "server" else "Server"
    columns = ["User", peer, "Remotes", "Open for", "Channels", "Received", "Sent", "Round trip"]
    rows = (
        _row(
            columns,
            [
                each.user or "-",
                tag("span", escape(each.peer), tag("small", escape(each.version))),
                _remotes(each.remotes),
                format_duration(round(each.seconds)),
                str(each.channels),
                show_bytes(each.bytes_in),
                show_bytes(each.bytes_out),
                "-" if each.round_trip is None else format_duration(each.round_trip),
            ],
            f"session-{each.id}",
            first=("Session", each.id),
            last=_button(each),
        )
        for each in shown
    )
    return _table(["Session", *columns], rows, caption, has_buttons=True)


def busiest(sessions: Sequence[SessionFigures]) -> list[SessionFigures]:
    """Return the sessions with the most traffic, in the order of their numbers."""
    shown = heapq.nlargest(MAX_SESSIONS, sessions, key=lambda each: each.bytes_in + each.bytes_out)
    return sorted(shown, key=lambda each: (each.worker, each.number))


def refusals_table(events: Sequence[Event], role: str, at: float) -> Html:
    """Return the latest refusals of a role as a table; `at` is the present time."""
    refusals = [event for event in events if event.kind == "refused"]
    columns = ["When", *_PEER[role], "Reason"]
    rows = (
        _row(
            columns,
            [_when(each, at), *peer(each, role), _fact(each, "reason")],
            f"event-{each.number}",
        )
        for each in refusals[: -MAX_EVENTS - 1 : -1]
    )
    return _table(columns, rows, _caption(len(refusals)))


def events_table(events: Sequence[Event], role: str, at: float) -> Html:
    """Return the latest events that are no refusals as a table."""
    others = [event for event in events if event.kind != "refused"]
    columns = ["When", "Event", "Session", *_PEER[role], "Details"]
    rows = (
        _row(
            columns,
            [
                _when(each, at),
                each.kind,
                _fact(each, "session"),
                *peer(each, role),
                details(each),
            ],
            f"event-{each.number}",
        )
        for each in others[: -MAX_EVENTS - 1 : -1]
    )
    return _table(columns, rows, _caption(len(others)))


def peer(event: Event, role: str) -> list[str]:
    """Return the values for the columns that say with which peer an event was."""
    facts = event.facts
    if role == "client":
        return [facts.get("server") or _fact(event, "remote")]
    return [_fact(event, "user"), facts.get("peer") or _fact(event, "client")]


def details(event: Event) -> str:
    """Return the facts that only this kind of event has, as text."""
    facts = event.facts
    if event.kind == "opened":
        return facts.get("remotes", "-")
    if event.kind == "reloaded":
        return ", ".join(f"{name} {value}" for name, value in facts.items()) or "-"
    return facts.get("reason", "-")


def _fact(event: Event, name: str) -> str:
    return event.facts.get(name, "-")


def _when(event: Event, at: float) -> Html:
    stamp = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="seconds")
    return tag("time", f"{format_duration(round(max(0, at - event.at)))} ago", datetime=stamp)


def _caption(number: int) -> str:
    return f"The latest {MAX_EVENTS}" if number > MAX_EVENTS else ""


def _remotes(remotes: Sequence[str]) -> Html:
    shown = [tag("li", escape(remote)) for remote in remotes[:MAX_REMOTES]]
    if len(remotes) > MAX_REMOTES:
        shown.append(tag("li", f"and {len(remotes) - MAX_REMOTES} more"))
    return tag("ul", *shown) if shown else Html("none")


def _button(session: SessionFigures) -> Html:
    return tag(
        "button",
        "End…",
        type="button",
        aria_label=f"End session {session.id}",
        data_end=session.id,
        data_of=f"{session.user or 'no user'}, {escape(session.peer)}",
    )


def _row(
    columns: Sequence[str],
    cells: Sequence[str],
    identity: str,
    *,
    first: tuple[str, str] | None = None,
    last: Html | None = None,
) -> Html:
    """Return a row with a cell for each of the columns.

    `first` is the name and the value of a cell that is the row's header, `last` a button.
    """
    found: list[Html] = []
    if first is not None:
        name, value = first
        found.append(tag("th", value, scope="row", role="rowheader", data_label=name))
    for name, cell in zip(columns, cells, strict=True):
        class_ = "number" if name in _NUMBERS else None
        found.append(tag("td", cell, role="cell", data_label=name, class_=class_))
    if last is not None:
        found.append(tag("td", last, role="cell", class_="scripted"))
    return tag("tr", *found, role="row", id=identity)


def _table(
    columns: Sequence[str], rows: Iterable[Html], caption: str, *, has_buttons: bool = False
) -> Html:
    heads = [
        tag(
            "th",
            name,
            scope="col",
            role="columnheader",
            class_="number" if name in _NUMBERS else None,
        )
        for name in columns
    ]
    if has_buttons:
        end = tag("span", "End", class_="hidden")
        heads.append(tag("th", end, scope="col", role="columnheader", class_="scripted"))
    return tag(
        "table",
        tag("caption", caption) if caption else Html(),
        tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
        tag("tbody", join(*rows), role="rowgroup"),
        role="table",
    )
