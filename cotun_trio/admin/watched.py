"""The server or the client that an admin interface shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.counts import Meters
    from cotun_trio.snapshot import Figures, SessionFigures


class Watched(Protocol):
    """The server or the client."""

    @property
    def role(self) -> str:
        """``server`` or ``client``."""

    @property
    def not_ready(self) -> str | None:
        """Why it carries no new connections at present; None where it does."""

    @property
    def uptime(self) -> float:
        """Seconds since it began."""

    @property
    def meters(self) -> Meters:
        """The tallies and durations so far."""

    def figures(self) -> Figures:
        """Return its present figures."""

    def session_figures(self) -> Sequence[SessionFigures]:
        """Return those of each open session."""

    def kick(self, number: int, reason: str) -> bool:
        """End the open session with this number, whose peer is told why; return whether there is
        one."""
