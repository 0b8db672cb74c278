"""The server as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Fact, Own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.watched import Bars
    from cotun_trio.server.reception import Reception


class ShownServer(Own):
    """The server with this `reception`, and with these `bars`."""

    role = "server"

    def __init__(self, reception: Reception, bars: Bars) -> None:
        super().__init__(reception.ended_totals, lambda: reception.open_sessions, bars)
        self._reception = reception
        self._not_ready: str | None = "it does not listen yet"
        self._facts: tuple[Fact, ...] = ()

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        return self._not_ready

    @property
    def facts(self) -> Sequence[Fact]:
        """See `Watched`."""
        return self._facts

    @property
    def certificate_expires(self) -> float | None:
        """See `Own`."""
        certificates = self._reception.certificates
        return None if certificates is None else certificates.expires

    def listens(self, addresses: Sequence[str]) -> None:
        """It carries connections to these addresses from now on."""
        self._not_ready = None
        self._facts = (Fact("Listens on", tuple(addresses)),)

    def drains(self) -> None:
        """It carries no new connections any more."""
        self._not_ready = "it is shutting down"
