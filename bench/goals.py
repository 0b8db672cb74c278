"""The goals, as ratios within one run and as bounds, and whether a run has met them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.report import number
from bench.results import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Results

BULK = ("up", "down", "up8", "down8")
CROWDED = ("get50", "get50x16")
DATAGRAMS = ("udp-up-64", "udp-down-64", "udp-up-1200", "udp-down-1200")
OURS, GO, TLS, GO_TLS, SSH = "cotun-trio", "chisel", "cotun-trio tls", "chisel tls", "ssh -L"
MIXED = ("ours to chisel", "chisel to ours")


@attrs.frozen
class Goal:
    """What one figure of one way is to be; a ratio where it is against another way."""

    figure: str
    way: str
    against: str | None
    bound: float
    at_least: bool

    def measured(self, results: Results) -> float | None:
        """Return what the run has found; None where it has not looked."""
        found = (
            results.ratio(self.figure, self.way, self.against)
            if self.against
            else results.spread(self.figure, self.way)
        )
        return found.median if found else None

    def met(self, value: float) -> bool:
        """Return whether `value` is what was wanted."""
        return value >= self.bound if self.at_least else value <= self.bound


def at_least(figure: str, way: str, against: str, bound: float) -> Goal:
    """Return the goal to have so many times the other way's figure, or more."""
    return Goal(figure, way, against, bound, at_least=True)


def at_most(figure: str, way: str, against: str | None, bound: float) -> Goal:
    """Return the goal to have so many times the other way's figure, or so much, or less."""
    return Goal(figure, way, against, bound, at_least=False)


GOALS = (
    *(at_least(bulk, OURS, GO, 3.5) for bulk in BULK),
    *(at_least(bulk, OURS, SSH, 1.0) for bulk in ("up", "down")),
    *(at_least(bulk, TLS, GO_TLS, 3.0) for bulk in BULK),
    at_most("ping", OURS, GO, 1.0),
    at_most("ping", TLS, GO_TLS, 1.1),
    at_least("get", OURS, GO, 0.9),
    *(at_least(requests, OURS, GO, 1.1) for requests in CROWDED),
    at_least("get", TLS, GO_TLS, 0.85),
    *(at_least(requests, TLS, GO_TLS, 1.0) for requests in CROWDED),
    *(at_least(datagrams, OURS, GO, 2.0) for datagrams in DATAGRAMS),
    *(at_most(f"{datagrams} lost", OURS, None, 0.1) for datagrams in DATAGRAMS),
    at_least("connect", OURS, GO, 0.85),
    at_least("connect 50", OURS, GO, 1.0),
    *(at_most(f"{bulk} cpu", OURS, GO, 0.28) for bulk in ("up", "down")),
    at_most("beside", OURS, GO, 0.2),
    at_most("beside p99", OURS, GO, 0.3),
    *(
        goal
        for way in MIXED
        for goal in (
            *(at_least(bulk, way, GO, 1.0) for bulk in BULK),
            at_most("ping", way, GO, 1.1),
            at_least("get50", way, GO, 0.9),
            *(at_least(datagrams, way, GO, 1.1) for datagrams in DATAGRAMS),
            at_least("connect", way, GO, 1.0),
            at_least("connect 50", way, GO, 1.0),
        )
    ),
    at_most("memory client", OURS, None, 55),
    at_most("memory server", OURS, None, 55),
    at_most("memory session", OURS, None, 120),
    at_most("memory connection client", OURS, None, 10),
    at_most("memory connection server", OURS, None, 10),
    at_most("start", OURS, None, 0.35),
)


def goal_lines(results: Results) -> Iterator[str]:
    """Yield a line for each goal: what was measured, what is wanted, and whether it is met."""
    figures = {figure.name: figure for figure in FIGURES}
    met = measured = 0
    for goal in GOALS:
        figure = figures[goal.figure]
        value = goal.measured(results)
        unit = f"x {goal.against}" if goal.against else figure.unit
        if value is None:
            verdict = "not measured"
        else:
            measured += 1
            met += goal.met(value)
            verdict = "met" if goal.met(value) else "NOT MET"
        wanted = f"{'>=' if goal.at_least else '<='} {goal.bound:g} {unit}"
        shown = "-" if value is None else number(value)
        yield f"{goal.way:15} {figure.title:46} {shown:>6}  {wanted:20} {verdict}"
    yield f"{met} of {measured} met, of {len(GOALS)} in all"
