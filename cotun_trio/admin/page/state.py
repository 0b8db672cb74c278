"""All that the page shows, as it is at one time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from cotun_trio.errors import CotunError
from cotun_trio.logs.events import record_events
from cotun_trio.snapshot import Figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.history import History, Rate
    from cotun_trio.admin.watched import Fact, Watched
    from cotun_trio.logs.events import Event
    from cotun_trio.snapshot import SessionFigures


@attrs.frozen(kw_only=True)
class State:
    """The state of a server or a client."""

    role: str
    at: float
    """Seconds since 1970."""
    not_ready: str | None
    uptime: float
    facts: Sequence[Fact]
    figures: Figures
    sessions: Sequence[SessionFigures]
    trouble: str | None
    """Why figures or sessions are missing; None where they are not."""
    events: Sequence[Event]
    last: int
    """The number of the latest event of any role; 0 where there was none."""
    rates: Sequence[Rate]


async def state_of(watched: Watched, history: History) -> State:
    """Return the present state of `watched`, as far as it can be had."""
    noted, role, trouble = record_events(), watched.role, None
    figures = Figures()
    sessions: Sequence[SessionFigures] = ()
    try:
        figures, _ = await watched.stats()
        sessions = await watched.sessions()
    except CotunError as error:
        trouble = str(error)
    return State(
        role=role,
        at=time.time(),
        not_ready=watched.not_ready,
        uptime=watched.uptime,
        facts=watched.facts,
        figures=figures,
        sessions=sessions,
        trouble=trouble,
        events=[event for event in noted.after(0) if event.role == role],
        last=noted.last,
        rates=history.rates,
    )
