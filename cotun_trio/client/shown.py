"""The client as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Fact, Own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client.connector import Connector
    from cotun_trio.client.current_session import CurrentSession
    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.remotes import Remotes


class ShownClient(Own):
    """The client with this connector, this current session, and these remotes."""

    role = "client"

    def __init__(self, connector: Connector, current: CurrentSession, remotes: Remotes) -> None:
        super().__init__(
            connector.ended_totals,
            lambda: [session for session in connector.sessions if session.was_open],
        )
        self._connector = connector
        self._current = current
        self._remotes = remotes
        self._why = "it is connecting"

    @property
    def facts(self) -> Sequence[Fact]:
        """See `Watched`."""
        servers = tuple(map(str, self._connector.servers))
        return (Fact("Server", servers), Fact("Remotes", tuple(map(_show, self._remotes.items))))

    @property
    def certificate_expires(self) -> float | None:
        """See `Own`."""
        return self._connector.certificate_expires

    def failed(self, reason: str) -> None:
        """There is no session, because of this."""
        self._why = reason

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return None if self._current.now is not None else f"there is no tunnel: {self._why}"


def _show(item: ManagedRemote) -> str:
    return f"{item.remote}" if item.failure is None else f"{item.remote}: {item.failure}"
