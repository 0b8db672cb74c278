"""Measure tunnels on the loopback interface: bulk up and down, and the round trip of 64 bytes.

Each round measures every tunnel once, so that what else the machine does hits all of them alike;
the table shows medians over the rounds, and the spread (smallest to largest).  The target, the
tunnel's two ends and the meter are processes of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

CHUNK = bytes(256 * 1024)
PING = 64
"""Bytes of a round trip."""
STEP = 1024 * 1024
"""Bytes for which the sink sends back one: some tunnels end both directions at the first end."""


def serve(ports: Connection) -> None:
    """Be the target: a sink, a source and an echo, on three free ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports.send([listener.getsockname()[1] for listener in listeners])
    for listener, handler in zip(listeners, (sink, source, echo), strict=True):
        threading.Thread(target=accept, args=(listener, handler)).start()


def accept(listener: socket.socket, handler: Callable[[socket.socket], None]) -> None:
    """Hand each connection to `handler`, in a thread of its own."""
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=guard, args=(handler, sock), daemon=True).start()


def guard(handler: Callable[[socket.socket], None], sock: socket.socket) -> None:
    """Run `handler` until the other side goes."""
    with sock, contextlib.suppress(OSError):
        handler(sock)


def sink(sock: socket.socket) -> None:
    """Take everything, and send a byte back for every `STEP` of it."""
    buffer = bytearray(1024 * 1024)
    total = 0
    while count := sock.recv_into(buffer):
        steps = (total + count) // STEP - total // STEP
        total += count
        sock.sendall(bytes(steps))


def source(sock: socket.socket) -> None:
    """Send for ever."""
    while True:
        sock.sendall(CHUNK)


def echo(sock: socket.socket) -> None:
    """Send back what comes."""
    while data := sock.recv(65536):
        sock.sendall(data)


def measure_up(port: int, seconds: float) -> float:
    """Return the MB/s that reach the sink."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        start = time.perf_counter()
        end = start + seconds
        sender = threading.Thread(target=send_until, args=(sock, end))
        sender.start()
        steps, last = 0, start
        while last < end and (got := sock.recv(4096)):
            steps += len(got)
            last = time.perf_counter()
        sock.shutdown(socket.SHUT_RDWR)
        sender.join()
        return steps * STEP / (last - start) / 1e6


def send_until(sock: socket.socket, end: float) -> None:
    """Send as much as goes until `end`."""
    with contextlib.suppress(OSError):
        while time.perf_counter() < end + 1:
            sock.sendall(CHUNK)


def measure_down(port: int, seconds: float) -> float:
    """Return the MB/s that come from the source."""
    buffer = bytearray(1024 * 1024)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.recv_into(buffer)
        start = time.perf_counter()
        total = 0
        while time.perf_counter() - start < seconds:
            total += sock.recv_into(buffer)
        return total / (time.perf_counter() - start) / 1e6


def measure_round_trip(port: int, seconds: float) -> float:
    """Return the median round trip of `PING` bytes, in microseconds."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            sock.sendall(bytes(PING))
            got = 0
            while got < PING:
                got += len(sock.recv(PING))
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


ROWS: dict[str, tuple[str, Callable[[int, float], float]]] = {
    "up": ("MB/s", measure_up),
    "down": ("MB/s", measure_down),
    "ping": ("µs", measure_round_trip),
}


class Tunnel(NamedTuple):
    """One way to the target: the programs at its two ends."""

    name: str
    server: list[str]
    client: list[str]


def free_port() -> int:
    """Return a port that is free at the moment: chisel cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program from when it says `ready` on."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if re.search(ready, line):
                break
        else:
            sys.exit(f"{command[0]} ended before it was ready")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def opened(tunnel: Tunnel, targets: list[int]) -> Iterator[list[int]]:
    """Open a tunnel to the targets; give the local ports."""
    port = free_port()
    locals_ = [free_port() for _ in targets]
    remotes = [f"127.0.0.1:{a}:127.0.0.1:{b}" for a, b in zip(locals_, targets, strict=True)]
    server = [*tunnel.server, "server", "--host", "127.0.0.1", "--port", str(port)]
    client = [*tunnel.client, "client", f"http://127.0.0.1:{port}", *remotes]
    with running(server, "Listening"), running(client, "Connected"):
        yield locals_


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure (default: 1)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()

    ours = [sys.executable, "-m", "cotun_trio"]
    tunnels = [Tunnel("cotun-trio", ours, ours)]
    if chisel := os.environ.get("CHISEL") or shutil.which("chisel"):
        go = [chisel]
        tunnels += [
            Tunnel("chisel", go, go),
            Tunnel("ours to chisel", go, ours),
            Tunnel("chisel to ours", ours, go),
        ]
    here, there = multiprocessing.Pipe()
    target = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    target.start()
    targets = here.recv()
    with contextlib.ExitStack() as stack:
        ways = {"direct": targets}
        for tunnel in tunnels:
            ways[tunnel.name] = stack.enter_context(opened(tunnel, targets))
        results: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for row in options.rows:
                for way, ports in ways.items():
                    port = ports[list(ROWS).index(row)]
                    figure = ROWS[row][1](port, options.seconds)
                    results.setdefault((way, row), []).append(figure)
        for way in ways:
            for row in options.rows:
                figures = results[way, row]
                spread = f"({min(figures):.0f} to {max(figures):.0f})"
                median = statistics.median(figures)
                print(f"{way:16} {row:5} {median:7.0f} {ROWS[row][0]:5} {spread}")
    target.kill()


if __name__ == "__main__":
    main()
