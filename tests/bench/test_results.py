"""What the bench makes of its figures: spreads, ratios within a round, goals, and its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.goals import Goal, goal_lines
from bench.report import number, table
from bench.results import Results, Spread

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results() -> Results:
    """Give three rounds of two ways; one of them could not be measured in the second."""
    results = Results(
        machine={"CPU": "one"},
        settings={"rounds": 3, "seconds": 0.5, "sessions": 100, "connections": 1000},
        against={"cotun-trio": "chisel", "chisel": "chisel"},
        missing=["ssh -L: there is no ssh here"],
    )
    for turn, (ours, theirs) in enumerate([(400.0, 100.0), (900.0, None), (300.0, 300.0)]):
        results.add("up", "cotun-trio", turn, ours)
        if theirs is not None:
            results.add("up", "chisel", turn, theirs)
    return results


def test_a_spread_is_over_the_rounds_that_were_measured(results: Results) -> None:
    assert results.spread("up", "cotun-trio") == Spread(400, 300, 900)
    assert results.spread("up", "chisel") == Spread(200, 100, 300)
    assert results.spread("up", "ssh -L") is None
    assert results.spread("ping", "chisel") is None


def test_a_ratio_is_of_figures_of_the_same_round(results: Results) -> None:
    assert results.ratio("up", "cotun-trio", "chisel") == Spread(2.5, 1, 4)
    assert results.ratio("up", "cotun-trio", "ssh -L") is None


def test_a_run_comes_back_from_its_file(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    results.save(path)
    assert Results.load(path) == results


def test_the_table_has_a_line_for_each_way_that_was_measured(results: Results) -> None:
    title, ours, theirs = (line.split() for line in table(results) if line)
    assert title == ["bulk", "up,", "1", "stream", "(MB/s)"]
    assert ours == ["cotun-trio", *["400", "(300", "to", "900)", "2.50", "x", "chisel"]]
    assert theirs == ["chisel", *["200", "(100", "to", "300)"]]


@pytest.mark.parametrize(
    ("bound", "at_least", "met"),
    [(2.5, True, True), (2.6, True, False), (2.5, False, True), (2.4, False, False)],
)
def test_a_goal_is_met_at_its_bound(
    bound: float, at_least: bool, met: bool, results: Results
) -> None:
    goal = Goal("up", "cotun-trio", "chisel", bound, at_least=at_least)
    value = goal.measured(results)
    assert value == 2.5
    assert goal.met(value) is met


def test_goals_without_figures_are_neither_met_nor_missed(results: Results) -> None:
    *lines, summary = goal_lines(results)
    assert lines[0].split()[-7:] == ["2.50", ">=", "3.5", "x", "chisel", "NOT", "MET"]
    assert all(line.endswith("not measured") for line in lines[1:])
    assert summary == f"0 of 1 met, of {len(lines)} in all"


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (99.96, "100.0"), (9.876, "9.88"), (0.2549, "0.255")]
)
def test_figures_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text
