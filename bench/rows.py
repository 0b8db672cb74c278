"""What is measured: each row is one measurement of a way, and gives some figures."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import attrs

from bench.bulk import measure_bulk, saturating_upload
from bench.connections import measure_many_at_a_time, measure_one_at_a_time
from bench.datagrams import Flow, measure_down, measure_up
from bench.memory import measure_memory
from bench.requests import measure_requests
from bench.roundtrips import measure_datagram_trips, measure_round_trips, measure_socks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.targets import Ports
    from bench.ways import Opened, Way


@attrs.frozen
class Figure:
    """One line of the table for each way."""

    name: str
    title: str
    unit: str


@attrs.frozen(kw_only=True)
class Subject:
    """The way that is measured, and what there is for it."""

    way: Way
    opened: Opened
    targets: Ports
    directory: Path
    seconds: float
    sessions: int
    """How many idle sessions are opened for what one takes."""
    connections: int


@attrs.frozen
class Row:
    """A measurement: what it gives, and how; figures that a way does not have are left out."""

    name: str
    figures: tuple[Figure, ...]
    measure: Callable[[Subject], dict[str, float]]


def bulk_row(name: str, *, up: int, down: int) -> Row:
    """Return the row of a bulk transfer: its rate, and the CPU time that a GB takes."""
    streams = f"{up or down} stream{'s' if (up or down) > 1 else ''}"
    both = up and down
    by_side = up + down == 1  # of more streams the sum will do
    title = f"bulk {'both ways at once' if both else 'up' if up else 'down'}, {streams}"
    figures = [Figure(name, title + (" each" if both else ""), "MB/s")]
    if both:
        figures += [
            Figure(f"{name} up", f"{title}: of that, up", "MB/s"),
            Figure(f"{name} down", f"{title}: of that, down", "MB/s"),
        ]
    figures += [Figure(f"{name} cpu", f"{title}: CPU, both programs", "s/GB")]
    if by_side:
        figures += [
            Figure(f"{name} cpu client", f"{title}: CPU, client", "s/GB"),
            Figure(f"{name} cpu server", f"{title}: CPU, server", "s/GB"),
        ]

    def measure(subject: Subject) -> dict[str, float]:
        opened = subject.opened
        moved = measure_bulk(
            opened.ports, up=up, down=down, seconds=subject.seconds, cpu=opened.cpu
        )
        total = moved.up + moved.down
        got = {name: total / moved.seconds / 1e6}
        if both:
            got[f"{name} up"] = moved.up / moved.seconds / 1e6
            got[f"{name} down"] = moved.down / moved.seconds / 1e6
        if moved.cpu and total:
            client, server = (seconds / total * 1e9 for seconds in moved.cpu)
            got[f"{name} cpu"] = client + server
            if by_side:
                got[f"{name} cpu client"], got[f"{name} cpu server"] = client, server
        return got

    return Row(name, tuple(figures), measure)


def request_row(name: str, *, connections: int, pipelined: int = 1) -> Row:
    """Return the row of small requests: their rate, and the CPU time that each takes."""
    title = f"requests, {connections} connection{'s' if connections > 1 else ''}"
    if pipelined > 1:
        title += f", {pipelined} at once on each"
    figures = (
        Figure(name, title, "1/s"),
        Figure(f"{name} cpu", f"{title}: CPU, both programs", "µs"),
    )

    def measure(subject: Subject) -> dict[str, float]:
        opened = subject.opened
        answered = measure_requests(
            opened.ports.answers,
            connections=connections,
            pipelined=pipelined,
            seconds=subject.seconds,
            cpu=opened.cpu,
        )
        got = {name: answered.rate}
        if answered.cpu is not None:
            got[f"{name} cpu"] = answered.cpu * 1e6
        return got

    return Row(name, figures, measure)


def datagram_row(name: str, *, size: int, down: bool = False) -> Row:
    """Return the row of datagrams one way: their rate, what each takes, and how many are lost.

    For the first, see `bench.windows`.
    """
    title = f"UDP {'down' if down else 'up'}: datagrams of {size:,} bytes"
    figures = (
        Figure(name, title, "1/s"),
        Figure(f"{name} cpu", f"{title}: CPU, both programs", "µs"),
        Figure(f"{name} lost", f"{title}: lost", "%"),
    )

    def measure(subject: Subject) -> dict[str, float]:
        if not subject.way.datagrams:
            return {}
        ports, targets = subject.opened.ports, subject.targets
        through, directly = (
            (ports.datagram_source, targets.datagram_source)
            if down
            else (ports.datagram_sink, targets.datagram_sink)
        )
        flow = Flow(through=through, directly=directly, size=size, cpu=subject.opened.cpu)
        arrived = (measure_down if down else measure_up)(flow, subject.seconds)
        got = {name: arrived.rate, f"{name} lost": arrived.lost * 100}
        if arrived.cpu is not None:
            got[f"{name} cpu"] = arrived.cpu * 1e6
        return got

    return Row(name, figures, measure)


def measure_ping(subject: Subject) -> dict[str, float]:
    """Measure round trips with nothing else going on."""
    idle = measure_round_trips(subject.opened.ports.echo, subject.seconds)
    return {"ping": idle.median, "ping p99": idle.p99}


def measure_beside(subject: Subject) -> dict[str, float]:
    """Measure round trips beside an upload, in another process, that takes what it can get."""
    ports = subject.opened.ports
    with saturating_upload(ports) as finish:
        beside = measure_round_trips(ports.echo, subject.seconds)
        rate = finish()
    return {"beside": beside.median, "beside p99": beside.p99, "beside upload": rate}


def measure_connect(subject: Subject) -> dict[str, float]:
    """Measure new connections, one at a time and many."""
    echo = subject.opened.ports.echo
    gc.disable()
    try:
        one = measure_one_at_a_time(echo, subject.seconds)
        many = measure_many_at_a_time(echo, subject.seconds)
    finally:
        gc.enable()
    return {"connect": one, "connect 50": many}


def measure_socks_way(subject: Subject) -> dict[str, float]:
    """Measure SOCKS5, where the way has it."""
    if subject.opened.socks is None:
        return {}
    rate, trips = measure_socks(subject.opened.socks, subject.targets.echo, subject.seconds)
    return {"socks": rate, "socks ping": trips.median, "socks ping p99": trips.p99}


def measure_udp(subject: Subject) -> dict[str, float]:
    """Measure the round trips of datagrams, where the way has them."""
    if not subject.way.datagrams:
        return {}
    trips = measure_datagram_trips(subject.opened.ports.datagrams, subject.seconds)
    return {"udp": trips.median, "udp p99": trips.p99}


def measure_fresh(subject: Subject) -> dict[str, float]:
    """Measure the memory of programs that have done nothing yet."""
    if subject.opened.client is None:
        return {}
    return measure_memory(
        subject.way,
        subject.targets,
        subject.directory,
        sessions=subject.sessions,
        connections=subject.connections,
    )


def measure_start(subject: Subject) -> dict[str, float]:
    """Measure how long another pair of programs takes from exec to the first byte."""
    if subject.opened.client is None:
        return {}
    with subject.way.opened(subject.targets, subject.directory) as opened:
        return {"start": opened.client_start, "start both": opened.both_start}


ROWS = (
    bulk_row("up", up=1, down=0),
    bulk_row("down", up=0, down=1),
    bulk_row("both", up=1, down=1),
    bulk_row("up8", up=8, down=0),
    bulk_row("down8", up=0, down=8),
    bulk_row("both8", up=8, down=8),
    Row(
        "ping",
        (
            Figure("ping", "round trip of 64 bytes, median", "µs"),
            Figure("ping p99", "round trip of 64 bytes, p99", "µs"),
        ),
        measure_ping,
    ),
    Row(
        "beside",
        (
            Figure("beside", "round trip beside a saturating upload, median", "µs"),
            Figure("beside p99", "round trip beside a saturating upload, p99", "µs"),
            Figure("beside upload", "the upload meanwhile", "MB/s"),
        ),
        measure_beside,
    ),
    request_row("get", connections=1),
    request_row("get50", connections=50),
    request_row("get50x16", connections=50, pipelined=16),
    Row(
        "connect",
        (
            Figure("connect", "new connections, one at a time", "1/s"),
            Figure("connect 50", "new connections, 50 at a time", "1/s"),
        ),
        measure_connect,
    ),
    Row(
        "socks",
        (
            Figure("socks", "SOCKS5: new connections with a round trip, one at a time", "1/s"),
            Figure("socks ping", "SOCKS5: round trip of 64 bytes, median", "µs"),
            Figure("socks ping p99", "SOCKS5: round trip of 64 bytes, p99", "µs"),
        ),
        measure_socks_way,
    ),
    Row(
        "udp",
        (
            Figure("udp", "UDP: round trip of 64 bytes, median", "µs"),
            Figure("udp p99", "UDP: round trip of 64 bytes, p99", "µs"),
        ),
        measure_udp,
    ),
    datagram_row("udp-up-64", size=64),
    datagram_row("udp-down-64", size=64, down=True),
    datagram_row("udp-up-1200", size=1200),
    datagram_row("udp-down-1200", size=1200, down=True),
    Row(
        "memory",
        (
            Figure("memory client", "memory (RSS) of the client, idle", "MB"),
            Figure("memory server", "memory (RSS) of the server, idle", "MB"),
            Figure("memory session", "server's memory for each idle session", "KiB"),
            Figure("memory connection client", "client's memory for each connection", "KiB"),
            Figure("memory connection server", "server's memory for each connection", "KiB"),
        ),
        measure_fresh,
    ),
    Row(
        "start",
        (
            Figure("start", "from the client's exec to the first byte", "s"),
            Figure("start both", "from the server's exec, then the client's, to it", "s"),
        ),
        measure_start,
    ),
)
