"""The server or the client that an admin interface shows, by its sessions."""

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
    """A server or a client: its ended sessions, and the function that returns the open ones."""

    role: str
    """``server`` or ``client``."""

    def __init__(self, ended: EndedTotals, present: Callable[[], Sequence[Session]]) -> None:
        self._ended = ended
        self._present = present

    @property
    @abc.abstractmethod
    def not_ready(self) -> str | None:
        """Why it carries no new connections at present; None where it does."""

    @property
    def uptime(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._ended.began

    @property
    def meters(self) -> Meters:
        """The tallies and durations so far."""
        return meters()

    def figures(self) -> Figures:
        """Return its present figures."""
        return figures(self._ended, self._present())

    def session_figures(self) -> Sequence[SessionFigures]:
        """Return those of each open session."""
        return [session_figures(session) for session in self._present()]

    def kick(self, number: int, reason: str) -> bool:
        """End the open session with this number, whose peer is told why; return whether there is
        one."""
        for session in self._present():
            if session.number == number:
                session.log.info("ended by an administrator: %s", reason)
                session.kick(reason)
                return True
        return False
