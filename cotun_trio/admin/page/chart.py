"""The traffic of the last minutes as SVG, with its numbers as text for those who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.history import KEPT, PERIOD
from cotun_trio.admin.page.markup import join, tag
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.history import Rate
    from cotun_trio.admin.page.markup import Html

WIDTH, HEIGHT = 600, 120
"""The units of the drawing, which is as wide as the page."""
_STEPS = (1, 2, 5, 10)
LEAST = 1000
"""Bytes per second that are as high as the drawing, at the least."""


def chart(rates: Sequence[Rate]) -> Html:
    """Return the drawing, with its legend."""
    if not rates:
        return tag("p", f"The first figures come after {format_duration(PERIOD)}.")
    received = [rate.received for rate in rates]
    sent = [rate.sent for rate in rates]
    top = ceiling(max(*received, *sent))
    span = f"{PERIOD * KEPT / 60:g} minutes"
    drawing = tag(
        "svg",
        tag("path", d=f"M0 {HEIGHT // 2}H{WIDTH}", class_="grid"),
        tag("polyline", points=points(received, top), class_="received"),
        tag("polyline", points=points(sent, top), class_="sent"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Traffic of the last {span}. {_words('Received', received)} "
        f"{_words('Sent', sent)}",
    )
    return tag(
        "figure",
        tag("p", f"{show_bytes(top)}/s", class_="top", aria_hidden="true"),
        drawing,
        tag("p", tag("span", f"{span} ago"), tag("span", "now"), class_="axis", aria_hidden="true"),
        tag("figcaption", _legend("received", received), _legend("sent", sent)),
    )


def ceiling(rate: float) -> int:
    """Return the height of a drawing that has room for `rate`: 1, 2 or 5 and some zeros."""
    unit = LEAST
    while rate > 10 * unit:
        unit *= 10
    return next(step * unit for step in _STEPS if rate <= step * unit)


def points(rates: Sequence[float], top: float) -> str:
    """Return a line of rates, of which the last is at the right."""
    left = KEPT - len(rates)
    return " ".join(
        f"{(left + index) * WIDTH / (KEPT - 1):.1f},{HEIGHT - rate / top * HEIGHT:.1f}"
        for index, rate in enumerate(rates)
    )


def _legend(name: str, rates: Sequence[float]) -> Html:
    sample = tag(
        "svg",
        tag("path", d="M0 5H24", class_=name),
        viewBox="0 0 24 10",
        class_="sample",
        aria_hidden="true",
    )
    return tag("span", sample, join(f" {name} {show_bytes(round(rates[-1]))}/s"), class_="legend")


def _words(name: str, rates: Sequence[float]) -> str:
    now, most = show_bytes(round(rates[-1])), show_bytes(round(max(rates)))
    return f"{name}: {now}/s now, {most}/s at most."
