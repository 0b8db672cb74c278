"""What a bystander notices: round trips through its open tunnel, and what is new.

Round trips are sent by the clock and not by the answers, so that a wait counts as many times as
a user would have waited.  New are requests for ``/health``, connections through the tunnel, and
logins: one at a time each.  Each meter is a process of its own, and has no threads.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from bench.processes import LOOPBACK, PATIENCE, BenchError, child
from bench.raw_peer import PeerError
from bench.raw_peer import connect as connect_raw
from bench.roundtrips import SIZE, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from bench.raw_peer import Address, Login

TRIP_EVERY = 0.005
"""Seconds from one round trip to the next: 200 a second take little of the machine."""
HEALTH_EVERY, DIAL_EVERY, LOGIN_EVERY = 0.02, 0.05, 0.2
"""Seconds from one to the next, where it has an answer by then."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@attrs.frozen(kw_only=True)
class Watch:
    """How long to measure."""

    seconds: float
    give_up: float
    """Seconds after that in which answers are still waited for."""


@attrs.define(kw_only=True)
class Times:
    """How long each took, in seconds, and what went wrong."""

    seconds: list[float] = attrs.field(factory=list)
    failed: int = 0
    """Without an answer; of round trips, streams that were lost."""

    def __add__(self, other: Times) -> Times:
        return Times(seconds=self.seconds + other.seconds, failed=self.failed + other.failed)

    @property
    def median(self) -> float:
        """Of those that there are, of which there has to be one."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """See `median`."""
        if len(self.seconds) < 2:
            return self.worst
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[98]

    @property
    def worst(self) -> float:
        """See `median`."""
        return max(self.seconds, default=0.0)


@attrs.frozen(kw_only=True)
class Standpoint:
    """Where the bystander is."""

    echo: int
    """The tunnel's end here, of a way to the echo."""
    named: int
    """The same, where the server has to look up a name first."""
    server: Address | None = None
    """The server to be asked for its health, and to log in at; None where that is not the point."""
    login: Login | None = None


class Meter(Protocol):
    """Measures one thing, again and again."""

    def measure(self, watch: Watch) -> Times:
        """Measure for a while."""


class Trips:
    """Round trips over one stream, which stays open from one measurement to the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None

    def measure(self, watch: Watch) -> Times:
        """See `Meter`.  What is on its way when a stream is lost took until then."""
        times = Times()
        end = time.perf_counter() + watch.seconds
        last = end + watch.give_up
        while time.perf_counter() < end:
            try:
                self._measure(times, end, last)
            except (OSError, BenchError):
                times.failed += 1
                self.close()
                time.sleep(TRIP_EVERY)
        return times

    def close(self) -> None:
        """End the stream."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _open(self, timeout: float) -> socket.socket:
        sock = socket.create_connection((LOOPBACK, self._port), timeout=timeout)
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"!")
        receive(sock, 1)
        sock.setblocking(False)
        return sock

    def _measure(self, times: Times, end: float, last: float) -> None:
        sock = self._sock or self._open(last - time.perf_counter())
        begun: deque[float] = deque()  # when each of those on their way was due
        unsent, got = 0, 0
        due = time.perf_counter()
        try:
            while True:
                now = time.perf_counter()
                while due <= now < end:
                    begun.append(now)
                    unsent += SIZE
                    due += TRIP_EVERY
                if now >= end and not begun:
                    return
                if now >= last:
                    raise BenchError("there is no answer")
                with contextlib.suppress(BlockingIOError):
                    unsent -= sock.send(bytes(unsent)) if unsent else 0
                until = min(due, end) if now < end else last
                writers = [sock] if unsent else []
                if not select.select([sock], writers, [], max(until - now, 0))[0]:
                    continue
                count = len(sock.recv(65536))
                if not count:
                    raise BenchError("the stream has ended")
                now = time.perf_counter()
                trips, got = divmod(got + count, SIZE)
                times.seconds += [now - begun.popleft() for _ in range(trips)]
        finally:
            now = time.perf_counter()
            times.seconds += [now - then for then in begun]


class Repeated:
    """Something that is done again and again, one at a time."""

    def __init__(self, do: Callable[[float], None], every: float) -> None:
        self._do = do
        self._every = every

    def measure(self, watch: Watch) -> Times:
        """See `Meter`."""
        times = Times()
        end = time.perf_counter() + watch.seconds
        while (start := time.perf_counter()) < end:
            try:
                self._do(watch.seconds + watch.give_up)
            except (OSError, BenchError):
                times.failed += 1
            took = time.perf_counter() - start
            times.seconds.append(took)
            time.sleep(max(self._every - took, 0))
        return times


def health_of(address: Address) -> Callable[[float], None]:
    """Return what asks a server for its health, by a connection of its own."""
    context = None if address.ca is None else ssl.create_default_context(cafile=address.ca)

    def ask(timeout: float) -> None:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(
                socket.create_connection((LOOPBACK, address.port), timeout=timeout)
            )
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=LOOPBACK))
            sock.sendall(HEALTH)
            head = b""
            while b"\r\n" not in head:
                if not (more := sock.recv(4096)):
                    raise BenchError("no answer from /health")
                head += more
            if not head.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"/health answers {head[:40]!r}")

    return ask


def dial_to(port: int) -> Callable[[float], None]:
    """Return what has a byte come back over a new connection through the tunnel."""

    def dial(timeout: float) -> None:
        with socket.create_connection((LOOPBACK, port), timeout=timeout) as sock:
            sock.sendall(b"!")
            if not sock.recv(1):
                raise BenchError("the connection was closed")

    return dial


def log_in_at(address: Address, login: Login) -> Callable[[float], None]:
    """Return what logs in, by a connection of its own."""

    async def get_in(timeout: float) -> None:
        with trio.move_on_after(timeout):
            (await connect_raw(address, "open", login=login)).close()
            return
        raise PeerError(f"no login in {timeout:.0f} s")

    return lambda timeout: trio.run(get_in, timeout)


def be_meter(parent: Connection, meter: Meter) -> None:
    """Measure whenever the parent says so, as a process."""
    while True:
        parent.send(meter.measure(parent.recv()))


def meters_at(here: Standpoint) -> dict[str, Meter]:
    """Return what measures there, by name."""
    meters: dict[str, Meter] = {
        "trips": Trips(here.echo),
        "dials": Repeated(dial_to(here.named), DIAL_EVERY),
    }
    if here.server is not None:
        assert here.login is not None
        meters["health"] = Repeated(health_of(here.server), HEALTH_EVERY)
        meters["logins"] = Repeated(log_in_at(here.server, here.login), LOGIN_EVERY)
    return meters


class Bystander:
    """The parent's side of the meters."""

    def __init__(self, pipes: dict[str, Connection]) -> None:
        self._pipes = pipes

    def start(self, watch: Watch) -> None:
        """Begin to measure."""
        for pipe in self._pipes.values():
            pipe.send(watch)

    def wait(self, watch: Watch) -> dict[str, Times]:
        """Return what was measured, by meter."""
        deadline = time.perf_counter() + watch.seconds + watch.give_up + 2 * PATIENCE
        found = {}
        for name, pipe in self._pipes.items():
            if not pipe.poll(max(deadline - time.perf_counter(), 0)):
                raise BenchError(f"the meter of {name} does not come to an end")
            try:
                found[name] = pipe.recv()
            except EOFError:
                raise BenchError(f"the meter of {name} has failed") from None
        return found

    def measure(self, watch: Watch) -> dict[str, Times]:
        """Measure, and wait for it."""
        self.start(watch)
        return self.wait(watch)


@contextlib.contextmanager
def bystander(here: Standpoint) -> Iterator[Bystander]:
    """Run the meters."""
    with contextlib.ExitStack() as stack:
        yield Bystander(
            {
                name: stack.enter_context(child(be_meter, meter))
                for name, meter in meters_at(here).items()
            }
        )
