"""The server as its admin interface shows it (`cotun_trio.admin.watched.Watched`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cotun_trio.counts import meters
from cotun_trio.snapshot import figures, session_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.counts import Meters
    from cotun_trio.server.reception import Reception
    from cotun_trio.snapshot import Figures, SessionFigures


class ShownServer:
    """The server with this `reception`."""

    role = "server"

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self.not_ready: str | None = "it does not listen yet"
        """See `cotun_trio.admin.watched.Watched`."""

    def listens(self) -> None:
        """It carries connections from now on."""
        self.not_ready = None

    def drains(self) -> None:
        """It carries no new connections any more."""
        self.not_ready = "it is shutting down"

    @property
    def uptime(self) -> float:
        """See `cotun_trio.admin.watched.Watched`."""
        return time.monotonic() - self._reception.ended_totals.began

    @property
    def meters(self) -> Meters:
        """See `cotun_trio.admin.watched.Watched`."""
        return meters()

    def figures(self) -> Figures:
        """See `cotun_trio.admin.watched.Watched`."""
        return figures(self._reception.ended_totals, self._reception.open_sessions)

    def session_figures(self) -> Sequence[SessionFigures]:
        """See `cotun_trio.admin.watched.Watched`."""
        return [session_figures(session) for session in self._reception.open_sessions]

    def kick(self, number: int, reason: str) -> bool:
        """See `cotun_trio.admin.watched.Watched`."""
        for session in self._reception.open_sessions:
            if session.number == number:
                session.log.info("ended by an administrator: %s", reason)
                session.kick(reason)
                return True
        return False
