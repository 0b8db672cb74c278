"""The server as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Own

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.admin.watched import Bars
    from cotun_trio.server.reception import Reception
    from cotun_trio.snapshot import FleetFigures


class ShownServer(Own):
    """The server with this `reception`, these `bars`, and this `fleet`."""

    role = "server"

    def __init__(
        self, reception: Reception, bars: Bars, fleet: Callable[[], FleetFigures | None]
    ) -> None:
        super().__init__(reception.ended_totals, lambda: reception.open_sessions, bars, fleet)
        self._not_ready: str | None = "it does not listen yet"

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return self._not_ready

    def listens(self) -> None:
        """It carries connections from now on."""
        self._not_ready = None

    def drains(self) -> None:
        """It carries no new connections any more."""
        self._not_ready = "it is shutting down"
