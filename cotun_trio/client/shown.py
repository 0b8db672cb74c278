"""The client as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Own

if TYPE_CHECKING:
    from cotun_trio.client.connector import Connector
    from cotun_trio.client.current_session import CurrentSession


class ShownClient(Own):
    """The client with this connector and this current session."""

    role = "client"

    def __init__(self, connector: Connector, current: CurrentSession) -> None:
        super().__init__(
            connector.ended_totals,
            lambda: [session for session in connector.sessions if session.was_open],
        )
        self._current = current
        self._why = "it is connecting"

    def failed(self, reason: str) -> None:
        """There is no session, because of this."""
        self._why = reason

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return None if self._current.now is not None else f"there is no tunnel: {self._why}"
