"""The document: all of the page, complete without its script."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cotun_trio._version import __version__
from cotun_trio.admin.page.chart import chart
from cotun_trio.admin.page.markup import join, tag
from cotun_trio.admin.page.tables import events_table, refusals_table, sessions_table
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.page.markup import Html
    from cotun_trio.admin.page.state import State

RELOAD = 10
"""Seconds after which a browser without scripts asks again."""
MAX_VALUES = 20
"""Values that are shown of a fact: the remotes of a client may be many."""
_ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
    "<path d='M1 14V8a7 7 0 0 1 14 0v6h-4V8a3 3 0 0 0-6 0v6z' fill='%231f6feb'/></svg>"
)
_DAY = 86400.0
SOON = 14
"""Days before its end at which a certificate is worth a second look."""


def document(state: State) -> bytes:
    """Return the page as HTML."""
    name = f"cotun-trio {state.role}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", name),
        tag("link", rel="icon", href=_ICON),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True),
        tag("noscript", tag("meta", http_equiv="refresh", content=RELOAD)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the sessions", href="#sessions", class_="skip"),
        tag("header", tag("h1", name), _readiness(state), id="top"),
        tag("p", id="trouble", role="alert", hidden=True),
        tag("p", id="news", role="status"),
        tag("main", *_sections(state), id="main", data_last=state.last),
        tag("footer", tag("p", "For programs: ", *_links())),
        _question(),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n".encode()


def _readiness(state: State) -> Html:
    if state.not_ready is None:
        return tag("p", "ready", class_="ready")
    return tag("p", f"not ready: {state.not_ready}", class_="not-ready")


def _sections(state: State) -> list[Html]:
    return [
        _section("overview", "Overview", _overview(state)),
        _section("traffic", "Traffic", chart(state.rates)),
        _section("sessions", "Sessions", _sessions(state)),
        _section("refusals", "Refusals", _refusals(state)),
        _section("events", "Comings and goings", _events(state)),
    ]


def _section(name: str, title: str, content: Html) -> Html:
    heading = tag("h2", title, id=name, tabindex=-1)
    return tag("section", heading, content, aria_labelledby=name)


def _overview(state: State) -> Html:
    figures = state.figures
    pairs: list[tuple[str, Sequence[str]]] = [
        ("Version", [__version__]),
        ("Up", [format_duration(round(state.uptime))]),
        *((fact.name, fact.values) for fact in state.facts),
        ("Certificate", _certificate(state)),
        ("Sessions", [f"{figures.sessions} open, {figures.sessions + figures.ended} so far"]),
        ("Channels", [str(figures.channels)]),
        ("Received", [show_bytes(figures.bytes_in)]),
        ("Sent", [show_bytes(figures.bytes_out)]),
        ("Datagrams dropped", [str(figures.dropped)]),
    ]
    return tag("dl", *(_pair(name, values) for name, values in pairs if values))


def _pair(name: str, values: Sequence[str]) -> Html:
    shown = [tag("dd", value) for value in values[:MAX_VALUES]]
    if len(values) > MAX_VALUES:
        shown.append(tag("dd", f"and {len(values) - MAX_VALUES} more"))
    return tag("div", tag("dt", name), *shown)


def _certificate(state: State) -> Sequence[str]:
    end = state.figures.certificate_expires
    if end is None:
        return []
    days = int((end - state.at) // _DAY)
    left = "has expired" if end < state.at else f"{days} days left" if days <= SOON else ""
    shown = f"until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    return [f"{shown}: {left}" if left else shown]


def _sessions(state: State) -> Html:
    if state.trouble is not None:
        return tag("p", f"They are not known at present: {state.trouble}")
    if not state.sessions:
        return tag("p", "No session is open.")
    return sessions_table(state.sessions, state.role)


def _refusals(state: State) -> Html:
    if any(event.kind == "refused" for event in state.events):
        return refusals_table(state.events, state.role, state.at)
    return tag("p", "Nothing was refused.")


def _events(state: State) -> Html:
    if any(event.kind != "refused" for event in state.events):
        return events_table(state.events, state.role, state.at)
    return tag("p", "Nothing has happened yet.")


def _links() -> list[Html]:
    paths = ("/metrics", "/api/v1/stats", "/api/v1/sessions", "/ready")
    return [join(tag("a", path, href=path), " ") for path in paths]


def _question() -> Html:
    """Return the question before a session is ended, which the script asks."""
    reason = tag("input", name="reason", maxlength=200, autocomplete="off")
    return tag(
        "dialog",
        tag(
            "form",
            tag("h2", id="question"),
            tag("p", "A client connects again after a while, unless it may not."),
            tag("label", "Reason, which the peer is told ", reason),
            tag(
                "p",
                tag("button", "Cancel", type="button", id="cancel", autofocus=True),
                tag("button", "End the session", value="end", class_="danger"),
                class_="buttons",
            ),
            method="dialog",
        ),
        id="ask",
        aria_labelledby="question",
    )
