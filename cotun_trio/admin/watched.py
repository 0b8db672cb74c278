"""The server or the client that an admin interface shows.

`Watched` is all that the interface knows of it.  `Own` is one in this process; the one of several
processes is in `cotun_trio.workers`, and asks each of them, so that everything here may take a
moment.
"""

from __future__ import annotations

import abc
import time
from typing import TYPE_CHECKING

from cotun_trio.counts import meters
from cotun_trio.snapshot import figures, session_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.counts import Meters
    from cotun_trio.session import Session
    from cotun_trio.snapshot import EndedTotals, Figures, SessionFigures


class Watched(abc.ABC):
    """A server or a client."""

    role: str
    """``server`` or ``client``."""

    @property
    @abc.abstractmethod
    def not_ready(self) -> str | None:
        """Why it carries no new connections at present; None where it does."""

    @property
    @abc.abstractmethod
    def uptime(self) -> float:
        """Seconds since it began."""

    @abc.abstractmethod
    async def stats(self) -> tuple[Figures, Meters]:
        """Return the present figures, and the tallies and durations so far."""

    @abc.abstractmethod
    async def sessions(self) -> Sequence[SessionFigures]:
        """Return the figures of each open session."""

    @abc.abstractmethod
    async def kick(self, identity: str, reason: str) -> bool:
        """End the open session that has this `SessionFigures.id`, whose peer is told why.

        Returns whether there is one.
        """


class Own(Watched):
    """One in this process: its ended sessions, and the function that returns the open ones."""

    def __init__(self, ended: EndedTotals, present: Callable[[], Sequence[Session]]) -> None:
        self._ended = ended
        self._present = present

    @property
    def uptime(self) -> float:
        """See `Watched`."""
        return time.monotonic() - self._ended.began

    def figures(self) -> Figures:
        """Return the present figures."""
        return figures(self._ended, self._present())

    async def stats(self) -> tuple[Figures, Meters]:
        """See `Watched`."""
        return self.figures(), meters()

    async def sessions(self) -> Sequence[SessionFigures]:
        """See `Watched`."""
        return [session_figures(session) for session in self._present()]

    async def kick(self, identity: str, reason: str) -> bool:
        """See `Watched`."""
        for session in self._present():
            if str(session.number) == identity:
                session.log.info("ended by an administrator: %s", reason)
                session.log.event("kicked", reason=reason)
                session.kick(reason)
                return True
        return False
