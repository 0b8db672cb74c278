"""What a reader sees: the table, and a bar while it is being measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.results import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Results, Spread

SSH = "ssh -L"
BAR = 30


def number(value: float) -> str:
    """Return a figure with three digits that count, where it has them."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def show_ratio(ratio: Spread | None, other: str) -> str:
    """Return a ratio as text; nothing where there is none."""
    return f"{ratio.median:7.2f} x {other}" if ratio else ""


def head(results: Results) -> Iterator[str]:
    """Yield the lines on what was measured with what, and what is missing."""
    for name, text in results.machine.items():
        yield f"{name:14} {text}"
    settings = results.settings
    yield (
        f"{'measured':14} {settings['rounds']:.0f} rounds, {settings['seconds']} s for each figure;"
        f" {settings['sessions']:.0f} sessions, {settings['connections']:.0f} connections; medians"
        " (smallest to largest), and medians of the ratios within a round"
    )
    for text in results.missing:
        yield f"{'left out':14} {text}"


def table(results: Results) -> Iterator[str]:
    """Yield the lines of the table: for each figure, a line for each way that has it."""
    for figure in FIGURES:
        lines = list(lines_of(results, figure.name))
        if lines:
            yield ""
            yield f"{figure.title} ({figure.unit})"
            yield from lines


def lines_of(results: Results, figure: str) -> Iterator[str]:
    """Yield a line for each way."""
    for way, other in results.against.items():
        spread = results.spread(figure, way)
        if spread is None:
            continue
        between = f"({number(spread.low)} to {number(spread.high)})"
        line = f"  {way:15} {number(spread.median):>8} {between:20}"
        if way != other:
            line += show_ratio(results.ratio(figure, way, other), other)
        if way != SSH:
            against_ssh = show_ratio(results.ratio(figure, way, SSH), "ssh")
            line = f"{line:68}{against_ssh}" if against_ssh else line
        yield line.rstrip()


class Progress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._shown = sys.stderr.isatty()

    def step(self, what: str) -> None:
        """Show what is measured next."""
        if self._shown:
            part = self._done / self._steps
            bar = ("#" * round(part * BAR)).ljust(BAR)
            print(f"\r\033[K[{bar}] {part:4.0%}  {what}", end="", file=sys.stderr, flush=True)
        self._done += 1

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
