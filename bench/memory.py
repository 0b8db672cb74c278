"""Memory: of idle programs, for each idle session, and for each open connection.

As resident memory (RSS), of programs of their own that have done nothing else: an allocator keeps
what it has had once.  The sessions stay open while connections are opened, for the same reason.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.connections import open_connections
from bench.processes import LOOPBACK, BenchError, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.targets import Ports
    from bench.ways import Way

SPARE = 256
"""Descriptors beyond those of the connections."""


def raise_descriptor_limit() -> int:
    """Allow as many descriptors as we may, here and in what we start; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def measure_memory(
    way: Way, targets: Ports, directory: Path, *, sessions: int, connections: int
) -> dict[str, float]:
    """Return the figures; raises `BenchError` where descriptors do not suffice."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 2 * connections + SPARE > limit:
        raise BenchError(f"{connections} connections take more descriptors than {limit}")
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(way.opened(targets, directory))
        assert opened.client is not None
        assert opened.server is not None
        client, server = opened.client.family(), opened.server.family()
        client_idle, server_idle = resident_bytes(client), resident_bytes(server)
        got = {"memory client": client_idle / 1e6, "memory server": server_idle / 1e6}
        if way.speaks_chisel:
            scheme = "https" if way.tls else "http"
            url = f"{scheme}://{LOOPBACK}:{opened.server_port}"
            stack.enter_context(open_sessions(url, sessions, way.tls.ca if way.tls else None))
            grown = resident_bytes(server) - server_idle
            got["memory session"] = grown / sessions / 1024
        client_before, server_before = resident_bytes(client), resident_bytes(server)
        sockets = open_connections(opened.ports.echo, connections)
        try:
            for name, pids, before in (
                ("client", client, client_before),
                ("server", server, server_before),
            ):
                grown = resident_bytes(pids) - before
                got[f"memory connection {name}"] = grown / connections / 1024
        finally:
            for sock in sockets:
                sock.close()
        return got


@contextlib.contextmanager
def open_sessions(url: str, count: int, ca: str | None) -> Iterator[None]:
    """Have a process of its own open sessions at a server, until left.  Raises `BenchError`."""
    command = [sys.executable, "-m", "bench.sessions", url, str(count), *([ca] if ca else [])]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise BenchError(f"{count} sessions could not be opened")
            yield
        finally:
            process.kill()
