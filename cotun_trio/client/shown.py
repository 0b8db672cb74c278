"""The client as its admin interface shows it (`cotun_trio.admin.watched.Watched`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cotun_trio.counts import meters
from cotun_trio.snapshot import figures, session_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client.connector import Connector
    from cotun_trio.client.current_session import CurrentSession
    from cotun_trio.client.session import ClientSession
    from cotun_trio.counts import Meters
    from cotun_trio.snapshot import Figures, SessionFigures


class ShownClient:
    """The client with this connector and this current session."""

    role = "client"

    def __init__(self, connector: Connector, current: CurrentSession) -> None:
        self._connector = connector
        self._current = current
        self._why = "it is connecting"

    def failed(self, reason: str) -> None:
        """There is no session, because of this."""
        self._why = reason

    @property
    def not_ready(self) -> str | None:
        """See `cotun_trio.admin.watched.Watched`."""
        return None if self._current.now is not None else f"there is no tunnel: {self._why}"

    @property
    def uptime(self) -> float:
        """See `cotun_trio.admin.watched.Watched`."""
        return time.monotonic() - self._connector.ended_totals.began

    @property
    def _open(self) -> list[ClientSession]:
        return [session for session in self._connector.sessions if session.was_open]

    @property
    def meters(self) -> Meters:
        """See `cotun_trio.admin.watched.Watched`."""
        return meters()

    def figures(self) -> Figures:
        """See `cotun_trio.admin.watched.Watched`."""
        return figures(self._connector.ended_totals, self._open)

    def session_figures(self) -> Sequence[SessionFigures]:
        """See `cotun_trio.admin.watched.Watched`."""
        return [session_figures(session) for session in self._open]

    def kick(self, number: int, reason: str) -> bool:
        """See `cotun_trio.admin.watched.Watched`."""
        for session in self._open:
            if session.number == number:
                session.log.info("ended by an administrator: %s", reason)
                session.kick(reason)
                return True
        return False
