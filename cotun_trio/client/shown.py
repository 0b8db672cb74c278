"""The client as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Own

if TYPE_CHECKING:
    from cotun_trio.client.open_sessions import OpenSessions
    from cotun_trio.client.running_sessions import RunningSessions


class ShownClient(Own):
    """The client with these sessions."""

    role = "client"

    def __init__(self, running: RunningSessions, open_sessions: OpenSessions) -> None:
        super().__init__(
            running.ended_totals,
            lambda: [session for session in running.present if session.was_open],
        )
        self._open = open_sessions
        self._why = "it is connecting"

    def failed(self, reason: str) -> None:
        """There is no session, because of this."""
        self._why = reason

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return None if len(self._open) else f"there is no tunnel: {self._why}"
