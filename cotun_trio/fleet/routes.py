"""The table of all nodes and all their routes, which each node has in memory.

It is the largest thing of a node in a large fleet, so a route is stored once: each node has its
routes by place, and the index has only the names of nodes for each place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import attrs

from cotun_trio.fleet.leases import TTL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cotun_trio.fleet.records import NodeFacts, Route

T = TypeVar("T")

MAX_NODES = 4096
"""Nodes of a fleet that others remember."""
MAX_PLACES = 1_000_000
"""Places of one node that others remember."""


@attrs.define(eq=False)
class KnownNode:
    """Another node, as this one knows it."""

    facts: NodeFacts
    version: int = 0
    """Of its statement, as far as it has been read."""
    routes: dict[str, Route | tuple[Route, ...]] = attrs.field(factory=dict)
    """By place; mostly one route for each."""
    hops: int = 0
    """Visitors that were sent to it since it described itself last."""
    avoided_until: float = -math.inf
    """Until when no visitor is sent to it, since one could not reach it."""
    doubted_since: float = math.inf
    """Since when the directory does not know it."""

    def all_routes(self) -> Iterator[Route]:
        """Give all of its routes."""
        for routes in self.routes.values():
            yield from _several(routes)


class Table:
    """The other nodes and their routes."""

    def __init__(self) -> None:
        self.nodes: dict[str, KnownNode] = {}
        """By id."""
        self._owners: dict[str, str | tuple[str, ...]] = {}  # by place: ids, mostly one
        self._changed: set[str] = set()  # places that have an owner now, or none any more

    def describe(self, facts: NodeFacts) -> KnownNode | None:
        """Take a node's description of itself; return it, or None where there is no room."""
        known = self.nodes.get(facts.id)
        if known is None:
            if len(self.nodes) >= MAX_NODES:
                return None
            known = self.nodes[facts.id] = KnownNode(facts)
        known.facts = facts
        known.hops = 0
        known.doubted_since = math.inf
        return known

    def owners(self, place: str) -> Iterator[tuple[KnownNode, Route]]:
        """Give all routes to a place, each with its node."""
        for node in _several(self._owners.get(place, ())):
            known = self.nodes[node]
            for route in _several(known.routes[place]):
                yield known, route

    def has_exclusive_owner(self, place: str) -> bool:
        """Return whether a node is known to own the place alone."""
        return any(not route.group for _, route in self.owners(place))

    def put(self, node: str, route: Route) -> None:
        """Add a route of a known node, or change it."""
        routes = self.nodes[node].routes
        before = _several(routes.get(route.place, ()))
        if not before:
            if len(routes) >= MAX_PLACES:
                return
            self._owners[route.place] = _with(self._owners.get(route.place, ()), node)
            self._changed.add(route.place)
        rest = tuple(each for each in before if each.session != route.session)
        # The key is the route's own text, so that it is there once.
        routes.pop(route.place, None)
        routes[route.place] = (*rest, route) if rest else route

    def remove(self, node: str, place: str, session: int) -> bool:
        """Remove a route of a known node; return whether it was there."""
        routes = self.nodes[node].routes
        before = _several(routes.get(place, ()))
        rest = tuple(each for each in before if each.session != session)
        if len(rest) == len(before):
            return False
        if rest:
            routes[place] = rest[0] if len(rest) == 1 else rest
        else:
            del routes[place]
            self._unlink(place, node)
        return True

    def replace(self, node: str, version: int, routes: Iterable[Route]) -> list[str]:
        """Take the whole statement of a known node; return the places that it has no more."""
        known = self.nodes[node]
        before = list(known.routes)
        for place in before:
            self._unlink(place, node)
        known.routes = {}
        known.version = version
        for route in routes:
            self.put(node, route)
        return [place for place in before if place not in known.routes]

    def forget(self, node: str) -> list[str]:
        """A node has gone; return the places that it had."""
        if node not in self.nodes:
            return []
        places = self.replace(node, 0, ())
        del self.nodes[node]
        return places

    def doubt(self, present: Iterable[str], now: float) -> None:
        """The directory knows only these nodes: the others have a lease to come back.

        A directory that has lost everything must not cost a visitor the way.
        """
        for node in self.nodes.keys() - set(present):
            known = self.nodes[node]
            known.doubted_since = min(known.doubted_since, now)

    def doubted(self, now: float) -> list[str]:
        """Return the nodes that have been doubted for longer than a lease."""
        return [id_ for id_, node in self.nodes.items() if now >= node.doubted_since + TTL]

    def take_changed(self) -> set[str]:
        """Return the places that have come to have an owner since the last call, or to have none,
        and others."""
        changed, self._changed = self._changed, set()
        return changed

    def __contains__(self, place: str) -> bool:
        return place in self._owners

    def __len__(self) -> int:
        return len(self._owners)

    def _unlink(self, place: str, node: str) -> None:
        rest = tuple(each for each in _several(self._owners[place]) if each != node)
        if rest:
            self._owners[place] = rest[0] if len(rest) == 1 else rest
        else:
            del self._owners[place]
            self._changed.add(place)


def _several(one_or_more: T | tuple[T, ...]) -> tuple[T, ...]:
    return one_or_more if isinstance(one_or_more, tuple) else (one_or_more,)


def _with(nodes: str | tuple[str, ...], node: str) -> str | tuple[str, ...]:
    return node if nodes == () else (*_several(nodes), node)
