"""Measure cotun-trio on the loopback interface, beside a direct connection, chisel and ssh.

Each round measures each row for every way to the targets, one after the other, so that what else
the machine does hits all of them alike.  The targets, a tunnel's two ends and the meter are
processes of their own, and the meter has no threads; what it can do at most, the direct way shows.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from bench.chart import load_matplotlib, plot
from bench.choice import NAMES, find_ways
from bench.goals import goal_lines
from bench.machine import describe_machine
from bench.memory import raise_descriptor_limit
from bench.processes import BenchError
from bench.report import Progress, head, table
from bench.results import Results
from bench.rows import ROWS, Subject
from bench.targets import running_targets

if TYPE_CHECKING:
    from bench.rows import Row
    from bench.ways import Opened, Way

INTERRUPTED = 128 + signal.SIGINT
JSON = Path(__file__).parent.parent / "build" / "bench.json"


@attrs.frozen(kw_only=True)
class Plan:
    """What to measure."""

    ways: list[Way]
    rows: list[Row]
    rounds: int
    seconds: float
    sessions: int
    connections: int


def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Measure everything, and leave it in `results`."""
    with contextlib.ExitStack() as stack:
        targets = stack.enter_context(running_targets())
        opened: dict[str, Opened] = {}
        progress = Progress(len(plan.ways) * (1 + len(plan.rows) * plan.rounds))
        stack.callback(progress.close)
        for way in plan.ways:
            progress.step(f"{way.name}: starts")
            try:
                opened[way.name] = stack.enter_context(way.opened(targets, directory))
            except BenchError as error:
                results.missing.append(f"{way.name}: {error}")
        for number in range(plan.rounds):
            for row in plan.rows:
                for way in plan.ways:
                    if way.name not in opened:
                        continue
                    progress.step(f"round {number + 1} of {plan.rounds}: {row.name}, {way.name}")
                    subject = Subject(
                        way=way,
                        opened=opened[way.name],
                        targets=targets,
                        directory=directory,
                        seconds=plan.seconds,
                        sessions=plan.sessions,
                        connections=plan.connections,
                    )
                    try:
                        subject.opened.check()
                        for figure, value in row.measure(subject).items():
                            results.add(figure, way.name, number, value)
                    except (OSError, BenchError) as error:
                        results.missing.append(
                            f"{way.name}, {row.name}, round {number + 1}: {error}"
                        )
                    subject.opened.settle()


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="bench/run.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="chisel is looked for on PATH, or where $CHISEL says; ssh and sshd are Debian's.  "
        "What others notice of a flood: bench/run.sh --floods --help.",
    )
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--rows", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names)
    )
    parser.add_argument(
        "--ways", nargs="+", choices=NAMES, default=NAMES, metavar="WAY", help=", ".join(NAMES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure (0.5)")
    parser.add_argument(
        "--quick", action="store_true", help="one round, 0.1 s for each figure: does it work?"
    )
    parser.add_argument("--targets", action="store_true", help="show the goals, too, and if met")
    parser.add_argument("--json", type=Path, default=JSON, help="where to (build/bench.json)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a chart, too")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="JSON", help="show an earlier run instead"
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("there is nothing to measure in no time")
    return options


def run(options: argparse.Namespace) -> tuple[Results, int]:
    """Measure what the command line asks for; return an exit status, too.

    After Ctrl-C or SIGTERM it is what there was until then.
    """
    raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ways, missing = find_ways(directory)
        plan = Plan(
            ways=[way for way in ways if way.name in options.ways],
            rows=[row for row in ROWS if row.name in options.rows],
            rounds=1 if options.quick else options.rounds,
            seconds=0.1 if options.quick else options.seconds,
            sessions=20 if options.quick else 100,
            connections=100 if options.quick else 1000,
        )
        results = Results(
            machine=describe_machine(),
            settings=attrs.asdict(plan, filter=lambda field, _: field.name not in ("ways", "rows")),
            against={way.name: way.against for way in plan.ways},
            missing=missing,
        )
        try:
            measure(plan, results, directory)
        except KeyboardInterrupt:
            status = INTERRUPTED
            results.missing.append("everything after an interruption")
    results.machine["took"] = f"{time.perf_counter() - started:.0f} s"
    if results.rounds:
        results.save(options.json)
    return results, status


def main() -> None:
    """Measure, or read what has been, and show it."""
    options = parse()
    if options.plot:
        load_matplotlib()
    try:
        results, status = (Results.load(options.source), 0) if options.source else run(options)
    except KeyboardInterrupt:  # before there was anything to measure with
        sys.exit(INTERRUPTED)
    for line in (*head(results), *table(results)):
        print(line)
    if options.targets:
        print()
        for line in goal_lines(results):
            print(line)
    if options.plot and results.rounds:
        plot(results, options.plot)
    sys.exit(status)


if __name__ == "__main__":
    main()
