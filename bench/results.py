"""What a run has found: the figures of each round, and what they were found with."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

import attrs

from bench.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows import Figure

FIGURES: tuple[Figure, ...] = tuple(figure for row in ROWS for figure in row.figures)


@attrs.frozen
class Spread:
    """The median of some rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return that of `values`, of which there is one at least."""
        return cls(statistics.median(values), min(values), max(values))


@attrs.define(kw_only=True)
class Results:
    """Everything that the table, the chart and the JSON file show."""

    machine: dict[str, str]
    settings: dict[str, float]
    against: dict[str, str]
    """The ways, in the order of the table, and what each is compared with."""
    missing: list[str]
    """Why a way, or one figure of it, is not there."""
    rounds: dict[str, dict[str, list[float | None]]] = attrs.field(factory=dict)
    """By figure and way, a value for each round; None where it could not be measured."""

    def add(self, figure: str, way: str, number: int, value: float) -> None:
        """Take a value of round `number`, counted from 0."""
        values = self.rounds.setdefault(figure, {}).setdefault(way, [])
        values += [None] * (number + 1 - len(values))
        values[number] = value

    def spread(self, figure: str, way: str) -> Spread | None:
        """Return what a figure is over the rounds; None where it has not been measured."""
        values = [v for v in self.rounds.get(figure, {}).get(way, []) if v is not None]
        return Spread.of(values) if values else None

    def ratio(self, figure: str, way: str, other: str) -> Spread | None:
        """Return how many times the other way's figure this one is, round by round."""
        by_way = self.rounds.get(figure, {})
        # One of them can have stopped earlier.
        pairs = zip(by_way.get(way, []), by_way.get(other, []), strict=False)
        ratios = [a / b for a, b in pairs if a is not None and b]
        return Spread.of(ratios) if ratios else None

    def save(self, path: Path) -> None:
        """Write everything as JSON, with what the figures are."""
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = {f.name: {"title": f.title, "unit": f.unit} for f in FIGURES}
        content = {**attrs.asdict(self), "figures": figures}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` has written."""
        content = json.loads(path.read_text())
        return cls(**{field.name: content[field.name] for field in attrs.fields(cls)})
