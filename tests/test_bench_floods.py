"""The bench of floods: that it runs, and what it makes of its figures."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import pytest
import trio

from bench.bystander import Times
from bench.flood_results import Figures, FloodResults, Line, table

ROOT = Path(__file__).parents[1]
GOOD = Figures(count=100, median=0.001, p99=0.01, worst=0.02, failed=0)
METERS = ("trips", "health", "dials", "logins")


@pytest.fixture
def line() -> Line:
    """Give a flood that harms nobody."""
    return Line(
        kind="pongs",
        title="empty pongs",
        who="before login",
        crowd=95,
        victim="cotun-trio",
        without=dict.fromkeys(METERS, GOOD),
        during=dict.fromkeys(METERS, GOOD),
        killed=0,
        connections=95,
        sent=2**20,
        cut=0,
    )


def change(line: Line, meter: str, **figures: float) -> Line:
    """Return the line with other figures of one meter during the flood."""
    other = attrs.evolve(line.during[meter], **figures)
    return attrs.evolve(line, during={**line.during, meter: other})


def test_a_flood_that_harms_nobody_has_no_faults(line: Line) -> None:
    assert line.faults == []


@pytest.mark.parametrize(
    ("meter", "figures", "fault"),
    [
        ("trips", {"p99": 0.1101}, "p99"),
        ("trips", {"failed": 1}, "lost"),
        ("health", {"worst": 0.3001}, "health"),
        ("health", {"failed": 1}, "health"),
        ("dials", {"worst": 0.3001}, "dials"),
        ("dials", {"failed": 1}, "dials"),
        ("logins", {"worst": 1.001}, "logins"),
        ("logins", {"failed": 1}, "logins"),
    ],
)
def test_each_figure_has_a_bound_of_its_own(
    line: Line, meter: str, figures: dict[str, float], fault: str
) -> None:
    assert change(line, meter, **figures).faults == [fault]


def test_figures_at_their_bound_are_no_faults(line: Line) -> None:
    line = change(line, "trips", p99=GOOD.p99 + 0.1, worst=5.0)
    for meter, worst in (("health", 0.3), ("dials", 0.3), ("logins", 1.0)):
        line = change(line, meter, worst=worst)
    assert line.faults == []


def test_a_killed_process_is_a_fault(line: Line) -> None:
    assert attrs.evolve(line, killed=1).faults == ["killed"]


def test_the_table_has_a_line_for_each_flood_and_program(line: Line) -> None:
    go = attrs.evolve(change(line, "health", worst=0.5, failed=1), victim="chisel", killed=2)
    results = FloodResults(machine={}, settings={}, missing=[], lines=[line, go])
    *_, who, ours, theirs = table(results)
    trips = ["1.00", "10.0", "20.0"] * 2
    assert who == "before login:"
    assert ours.split() == [
        *["empty", "pongs", "95", "cotun-trio", *trips],
        *["20.0", "20.0", "20.0", "-", "-", "ok"],
    ]
    assert theirs.split() == [
        *["chisel", *trips, "!500", "20.0", "20.0", "-", "2", "NOT:", "health,", "killed"]
    ]


def test_a_run_comes_back_from_its_file(line: Line, tmp_path: Path) -> None:
    results = FloodResults(machine={"CPU": "one"}, settings={}, missing=["x"], lines=[line])
    path = tmp_path / "new" / "floods.json"
    results.save(path)
    assert FloodResults.load(path) == results


def test_times_of_two_measurements_add_up() -> None:
    times = Times(seconds=[0.1, 0.2], failed=1) + Times(seconds=[0.6], failed=2)
    assert times == Times(seconds=[0.1, 0.2, 0.6], failed=3)
    assert (times.median, times.worst) == (0.2, 0.6)


def test_the_p99_of_a_single_time_is_that_time() -> None:
    assert Times(seconds=[0.5]).p99 == 0.5


@pytest.mark.slow
async def test_a_quick_run_has_a_line_for_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "floods.json"
    command = [sys.executable, "-m", "bench.floods", "--quick", "--json", str(path)]
    command += ["--kinds", "pongs", "refused", "--crowd", "2", "--ways", "cotun-trio"]
    ran = await trio.run_process(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_stdout=True
    )
    lines = json.loads(path.read_text())["lines"]
    assert [line["kind"] for line in lines] == ["pongs", "refused"]
    for line in lines:
        assert line["title"] in ran.stdout.decode()
        assert line["connections"] == 2
        assert line["sent"] > 500_000  # 256 KiB by each, in whole messages
        for when in ("without", "during"):
            assert all(found["count"] > 0 for found in line[when].values())
