"""What a run of floods has found: a line for each kind, crowd and program, and its verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs

from bench.report import number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.bystander import Times

MORE = 0.1
"""Seconds by which the p99 of a bystander's round trips may be above that without the flood."""
NOISE = 0.1
"""Seconds of p99 without any flood, beyond which the machine has too much else to do to judge."""
PROMPT = 0.3
"""Seconds in which ``/health`` has to be answered, and a connection through the tunnel be open."""
LOGIN = 1.0
"""Seconds in which a new client has to be in."""


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured of one thing, in seconds."""

    count: int
    median: float
    p99: float
    worst: float
    failed: int

    @classmethod
    def of(cls, times: Times) -> Figures:
        """Return those of `times`, of which there is one at least."""
        return cls(
            count=len(times.seconds),
            median=times.median,
            p99=times.p99,
            worst=times.worst,
            failed=times.failed,
        )


@attrs.frozen(kw_only=True)
class Line:
    """What one kind of flood did to one program."""

    kind: str
    title: str
    who: str
    crowd: int
    victim: str
    without: dict[str, Figures]
    """By meter; see `bench.bystander.meters_at`."""
    during: dict[str, Figures]
    killed: int
    """Processes of the server that were there before, and are not after it."""
    connections: int
    """Of the attacker's: those that got as far as they wanted to."""
    sent: int
    """Bytes that the server's system has taken of the flood."""
    cut: int
    """Of the attacker's connections."""
    login_within: float = LOGIN

    @property
    def faults(self) -> list[str]:
        """What is not as it should be, in a word each."""
        trips, without = self.during["trips"], self.without["trips"]
        faults = {"p99": trips.p99 > without.p99 + MORE}
        bounds = {"health": PROMPT, "dials": PROMPT, "logins": self.login_within}
        for name, bound in bounds.items():
            found = self.during.get(name)
            faults[name] = found is not None and (found.worst > bound or found.failed > 0)
        faults |= {"lost": trips.failed > 0, "killed": self.killed > 0}
        return [fault for fault, there in faults.items() if there]

    @property
    def verdict(self) -> str:
        """Whether all is as it should be, what is not, and whether that can be told here."""
        said = f"NOT: {', '.join(self.faults)}" if self.faults else "ok"
        return f"{said} (noisy)" if self.without["trips"].p99 > NOISE else said


@attrs.define(kw_only=True)
class FloodResults:
    """Everything that the table and the JSON file show."""

    machine: dict[str, str]
    settings: dict[str, str]
    missing: list[str]
    """Why a kind, or a program, is not there."""
    lines: list[Line] = attrs.field(factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(attrs.asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> FloodResults:
        """Read what `save` has written."""
        content = json.loads(path.read_text())
        lines = [Line(**{**line, **_figures(line)}) for line in content.pop("lines")]
        return cls(**content, lines=lines)


def _figures(line: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Figures]]:
    return {
        when: {name: Figures(**found) for name, found in line[when].items()}  # type: ignore[arg-type]
        for when in ("without", "during")
    }


def head(results: FloodResults) -> Iterator[str]:
    """Yield the lines on what was measured with what, and what is missing."""
    for name, text in (*results.machine.items(), *results.settings.items()):
        yield f"{name:14} {text}"
    for text in results.missing:
        yield f"{'left out':14} {text}"


NEW = ("health", "dials", "logins")
"""The meters of what is new, in the order of the table."""
HEAD = (
    (
        f"{'':29}  {'':10}  {'without it (ms)':^22}  {'with it (ms)':^22}  "
        f"{'worst of what is new (ms)':^26}"
    ),
    (
        f"{'':24} {'by':>4}  {'':10}  {'p50':>6} {'p99':>7} {'worst':>7}  "
        f"{'p50':>6} {'p99':>7} {'worst':>7}  {'/health':>8} {'connect':>8} {'login':>8}  "
        f"{'lost':>4} {'killed':>6}  verdict"
    ),
)


def table(results: FloodResults) -> Iterator[str]:
    """Yield the table: for each kind and crowd a line for each program."""
    if not results.lines:
        return
    yield ""
    yield from HEAD
    who = kind = ""
    for line in results.lines:
        if line.who != who:
            who = line.who
            yield f"{who}:"
        shown = f"{line.title:22} {line.crowd:>4}"
        yield row(line, shown if shown != kind else "")
        kind = shown


def row(line: Line, name: str) -> str:
    """Return one line of the table, with `name` before it."""
    trips = " ".join(
        f"{ms(found.median):>6} {ms(found.p99):>7} {ms(found.worst):>7} "
        for found in (line.without["trips"], line.during["trips"])
    )
    new = " ".join(
        f"{newcomer(line.during.get(name)):>8}" for name in ("health", "dials", "logins")
    )
    lost, killed = line.during["trips"].failed or "-", line.killed or "-"
    return f"  {name:27}  {line.victim:10}  {trips} {new}  {lost:>4} {killed:>6}  {line.verdict}"


def ms(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return number(seconds * 1000)


def newcomer(found: Figures | None) -> str:
    """Return the worst time of something new, marked where it had no answer at all."""
    if found is None:
        return "-"
    return f"{'!' if found.failed else ''}{ms(found.worst)}"
