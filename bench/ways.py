"""The ways to the targets: none in between, or a tunnel, with the programs at its two ends."""

from __future__ import annotations

import abc
import contextlib
import time
from typing import TYPE_CHECKING

import attrs

from bench.processes import (
    LOOPBACK,
    cpu_seconds,
    free_ports,
    running,
    wait_for_first_byte,
    wait_until_listening,
)
from bench.targets import Ports, remotes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.processes import Program

SETTLE = 0.02
"""Seconds for which the programs are to have nothing to do."""
QUIET = 0.02
"""The part of a core that counts as nothing: runtimes have housekeeping of their own."""
LONGEST_SETTLE = 2.0
"""Seconds after which it goes on all the same."""


@attrs.frozen(kw_only=True)
class Tls:
    """A certificate for the loopback address, as files."""

    ca: str
    cert: str
    key: str


@attrs.frozen(kw_only=True)
class Opened:
    """A way that can be gone; without programs where it is the direct one."""

    ports: Ports
    socks: int | None = None
    server_port: int | None = None
    server: Program | None = None
    client: Program | None = None
    client_start: float = 0.0
    """Seconds from the client's exec to the first byte through the tunnel."""
    both_start: float = 0.0
    """The same from the server's exec; the client's follows when the server listens."""
    _client_family: list[int] = attrs.field(factory=list)
    _server_family: list[int] = attrs.field(factory=list)

    def check(self) -> None:
        """Raise `BenchError` where one of the programs has ended."""
        for program in (self.client, self.server):
            if program is not None:
                program.check()

    def settle(self) -> None:
        """Wait until the programs have nothing to do: buffers are full of what was cut.

        For `LONGEST_SETTLE` at most; the next measurement, and the next way, are not to pay for it.
        """
        deadline = time.perf_counter() + LONGEST_SETTLE
        with contextlib.suppress(OSError):  # one of them has ended, which `check` tells
            before = sum(self.cpu())
            while time.perf_counter() < deadline:
                time.sleep(SETTLE)
                now = sum(self.cpu())
                if now - before < SETTLE * QUIET:
                    return
                before = now

    def cpu(self) -> tuple[float, ...]:
        """Return the CPU seconds of client and server so far; of the direct way, nothing."""
        if self.client is None:
            return ()
        return cpu_seconds(self._client_family), cpu_seconds(self._server_family)


@attrs.frozen(kw_only=True)
class Way(abc.ABC):
    """How the targets can be reached."""

    name: str
    against: str = "chisel"
    """The name of the way that this one is compared with."""
    datagrams: bool = False
    speaks_chisel: bool = False
    """Whether our own client can open sessions with its server."""
    tls: Tls | None = None

    @abc.abstractmethod
    def opened(self, targets: Ports, directory: Path) -> contextlib.AbstractContextManager[Opened]:
        """Open it; its files are in `directory`.  Raises `BenchError` where it cannot be gone."""


@attrs.frozen(kw_only=True)
class Direct(Way):
    """Nothing in between: what the meter and the targets can do at most."""

    name: str = "direct"
    datagrams: bool = True

    @contextlib.contextmanager
    def opened(self, targets: Ports, directory: Path) -> Iterator[Opened]:  # noqa: ARG002
        """See `Way.opened`."""
        yield Opened(ports=targets)


@attrs.frozen(kw_only=True)
class Tunnel(Way):
    """cotun-trio or chisel at each end: they have the same command line."""

    client: list[str]
    server: list[str]
    datagrams: bool = True
    speaks_chisel: bool = True

    @contextlib.contextmanager
    def opened(self, targets: Ports, directory: Path) -> Iterator[Opened]:
        """See `Way.opened`."""
        port, socks, *here = free_ports(2 + len(targets))
        server = [*self.server, "server", "--host", LOOPBACK, "--port", str(port), "--socks5"]
        client = [*self.client, "client"]
        scheme = "http"
        if self.tls is not None:
            server += ["--tls-cert", self.tls.cert, "--tls-key", self.tls.key]
            client += ["--tls-ca", self.tls.ca]
            scheme = "https"
        ports = Ports(*here)
        client += [f"{scheme}://{LOOPBACK}:{port}", *remotes(ports, targets)]
        client += [f"{LOOPBACK}:{socks}:socks"]
        with pair(server, client, port, ports, socks, directory) as opened:
            yield opened


@contextlib.contextmanager
def pair(
    server: list[str],
    client: list[str],
    port: int,
    here: Ports,
    socks: int,
    directory: Path,
    *,
    unread: bool = False,
) -> Iterator[Opened]:
    """Run a server and, when it listens, a client, until a byte has come through.

    What an `unread` server says goes into a pipe that nobody reads.
    """
    start = time.perf_counter()
    with running(server, directory / f"server-{port}.log", unread=unread) as server_program:
        wait_until_listening(port, server_program)
        middle = time.perf_counter()
        with running(client, directory / f"client-{port}.log") as client_program:
            wait_for_first_byte(here.echo, client_program)
            end = time.perf_counter()
            yield Opened(
                ports=here,
                socks=socks,
                server_port=port,
                server=server_program,
                client=client_program,
                client_start=end - middle,
                both_start=end - start,
                client_family=client_program.family(),
                server_family=server_program.family(),
            )
