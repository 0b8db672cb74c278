"""The client as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Fact, Own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client.connectors import Connectors
    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.open_sessions import OpenSessions
    from cotun_trio.client.remotes import Remotes


class ShownClient(Own):
    """The client with these connectors, open sessions and remotes."""

    role = "client"

    def __init__(
        self, connectors: Connectors, open_sessions: OpenSessions, remotes: Remotes
    ) -> None:
        running = connectors.running
        super().__init__(
            running.ended_totals,
            lambda: [session for session in running.present if session.was_open],
        )
        self._connectors = connectors
        self._open = open_sessions
        self._remotes = remotes
        self._why = "it is connecting"

    @property
    def facts(self) -> Sequence[Fact]:
        """See `Watched`."""
        servers = tuple(map(str, self._connectors.servers))
        return (Fact("Server", servers), Fact("Remotes", tuple(map(_show, self._remotes.items))))

    @property
    def certificate_expires(self) -> float | None:
        """See `Own`."""
        return self._connectors.certificate_expires

    def failed(self, reason: str) -> None:
        """There is no session, because of this."""
        self._why = reason

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return None if len(self._open) else f"there is no tunnel: {self._why}"


def _show(item: ManagedRemote) -> str:
    return f"{item.remote}" if item.refusal is None else f"{item.remote}: {item.refusal}"
