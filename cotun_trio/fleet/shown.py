"""The fleet as its administrators see it, from the memory of one node."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import trio

from cotun_trio.snapshot import FleetFigures, FleetNode, FleetRoute

if TYPE_CHECKING:
    from cotun_trio.fleet.ingress import Ingress
    from cotun_trio.fleet.node import Node
    from cotun_trio.fleet.peer_links import PeerLinks
    from cotun_trio.fleet.redis_url import RedisUrl

MOST = 1000
"""Nodes and routes in an answer."""


def fleet_figures(
    name: str, directory: RedisUrl, node: Node, ingress: Ingress, links: PeerLinks
) -> FleetFigures:
    """Return the figures of a fleet, whose name and directory these are."""
    rules = node.rules
    table = rules.view.table
    own = [route for route, _ in rules.claims.all_own()]
    return FleetFigures(
        name=name,
        id=node.id,
        directory=str(directory),
        answers=rules.directory_answers,
        lease_seconds=round(rules.lease_left(trio.current_time()), 3),
        epoch=rules.view.epoch,
        draining=rules.is_leaving,
        nodes=tuple(
            FleetNode(
                id=known.facts.id,
                address=known.facts.address,
                version=known.facts.version,
                load=known.facts.load,
                draining=known.facts.draining,
                routes=len(known.routes),
            )
            for known in islice(table.nodes.values(), MOST)
        ),
        own_routes=len(own),
        routes=tuple(
            FleetRoute(
                place=route.place,
                session=route.session,
                user=route.user,
                shared=bool(route.group),
                epoch=route.epoch,
            )
            for route in own[:MOST]
        ),
        places=len(table),
        listening=len(ingress.places),
        links=len(links),
    )
