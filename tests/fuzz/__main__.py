"""Fuzzes all targets, or one: ``python -m tests.fuzz --seconds 60 [--target NAME]``.

Each target is a process of its own, two at a time.  The exit status is 1 where one has found an
input for which something does not hold: it is kept, and printed with how to see it again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.fuzz.known import CORPUS, MODULES

BUILD = Path("build/fuzz")
"""Under it, for each target: ``corpus``, to go on from; ``found``, the findings; ``log``."""
AT_ONCE = 2
LEAST = 3
"""Seconds for a target: less would hardly get beyond its corpus."""
SLOWEST = 20
"""Seconds for one input; more is a finding."""
MEMORY = 2048
"""MiB for one target; more is a finding."""
SHOWN = 200
"""Characters of an exception."""
GRACE = 60
"""Seconds that a process may take beside its time: it imports, reads its corpus, and ends."""


@attrs.frozen
class Result:
    """What has come of one target."""

    name: str
    findings: tuple[Path, ...]
    figures: str
    """How much was tried."""
    why: str
    """The exception that a finding has led to."""
    status: int


def main() -> int:
    """Do as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz all targets, or one.")
    parser.add_argument("--seconds", type=int, default=60, help="in all (60)")
    parser.add_argument("--target", choices=MODULES, help="only this one")
    options = parser.parse_args()
    names = [options.target] if options.target else list(MODULES)
    rounds = -(-len(names) // AT_ONCE)
    seconds = max(LEAST, options.seconds // rounds)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = list(threads.map(lambda name: _run(name, seconds), names))
    return max(map(_report, results))


def _run(name: str, seconds: int) -> Result:
    """Fuzz one target for so many seconds."""
    folder = BUILD / name
    found, corpus = folder / "found", folder / "corpus"
    for place in (found, corpus):
        place.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    print(f"{name}: {seconds} s ...\n", end="", flush=True)  # in one write: there are two threads
    command = [sys.executable, "-m", "tests.fuzz.one", name]
    command += [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}"]
    command += [f"-artifact_prefix={found}/", str(corpus), str(CORPUS / name)]
    with (folder / "log").open("wb") as log:
        status = _wait(command, log.fileno(), seconds + GRACE)
    said = (folder / "log").read_text(errors="replace")
    findings = tuple(sorted(set(found.iterdir()) - before))
    return Result(name, findings, _figures(said), _exception(said), status)


def _wait(command: list[str], log: int, seconds: float) -> int:
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(
            command, stdout=log, stderr=log, timeout=seconds, env=environment, check=False
        )
        return ended.returncode
    return 1


def _figures(log: str) -> str:
    """Return how many inputs were tried, and how many branches they have reached."""
    lines = re.findall(r"^#(\d+)\s.*\bcov: (\d+)", log, re.MULTILINE)
    rates = re.findall(r"exec/s: (\d+)", log)
    if not lines:
        return "nothing was tried"
    runs, branches = lines[-1]
    return f"{runs} inputs, {rates[-1]} a second; {branches} branches"


def _exception(log: str) -> str:
    """Return the first line about what was raised; nothing where that is not it."""
    line = re.search(r"^ *=+ Uncaught Python exception: =+\n(.*)", log, re.MULTILINE)
    return line[1][:SHOWN] if line else ""


def _report(result: Result) -> int:
    """Print what has come of a target; return its share of the exit status."""
    print(f"{result.name}: {result.figures}")
    for finding in result.findings:
        print(f"  FOUND {finding} {result.why}; see it again by")
        print(f"    {sys.executable} -m tests.fuzz.one {result.name} {finding}")
    if result.status and not result.findings:
        print(f"  FAILED with status {result.status}: see {BUILD / result.name / 'log'}")
    return int(bool(result.findings or result.status))


if __name__ == "__main__":
    sys.exit(main())
