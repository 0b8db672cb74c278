"""The cost of a large fleet: ``python -m bench.fleet_scale``, with a redis-server on PATH.

What a node keeps in memory is measured, and so is what one Redis does in a second, beside this
program.  What a fleet of the given size asks of it is arithmetic: the lease of each node, and one
change for each session that opens or ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.fleet import operations
from cotun_trio.fleet.leases import RENEWAL
from cotun_trio.fleet.records import NodeFacts, Wish
from cotun_trio.fleet.redis_codec import statement
from cotun_trio.fleet.redis_directory import open_directory
from cotun_trio.fleet.redis_url import RedisUrl
from cotun_trio.fleet.routes import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
BATCH = 64
"""Claims in one operation, as a busy node makes them."""


def facts(number: int) -> NodeFacts:
    """Return a node."""
    name = f"node-{number}.example.com"
    return NodeFacts(
        id=f"{name}~0123abcd",
        address=f"{name}:8080",
        fingerprint="QpUjJ1DMAdnGhT0p1CHlmXSUxZK8mQ4pzQxJ0zIYRGA=",
        version="0.2.0",
        load=1000,
    )


def place(number: int) -> str:
    """Return a place."""
    return f"tcp/0.0.0.0:{number}"


def table_bytes(nodes: int, routes: int) -> tuple[float, float]:
    """Return the bytes of a node and of a route in the table of another node.

    The routes are as the directory's statements are read.
    """
    tracemalloc.start()
    table = Table()
    for number in range(nodes):
        table.describe(facts(number))
    for_nodes = tracemalloc.get_traced_memory()[0]
    share = routes // nodes
    for number in range(nodes):
        first = number * share
        stored: dict[Any, Any] = {
            f"r {n} {place(n)}".encode(): f'{n + 1} ["user-{n % 1000}", ""]'.encode()
            for n in range(first, first + share)
        }
        read = statement({b"#": b"1", **stored})
        table.replace(facts(number).id, 1, read.routes)
        table.take_changed()  # as a node does after each statement
    del stored, read
    both = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return for_nodes / nodes, (both - for_nodes) / (share * nodes)


@contextlib.contextmanager
def running_redis() -> Iterator[RedisUrl]:
    """Run a redis-server in memory."""
    with socket.create_server((LOOPBACK, 0)) as sock:
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        words = ["redis-server", "--port", str(port), "--bind", LOOPBACK, "--save", ""]
        words += ["--dir", directory]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for(port)
                yield RedisUrl.parse(f"redis://{LOOPBACK}:{port}")
            finally:
                process.terminate()


def wait_for(port: int) -> None:
    """Wait until there is a listener."""
    until = time.monotonic() + 10.0
    while True:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        if time.monotonic() > until:
            raise TimeoutError("redis-server does not listen")
        time.sleep(0.01)


async def used(url: RedisUrl) -> int:
    """Return the bytes that Redis has in use."""
    host, port = url.hosts[0]
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        await stream.send_all(b"INFO memory\r\n")
        text = (await stream.receive_some(65536)).decode()
    return int(text.partition("used_memory:")[2].split()[0])


async def redis_figures(url: RedisUrl, routes: int) -> dict[str, float]:
    """Return what one Redis takes for a route, and does in a second."""
    got: dict[str, float] = {}
    async with open_directory(url, "bench") as directory:
        me = facts(0)
        await directory.perform(operations.Renew(me, True, 0))
        before = await used(url)
        began = time.perf_counter()
        for version, first in enumerate(range(0, routes, BATCH)):
            wishes = tuple(
                (Wish(place(n), n, f"user-{n % 1000}", mark="0123456789abcdef"), False)
                for n in range(first, first + BATCH)
            )
            await directory.perform(operations.Write(me.id, version, 0, wishes))
        took = time.perf_counter() - began
        got["claims a second, 64 at a time"] = routes / took
        got["bytes of Redis for a route, its claim and its entry"] = (
            await used(url) - before
        ) / routes
        began, count = time.perf_counter(), 2000
        for _ in range(count):
            await directory.perform(operations.Renew(me, False, 0))
        got["renewals a second, one after the other"] = count / (time.perf_counter() - began)
        began, position, count = time.perf_counter(), 0, 0
        while news := await directory.after(position):
            position, count = news[-1][0], count + len(news)
            if count >= routes // BATCH:
                break
        got["changes of 64 routes read a second, by one node"] = count / (
            time.perf_counter() - began
        )
        began = time.perf_counter()
        await directory.perform(operations.Read(me.id))
        got["routes read a second, as a statement"] = routes / (time.perf_counter() - began)
    return got


def asked(nodes: int, sessions: int, hours: float) -> dict[str, float]:
    """Return what a fleet asks of its directory, where a session lasts for so many hours."""
    changes = 2 * sessions / (hours * 3600)
    size = len(json.dumps(["k", "changed", "n", facts(0).id, "v", "1000", "r 1000 ", place(1000)]))
    size += len('1000000 ["user-1000", ""]')
    return {
        "renewals a second": nodes / RENEWAL,
        "changes a second": changes,
        "bytes of a change": size,
        "megabytes of changes a second, to all nodes": changes * size * nodes / 1e6,
        "kilobytes of changes a second, to one node": changes * size / 1e3,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--hours", type=float, default=1.0, help="that a session lasts")
    options = parser.parse_args()
    for_node, for_route = table_bytes(options.nodes, options.sessions)
    figures = {
        "bytes of a node, at each other": for_node,
        "bytes of a route, at each node": for_route,
        "megabytes of all routes, at each node": for_route * options.sessions / 1e6,
        **asked(options.nodes, options.sessions, options.hours),
    }
    if shutil.which("redis-server"):
        with running_redis() as url:
            figures |= trio.run(redis_figures, url, 64_000)
    for name, figure in figures.items():
        print(f"{name:<56}{figure:>14,.1f}")


if __name__ == "__main__":
    main()
