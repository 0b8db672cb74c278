"""The figures of a server or a client for Prometheus, as OpenMetrics or in its own older format.

There is no second bookkeeping: each scrape reads the figures that are there anyway.  The names
follow the conventions of Prometheus (https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio._version import __version__
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError:
    raise UsageError(
        "/metrics takes prometheus-client: pip install 'cotun-trio[metrics]'"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from cotun_trio.admin.watched import Watched, WorkerFigures
    from cotun_trio.counts import Durations, Meters, Tally, UserTraffic
    from cotun_trio.snapshot import Figures, FleetFigures


class _Figures(Collector):
    """Has the figures of `watched` for one scrape."""

    def __init__(
        self, watched: Watched, figures: Figures, meters: Meters, fleet: FleetFigures | None
    ) -> None:
        self._fleet = fleet
        self._watched = watched
        self._figures = figures
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each figure."""
        yield from self._of_program()
        yield from self._of_sessions()
        yield from self._of_outcomes()
        yield from self._of_process()
        if self._figures.users:
            yield from _of_users(self._figures.users)
        if self._fleet is not None:
            yield from _of_fleet(self._fleet)

    def _of_program(self) -> Iterator[Metric]:
        watched, figures = self._watched, self._figures
        build = GaugeMetricFamily(
            "cotun_trio_build_info", "The program and its role", labels=["version", "role"]
        )
        build.add_metric([__version__, watched.role], 1)
        yield build
        yield _gauge("ready", "Whether it carries new connections", watched.not_ready is None)
        yield _gauge("draining", "Processes that are about to end", figures.draining)
        yield _gauge("uptime_seconds", "Time since it began", watched.uptime)
        if figures.started is not None:
            yield _gauge("start_time_seconds", "When it began, since 1970", figures.started)
        if figures.certificate_expires is not None:
            yield _gauge(
                "certificate_expiry_timestamp_seconds",
                "When its TLS certificate ends, since 1970; of several, the first to end",
                figures.certificate_expires,
            )

    def _of_sessions(self) -> Iterator[Metric]:
        figures = self._figures
        yield _gauge("sessions", "Open sessions", figures.sessions)
        yield _counter("sessions_opened", "Sessions so far", figures.sessions + figures.ended)
        yield _gauge("channels", "Open channels of all sessions", figures.channels)
        yield _gauge("connections", "Forwarded connections", figures.connections)
        if figures.max_connections:  # or there is no limit
            yield _gauge("max_connections", "Their limit", figures.max_connections)
        both = CounterMetricFamily(
            "cotun_trio_bytes", "Bytes of the sessions, as the network has them", labels=["way"]
        )
        both.add_metric(["in"], figures.bytes_in)
        both.add_metric(["out"], figures.bytes_out)
        yield both
        waiting = GaugeMetricFamily(
            "cotun_trio_backlog_bytes",
            "Bytes that wait: out, for the network; in, for a program that is slow to read",
            labels=["way"],
        )
        waiting.add_metric(["in"], figures.backlog_in)
        waiting.add_metric(["out"], figures.backlog_out)
        yield waiting
        yield _counter("datagrams_dropped", "Datagrams that had to be dropped", figures.dropped)

    def _of_outcomes(self) -> Iterator[Metric]:
        meters = self._meters
        if self._watched.role == "client":
            yield _tally("connects", "Attempts to get a session", meters.connects)
        else:
            yield _tally("logins", "Logins at this server", meters.logins)
        yield _tally("channel_openings", "Channels that either end asked for", meters.channels)
        yield _tally("visitors_refused", "Connections to listeners, refused", meters.visitors)
        for name, text, durations in (
            ("handshake_duration", "From a connection to its open session", meters.handshakes),
            ("dial_duration", "From the wish for a target to its connection", meters.dials),
            ("ping_duration", "Round trips of pings", meters.pings),
            ("event_loop_lag", "How late the event loop woke a task", meters.lags),
        ):
            yield _histogram(f"{name}_seconds", text, durations)

    def _of_process(self) -> Iterator[Metric]:
        figures = self._figures
        yield _gauge("tasks", "Tasks of the event loop", figures.tasks)
        if figures.memory:  # or the system does not say
            yield _gauge("open_descriptors", "File descriptors in use", figures.descriptors)
            yield _gauge("resident_memory_bytes", "Memory in use", figures.memory)
        if figures.max_descriptors:  # or there is no limit
            yield _gauge("max_descriptors", "File descriptors allowed", figures.max_descriptors)
        if self._watched.workers:
            yield from _workers(self._watched.workers)


def _workers(workers: Sequence[WorkerFigures]) -> Iterator[Metric]:
    """Yield the families of single workers; all of their totals are one."""
    silent = sum(not worker.answers for worker in workers)
    yield _gauge("workers_silent", "Workers that do not answer", silent)
    families = [
        _gauge_of_workers("up", "Whether it answers"),
        _gauge_of_workers("sessions", "Its open sessions"),
        _gauge_of_workers("resident_memory_bytes", "Its memory in use"),
    ]
    for worker in workers:
        values = worker.answers, worker.figures.sessions, worker.figures.memory
        for family, value in zip(families, values, strict=True):
            family.add_metric([str(worker.number)], value)
    yield from families


def _gauge_of_workers(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cotun_trio_worker_{name}", text, labels=["worker"])


def _of_fleet(fleet: FleetFigures) -> Iterator[Metric]:
    yield _gauge("fleet_nodes", "Nodes of the fleet, this one included", 1 + len(fleet.nodes))
    yield _gauge("fleet_directory_up", "Whether the directory answers", fleet.answers)
    yield _gauge("fleet_lease_seconds", "Time until this node's lease ends", fleet.lease_seconds)
    yield _gauge("fleet_epoch", "The highest epoch of a claim that was seen", fleet.epoch)
    yield _gauge("fleet_links", "Open links to other nodes", fleet.links)
    places = GaugeMetricFamily(
        "cotun_trio_fleet_places", "Places of reverse remotes", labels=["owner"]
    )
    places.add_metric(["this_node"], fleet.own_routes)
    places.add_metric(["other_nodes"], fleet.places)
    yield places


def _of_users(users: Mapping[str, UserTraffic]) -> Iterator[Metric]:
    sessions = GaugeMetricFamily(
        "cotun_trio_user_sessions", "Open sessions of a user", labels=["user"]
    )
    both = CounterMetricFamily(
        "cotun_trio_user_bytes", "Bytes of a user's sessions", labels=["user", "way"]
    )
    for name, traffic in users.items():
        shown = escape(name, len(name))
        sessions.add_metric([shown], traffic.sessions)
        both.add_metric([shown, "in"], traffic.bytes_in)
        both.add_metric([shown, "out"], traffic.bytes_out)
    yield sessions
    yield both


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cotun_trio_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"cotun_trio_{name}", text, value=value)


def _tally(name: str, text: str, tally: Tally) -> CounterMetricFamily:
    family = CounterMetricFamily(f"cotun_trio_{name}", text, labels=["outcome"])
    for outcome, count in tally.counts.items():
        family.add_metric([outcome], count)
    return family


def _histogram(name: str, text: str, durations: Durations) -> HistogramMetricFamily:
    bounds = [*map(str, durations.BOUNDS), "+Inf"]
    buckets = list(zip(bounds, durations.cumulative(), strict=True))
    return HistogramMetricFamily(
        f"cotun_trio_{name}", text, buckets=buckets, sum_value=durations.total
    )


async def exposition(watched: Watched, accept: str) -> tuple[bytes, str]:
    """Return the text of one scrape, and its content type.

    It is OpenMetrics where the scraper's ``Accept`` has that, and else the older text format.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(watched, *await watched.stats(), await watched.fleet()))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
