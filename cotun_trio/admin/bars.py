"""The sources that are barred for failed logins, and their pardon."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from cotun_trio.access.penalties import Bar  # noqa: TC001  the document has its fields
from cotun_trio.access.sources import source_of
from cotun_trio.admin.operations import Failure
from cotun_trio.escape import escape
from cotun_trio.logs import get_logger

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call

MAX_BARS = 1000
"""Sources in a list: there can be many thousand."""


@attrs.frozen
class BarredSources:
    """The sources that are barred."""

    count: int
    """All of them; the list may be shorter."""
    bars: tuple[Bar, ...]
    """Those that are barred for the longest time come first."""


@attrs.frozen
class Lifted:
    """The bars that were lifted."""

    count: int


async def bars(call: Call) -> BarredSources:
    """Return the sources that are barred for failed logins, 1000 at most.

    A client has none.
    """
    found = sorted(await call.watched.bars(), key=lambda bar: bar.seconds, reverse=True)
    shown = (attrs.evolve(bar, seconds=round(bar.seconds, 3)) for bar in found[:MAX_BARS])
    return BarredSources(len(found), tuple(shown))


async def lift(call: Call) -> Lifted:
    """Let a source log in again at once; its failures are forgotten."""
    source = source_of(call.path["source"])
    shown = escape(source)
    if not await call.watched.lift(source):
        raise Failure(HTTPStatus.NOT_FOUND, f"{shown} is not barred")
    log = get_logger(call.watched.role)
    log.info("%s may log in again: an administrator has lifted its bar", shown)
    log.event("lifted", source=shown)
    return Lifted(1)


async def lift_all(call: Call) -> Lifted:
    """Let all barred sources log in again."""
    count = await call.watched.lift_all()
    if count:
        log = get_logger(call.watched.role)
        log.info("All may log in again: an administrator has lifted %d bars", count)
        log.event("lifted", count=count)
    return Lifted(count)
