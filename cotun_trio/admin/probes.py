"""Health, readiness and figures: for monitors, load balancers and Prometheus."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from cotun_trio._version import __version__
from cotun_trio.admin.answers import Answer, text
from cotun_trio.admin.history import PERIOD, Rate  # noqa: TC001  the schema of `Rates` has it
from cotun_trio.admin.operations import Failure
from cotun_trio.errors import UsageError
from cotun_trio.snapshot import Figures

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call


@attrs.frozen(kw_only=True)
class Worker(Figures):
    """The figures of one process of several that are one server."""

    number: int
    """As in the log: ``worker=``."""
    process: int
    """Its process's number."""
    answers: bool
    """Whether these are present figures; or else those that it gave last."""


@attrs.frozen(kw_only=True)
class Stats(Figures):
    """The figures of a server or a client."""

    role: str
    """``server`` or ``client``."""
    version: str
    uptime: float
    """Seconds since it began."""
    ready: bool
    """Whether it carries new connections."""
    not_ready_because: str | None
    """The reason where it does not."""
    workers: tuple[Worker, ...]
    """The processes of a server with ``--workers``, whose figures are the sums of theirs."""
    workers_silent: int
    """How many of them do not answer."""


@attrs.frozen
class Rates:
    """The traffic of the last five minutes."""

    seconds: float
    """The time between two samples."""
    rates: tuple[Rate, ...]
    """The eldest first."""


async def health(_call: Call) -> Answer:
    """Say that the process answers."""
    return text("OK")


async def ready(call: Call) -> Answer:
    """Say whether new connections are carried; and why not, with the status 503."""
    reason = call.watched.not_ready
    return text("OK") if reason is None else text(reason, HTTPStatus.SERVICE_UNAVAILABLE)


async def metrics(call: Call) -> Answer:
    """Return the figures for Prometheus, as OpenMetrics or in its older text format."""
    try:
        from cotun_trio.admin import metrics  # where it is not asked for, it costs nothing
    except UsageError as error:
        raise Failure(HTTPStatus.NOT_IMPLEMENTED, str(error)) from None
    accept = b",".join(call.request.values(b"accept")).decode("latin-1")
    return Answer(*await metrics.exposition(call.watched, accept))


async def stats(call: Call) -> Stats:
    """Return the figures, and how the program is."""
    watched = call.watched
    reason = watched.not_ready
    figures, _ = await watched.stats()
    workers = tuple(
        Worker(
            number=each.number,
            process=each.process,
            answers=each.answers,
            **attrs.asdict(each.figures),
        )
        for each in watched.workers
    )
    return Stats(
        role=watched.role,
        version=__version__,
        uptime=round(watched.uptime, 3),
        ready=reason is None,
        not_ready_because=reason,
        workers=workers,
        workers_silent=sum(not each.answers for each in workers),
        **attrs.asdict(figures),
    )


async def rates(call: Call) -> Rates:
    """Return the traffic of the last five minutes."""
    return Rates(PERIOD, tuple(call.history.rates))
