"""Profile a running pair: a server and a client, while bulk goes through them.

For each end it prints the functions in which the time went, without those that they call.  With
py-spy (pip install py-spy) the ends run as they always do, and are looked at from outside.  Without
it they run under cProfile, which makes each call dearer than it is: believe the order of the
functions more than the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pstats
import re
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.bulk import measure_bulk
from bench.processes import BenchError, running
from bench.targets import running_targets
from bench.ways import Tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.bulk import Moved

ENDS = ("client", "server")
LONGEST = 600.0
"""Seconds that may be profiled."""
RATE = 500
"""Looks of py-spy in a second."""
IDLE = "<method 'poll' of 'select.epoll' objects>"
"""Where Trio waits for something to do."""
_HOMES = re.compile(r"[^( ]*/(?:site-packages/|python3\.\d+/|(?=cotun_trio/))")
"""What a path has in front of the module's."""


def find_py_spy() -> str | None:
    """Return the path of py-spy, where this Python's environment or PATH have it."""
    return shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")


def profile_pair(
    up: int, down: int, seconds: float, directory: Path, spy: str | None
) -> tuple[Moved, dict[str, dict[str, float]]]:
    """Return what was moved, and the seconds of each function, for each end.

    Raises `BenchError`.
    """
    profiled = [sys.executable, "-m", "bench.profiled"]
    ours = [sys.executable, "-m", "cotun_trio"]
    client, server = (ours if spy else [*profiled, str(directory / end)] for end in ENDS)
    way = Tunnel(name="profiled", client=client, server=server)
    with running_targets() as targets, way.opened(targets, directory) as opened:
        assert opened.client is not None
        assert opened.server is not None
        ends = (opened.client, opened.server)
        with contextlib.ExitStack() as stack:
            spies = []
            for end, program in zip(ENDS, ends, strict=True) if spy else ():
                command = [*spy_command(str(spy), program.pid), "--output", str(directory / end)]
                spies.append(stack.enter_context(running(command, directory / f"{end}-spy.log")))
            moved = measure_bulk(opened.ports, up=up, down=down, seconds=seconds, cpu=opened.cpu)
            for watcher in spies:
                watcher.check()  # it may not be allowed to look
                watcher.stop(signal.SIGINT)
        for program in ends:
            program.stop()
    read = read_samples if spy else read_profile
    return moved, {end: read(directory / end) for end in ENDS}


def spy_command(spy: str, pid: int) -> list[str]:
    """Return the command that looks at a process until it is interrupted."""
    return [spy, "record", "--format=raw", f"--rate={RATE}", "--function", f"--pid={pid}"]


def read_samples(path: Path) -> dict[str, float]:
    """Return the seconds of each function from a file of py-spy's: stacks, each with its count."""
    seconds: dict[str, float] = defaultdict(float)
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        seconds[_HOMES.sub("", stack.rpartition(";")[2])] += int(count) / RATE
    return seconds


def read_profile(path: Path) -> dict[str, float]:
    """Return the seconds of each function from a file of cProfile's."""
    found: dict[tuple[str, int, str], tuple[int, int, float]] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    seconds: dict[str, float] = defaultdict(float)
    for (file, line, name), (_, _, own, *_) in found.items():
        seconds[name if line == 0 else f"{name} ({_HOMES.sub('', file)}:{line})"] += own
    seconds.pop(IDLE, None)
    return seconds


def show(end: str, seconds: dict[str, float], top: int) -> None:
    """Print the functions of one end that took the most time."""
    total = sum(seconds.values())
    print(f"\n{end}: {total:.2f} s busy, of which")
    for function, own in sorted(seconds.items(), key=lambda item: -item[1])[:top]:
        print(f"  {own / total:6.1%}  {own:7.3f} s  {function}")


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("--up", type=int, default=1, help="streams from the client's side")
    parser.add_argument("--down", type=int, default=1, help="streams to the client's side")
    parser.add_argument("--seconds", type=float, default=5.0, help=f"{LONGEST:.0f} at the most")
    parser.add_argument("--top", type=int, default=20, help="functions for each end")
    parser.add_argument("--cprofile", action="store_true", help="use no py-spy, though it is there")
    options = parser.parse_args(words)
    if options.up + options.down < 1 or not 0 < options.seconds <= LONGEST:
        parser.error("there has to be a stream, and a time in which it can be looked at")
    spy = None if options.cprofile else find_py_spy()
    with tempfile.TemporaryDirectory() as directory:
        try:
            moved, ends = profile_pair(
                options.up, options.down, options.seconds, Path(directory), spy
            )
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
    rates = (count / moved.seconds / 1e6 for count in (moved.up, moved.down))
    print("{:.0f} MB/s up and {:.0f} MB/s down, ".format(*rates), end="")
    print("seen by py-spy" if spy else "under cProfile")
    for end, seconds in ends.items():
        show(end, seconds, options.top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
