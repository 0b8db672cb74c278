"""Flood a server, and measure what a bystander notices, beside the same without the flood.

For each kind of flood, by one connection and by many: a server and a bystander's client are
started, and the bystander's round trips are measured without the flood, with it, and without it
again.  Beside them, new requests for /health, new connections through the tunnel and new logins.
The attacker is a process of its own that leaves the processor to other programs that want it.
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

from bench.choice import make_certificate
from bench.flood_case import LEAD, Plan, run_case
from bench.flood_kinds import KINDS
from bench.flood_results import FloodResults, head, table
from bench.hostile_kinds import HOSTILE_KINDS
from bench.machine import describe_machine, revision
from bench.memory import raise_descriptor_limit
from bench.processes import BenchError
from bench.report import Progress
from bench.targets import running_targets
from bench.victims import GO, HERE, OURS, chisel, ours

if TYPE_CHECKING:
    from bench.flood_case import AnyKind
    from bench.victims import Victim
    from bench.ways import Tls

INTERRUPTED = 128 + signal.SIGINT
JSON = HERE / "build" / "floods.json"
RECORD = 16 * 1024
ALL_KINDS: tuple[AnyKind, ...] = (*KINDS, *HOSTILE_KINDS)


def measure(plan: Plan, results: FloodResults, directory: Path) -> None:
    """Measure everything, and leave it in `results`."""
    cases = list(plan.cases())
    with contextlib.ExitStack() as stack:
        targets = stack.enter_context(running_targets())
        progress = Progress(len(cases))
        stack.callback(progress.close)
        for kind, crowd, victim in cases:
            progress.step(f"{kind.title} by {crowd}, {victim.name}")
            try:
                results.lines.append(run_case(plan, kind, crowd, victim, targets, directory))
            except (OSError, BenchError) as error:
                results.missing.append(f"{kind.title} by {crowd}, {victim.name}: {error}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="bench/run.sh --floods",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="chisel is looked for on PATH, or where $CHISEL says.",
    )
    names = [kind.name for kind in ALL_KINDS]
    parser.add_argument(
        "--kinds", nargs="+", choices=names, default=names, metavar="KIND", help=", ".join(names)
    )
    parser.add_argument(
        "--crowd", nargs="+", type=int, default=[1, 95], metavar="N", help="connections (1 95)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
    parser.add_argument(
        "--give-up", type=float, default=30.0, metavar="SECONDS", help="what never comes (30)"
    )
    parser.add_argument("--quick", action="store_true", help="0.5 s each: does it work?")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of our server (1)")
    parser.add_argument("--tls", action="store_true", help="all of it inside TLS")
    parser.add_argument(
        "--record", type=int, default=RECORD, metavar="BYTES", help="of the flood in a TLS record"
    )
    parser.add_argument(
        "--victim", type=Path, default=HERE, metavar="DIR", help="the checkout to flood (this one)"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[OURS, GO],
        default=[OURS, GO],
        metavar="WAY",
        help=f"{OURS}, {GO}",
    )
    parser.add_argument("--json", type=Path, default=JSON, help="where to (build/floods.json)")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="JSON", help="show an earlier run instead"
    )
    options = parser.parse_args(arguments)
    if options.seconds <= LEAD or min(options.crowd) < 1 or options.record < 1:
        parser.error("there is nothing to measure in no time, nor with no connection")
    return options


def victims_of(options: argparse.Namespace, tls: Tls | None) -> tuple[list[Victim], list[str]]:
    """Return the programs that can be flooded here, and why others cannot."""
    if options.tls and tls is None:
        sys.exit("--tls takes trustme, which is not installed: make .venv/installed-test")
    victims, missing = [], []
    if OURS in options.ways:
        victims.append(ours(options.victim.resolve(), workers=options.workers))
    if GO in options.ways:
        if (go := chisel()) is not None:
            victims.append(go)
        else:
            missing.append("chisel: it is not on PATH, and $CHISEL does not name it")
    if options.tls:
        victims = [attrs.evolve(victim, tls=tls) for victim in victims]
    return victims, missing


def plan_of(options: argparse.Namespace, victims: list[Victim], tls: Tls | None) -> Plan:
    """Return what the command line wants measured."""
    return Plan(
        kinds=[kind for kind in ALL_KINDS if kind.name in options.kinds],
        crowds=options.crowd,
        victims=victims,
        seconds=0.5 if options.quick else options.seconds,
        give_up=options.give_up,
        record=options.record,
        tls=tls,
    )


def run(options: argparse.Namespace) -> tuple[FloodResults, int]:
    """Measure what the command line asks for; return an exit status, too.

    After Ctrl-C or SIGTERM it is what there was until then.
    """
    raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tls = make_certificate(directory)
        victims, missing = victims_of(options, tls)
        plan = plan_of(options, victims, tls)
        results = FloodResults(
            machine=describe_machine(),
            settings={
                "server": f"{options.workers} process(es), {'TLS' if options.tls else 'no TLS'}",
                "measured": f"{plan.seconds} s without the flood, with it, and without it again",
                "flooded": f"{options.victim.resolve()}{revision(options.victim)}",
            },
            missing=missing,
        )
        try:
            measure(plan, results, directory)
        except KeyboardInterrupt:
            status = INTERRUPTED
            results.missing.append("everything after an interruption")
    results.machine["took"] = f"{time.perf_counter() - started:.0f} s"
    if results.lines:
        results.save(options.json)
    return results, status


def main() -> None:
    """Measure, or read what has been, and show it."""
    options = parse(sys.argv[1:])
    results, status = (FloodResults.load(options.source), 0) if options.source else run(options)
    for line in (*head(results), *table(results)):
        print(line)
    sys.exit(status)


if __name__ == "__main__":
    main()
