"""A chart of a run: bars for each way, a field for each figure, with the spread as a line."""

from __future__ import annotations

import importlib
import math
import sys
from typing import TYPE_CHECKING, Any

from bench.results import FIGURES

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Results

COLUMNS = 3


def load_matplotlib() -> Any:
    """Return matplotlib's figures; says what to do, and exits, where it is not installed."""
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError:
        sys.exit("--plot takes matplotlib, which is not installed: pip install matplotlib")


def plot(results: Results, path: Path) -> None:
    """Draw the chart into a file; its name says in which format."""
    shown = [f for f in FIGURES if any(results.spread(f.name, way) for way in results.against)]
    rows = math.ceil(len(shown) / COLUMNS)
    figure = load_matplotlib().Figure(figsize=(6 * COLUMNS, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flat
    colors = {way: f"C{index}" for index, way in enumerate(results.against)}
    for axis, what in zip(axes, shown, strict=False):
        spreads = [(way, s) for way in results.against if (s := results.spread(what.name, way))]
        axis.barh(
            [way for way, _ in spreads],
            [s.median for _, s in spreads],
            xerr=[
                [s.median - s.low for _, s in spreads],
                [s.high - s.median for _, s in spreads],
            ],
            color=[colors[way] for way, _ in spreads],
        )
        axis.invert_yaxis()
        axis.set_title(f"{what.title} ({what.unit})", fontsize=9)
        axis.tick_params(labelsize=8)
    for axis in list(figure.axes)[len(shown) :]:
        axis.set_axis_off()
    machine = results.machine
    figure.suptitle(
        f"cotun-trio {machine['cotun-trio']}, {machine['date']}, {machine['CPU']}, "
        f"Python {machine['Python']}",
        fontsize=10,
    )
    figure.savefig(path, dpi=100)
