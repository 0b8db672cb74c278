"""The choice of the owner that a visitor is sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.fleet.records import Route
    from cotun_trio.fleet.routes import KnownNode, Table

AVOIDED = 3.0
"""Seconds for which no visitor is sent to a node that could not be reached.  Then one finds out
whether it is there again, which takes up to two; a node that is dead is gone with its lease."""
MAX_HOPS = 2
"""Owners that are tried for one visitor: the second one where the first refuses, before any byte
of the visitor's was taken."""


def choose(
    table: Table, place: str, now: float, tried: Collection[tuple[str, int]] = ()
) -> tuple[KnownNode, Route] | None:
    """Return the owner elsewhere that a visitor to `place` is sent to, with its route.

    It is the one with the least load.  Visitors that were sent there since the node said its load
    count as load, or all would go to the same node until it speaks again.  A draining node is
    chosen only where it has the only owner.  Returns None where nobody is left: the sessions in
    `tried`, each after its node's id, have refused, and there are at most `MAX_HOPS` of them.
    """
    if len(tried) >= MAX_HOPS:
        return None
    candidates = [
        (known.facts.draining, known.facts.load + known.hops, known.facts.id, route.session, route)
        for known, route in table.owners(place)
        if (known.facts.id, route.session) not in tried and known.avoided_until <= now
    ]
    if not candidates:
        return None
    *_, node, _session, route = min(candidates, key=lambda candidate: candidate[:4])
    table.nodes[node].hops += 1
    return table.nodes[node], route


def avoid(table: Table, node: str, now: float) -> None:
    """A node could not be reached: send no visitor to it for a while."""
    if node in table.nodes:
        table.nodes[node].avoided_until = now + AVOIDED
