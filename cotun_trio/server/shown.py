"""The server as its admin interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.admin.watched import Fact, Own
from cotun_trio.snapshot import Figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.admin.watched import Bars
    from cotun_trio.forwards.quota import Quota
    from cotun_trio.server.reception import Reception
    from cotun_trio.snapshot import FleetFigures


MAX_NODES = 100
"""Nodes of a fleet that are shown on a page."""


class ShownServer(Own):
    """The server with this `reception`, this `quota` for all connections, these `bars`, and this
    `fleet`."""

    role = "server"

    def __init__(
        self,
        reception: Reception,
        quota: Quota,
        bars: Bars,
        fleet: Callable[[], FleetFigures | None],
    ) -> None:
        super().__init__(reception.ended_totals, lambda: reception.open_sessions, bars, fleet)
        self._reception = reception
        self._quota = quota
        self._listens = False
        self._facts: tuple[Fact, ...] = ()

    @property
    def lack(self) -> str | None:
        """See `Own`."""
        return None if self._listens else "it does not listen yet"

    def of_role(self) -> Figures:
        """See `Own`."""
        certificates = self._reception.certificates
        return Figures(
            connections=self._quota.count.own,
            max_connections=self._reception.settings.max_connections,
            certificate_expires=None if certificates is None else certificates.expires,
        )

    @property
    def facts(self) -> Sequence[Fact]:
        """See `Watched`."""
        fleet = self._fleet()
        if fleet is None:
            return self._facts
        nodes = tuple(
            f"{node.id}, {node.address}, {node.load} sessions{', draining' * node.draining}"
            for node in fleet.nodes[:MAX_NODES]
        )
        state = "answers" if fleet.answers else "does not answer"
        places = f"{fleet.own_routes} places here, {fleet.places} at other nodes"
        return (
            *self._facts,
            Fact("Fleet", (f"{fleet.name}, node {fleet.id}", places)),
            Fact("Directory", (f"{fleet.directory}, {state}",)),
            Fact("Other nodes", nodes),
        )

    def listens(self, addresses: Sequence[str]) -> None:
        """It carries connections to these addresses from now on."""
        self._listens = True
        self._facts = (Fact("Listens on", tuple(addresses)),)
