"""The figures of a server or a client for Prometheus, as OpenMetrics or in its own older format.

There is no second bookkeeping: each scrape reads the figures that are there anyway.  The names
follow the conventions of Prometheus (https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio._version import __version__
from cotun_trio.errors import UsageError

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
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from cotun_trio.admin.watched import Watched, WorkerFigures
    from cotun_trio.counts import Durations, Meters, Tally
    from cotun_trio.snapshot import Figures


class _Figures(Collector):
    """Has the figures of `watched` for one scrape."""

    def __init__(self, watched: Watched, figures: Figures, meters: Meters) -> None:
        self._watched = watched
        self._figures = figures
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each figure."""
        watched, figures, meters = self._watched, self._figures, self._meters
        build = GaugeMetricFamily(
            "cotun_trio_build_info", "The program and its role", labels=["version", "role"]
        )
        build.add_metric([__version__, watched.role], 1)
        yield build
        yield _gauge("ready", "Whether it carries new connections", watched.not_ready is None)
        yield _gauge("uptime_seconds", "Time since it began", watched.uptime)
        yield _gauge("sessions", "Open sessions", figures.sessions)
        yield _counter("sessions_opened", "Sessions so far", figures.sessions + figures.ended)
        yield _gauge("channels", "Open channels of all sessions", figures.channels)
        both = CounterMetricFamily(
            "cotun_trio_bytes", "Bytes of the sessions, as the network has them", labels=["way"]
        )
        both.add_metric(["in"], figures.bytes_in)
        both.add_metric(["out"], figures.bytes_out)
        yield both
        yield _tally("logins", "Logins at this server", meters.logins)
        yield _tally("channel_openings", "Channels that either end asked for", meters.channels)
        yield _tally("visitors_refused", "Connections to listeners, refused", meters.visitors)
        yield _histogram("handshake", "From a connection to its open session", meters.handshakes)
        yield _histogram("dial", "From the wish for a target to its connection", meters.dials)
        yield _histogram("ping", "Round trips of pings", meters.pings)
        yield _counter("datagrams_dropped", "Datagrams that had to be dropped", figures.dropped)
        yield _gauge("tasks", "Tasks of the event loop", figures.tasks)
        if figures.memory:  # or the system does not say
            yield _gauge("open_descriptors", "File descriptors in use", figures.descriptors)
            yield _gauge("resident_memory_bytes", "Memory in use", figures.memory)
        if watched.workers:
            yield from _workers(watched.workers)


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
        f"cotun_trio_{name}_duration_seconds", text, buckets=buckets, sum_value=durations.total
    )


async def exposition(watched: Watched, accept: str) -> tuple[bytes, str]:
    """Return the text of one scrape, and its content type.

    It is OpenMetrics where the scraper's ``Accept`` has that, and else the older text format.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(watched, *await watched.stats()))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
