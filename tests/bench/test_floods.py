"""The bench of floods: that it runs, and what it makes of its figures."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from bench.bystander import Times, Trips, Watch
from bench.flood_case import Plan
from bench.flood_results import Figures, FloodResults, Line, table
from bench.floods import ALL_KINDS
from bench.victims import Victim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
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


def test_a_verdict_beside_much_else_says_so(line: Line) -> None:
    loud = attrs.evolve(GOOD, p99=0.1001)
    assert attrs.evolve(line, without={**line.without, "trips": loud}).verdict == "ok (noisy)"
    quiet = attrs.evolve(GOOD, p99=0.1)
    assert attrs.evolve(line, without={**line.without, "trips": quiet}).verdict == "ok"


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


def test_a_client_that_is_flooded_has_neither_health_nor_logins(line: Line) -> None:
    client = attrs.evolve(line, during={"trips": GOOD, "dials": GOOD})
    assert client.faults == []
    *_, shown = table(FloodResults(machine={}, settings={}, missing=[], lines=[client]))
    assert shown.split()[-6:] == ["-", "20.0", "-", "-", "-", "ok"]


# ---- the kinds


def test_each_kind_of_flood_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in ALL_KINDS]
    assert len(set(names)) == len(names)


def test_programs_are_compared_one_right_after_the_other(tmp_path: Path) -> None:
    kinds = {kind.name: kind for kind in ALL_KINDS}
    programs = [Victim(name=name, command=[name]) for name in ("a", "b")]
    plan = Plan(
        kinds=[kinds["pongs"], kinds["names"]],
        crowds=[1, 95],
        victims=programs,
        seconds=1,
        give_up=1,
        record=1,
        tls=None,
    )
    assert [(kind.name, crowd, victim.name) for kind, crowd, victim in plan.cases()] == [
        *[("pongs", 1, "a"), ("pongs", 1, "b"), ("pongs", 95, "a"), ("pongs", 95, "b")],
        *[("names", 1, "a"), ("names", 1, "b")],
    ]


# ---- the meter of round trips


@contextlib.contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run `serve` for one connection, in a thread; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(sock.recv(1))  # that opens the way
                serve(sock)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def trips_at(port: int, *, give_up: float) -> Times:
    """Measure for a moment, again and again until a trip was begun.

    A busy machine may give this process no turn in a whole moment.
    """
    times = Times()
    with contextlib.closing(Trips(port)) as trips:
        while not times.seconds:
            times += trips.measure(Watch(seconds=0.02, give_up=give_up))
    return times


def test_a_trip_without_an_answer_counts_with_the_time_until_it_was_given_up() -> None:
    def swallow(sock: socket.socket) -> None:
        while sock.recv(4096):
            pass

    with served(swallow) as port:
        times = trips_at(port, give_up=0.2)
    assert times.failed == 1
    assert min(times.seconds) >= 0.2


def test_a_stream_that_ends_is_lost() -> None:
    def hang_up(sock: socket.socket) -> None:
        sock.recv(64)

    with served(hang_up) as port:
        times = trips_at(port, give_up=0.2)
    assert times.failed >= 1
    assert times.seconds


def test_trips_are_timed_one_by_one() -> None:
    def echo(sock: socket.socket) -> None:
        while data := sock.recv(4096):
            sock.sendall(data)

    with served(echo) as port:
        times = trips_at(port, give_up=5)
    assert times.failed == 0
    assert len(times.seconds) >= 1
    assert all(seconds > 0 for seconds in times.seconds)


@pytest.mark.slow
async def test_a_quick_run_has_a_line_for_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "floods.json"
    command = [sys.executable, "-m", "bench.floods", "--quick", "--json", str(path)]
    kinds = ["pongs", "refused", "other-ignore"]
    command += ["--kinds", *kinds, "--crowd", "2", "--ways", "cotun-trio"]
    ran = await trio.run_process(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_stdout=True
    )
    lines = json.loads(path.read_text())["lines"]
    assert [line["kind"] for line in lines] == kinds
    assert [line["connections"] for line in lines] == [2, 2, 1]
    for line in lines:
        assert line["title"] in ran.stdout.decode()
        assert line["sent"] > 0
        for when in ("without", "during"):
            assert all(found["count"] > 0 for found in line[when].values())
