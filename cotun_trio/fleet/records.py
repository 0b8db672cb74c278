"""The records of a fleet: a node, a route, and the wish for one."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class NodeFacts:
    """A node, as it describes itself to the others."""

    id: str
    """Of one run of one server: a server that starts again is another node."""
    address: str
    """Where other nodes connect to it."""
    fingerprint: str
    """Of its host key."""
    version: str
    """Of its program."""
    load: int = 0
    """The number of its sessions."""
    draining: bool = False
    """Whether it is about to leave."""
    users: str = ""
    """A digest of its users file, for a warning where two nodes have different ones."""


@attrs.frozen(order=True)
class Rank:
    """The rank of an owner of an exclusive place: of two owners, the one with the higher rank has
    it.

    That is the later epoch: an owner that was cut off for a while yields to a later one.  Two
    owners have the same epoch only where the directory has lost its counter, or was not asked;
    then it is the id that decides, for no better reason than that all nodes read it alike.
    """

    epoch: int
    node: str


@attrs.frozen
class Route:
    """A session that serves a place."""

    place: str
    session: int
    user: str
    """Empty where there are no users."""
    group: str
    """Of the owners that share the place; empty for the one owner of an exclusive place."""
    epoch: int


@attrs.frozen
class Wish:
    """A session that wants to serve a place."""

    place: str
    session: int
    user: str = ""
    group: str = ""
    """See `Route`."""
    mark: str = ""
    """A digest of the client's identity; empty for a client without one.  The identity itself is
    shown to nobody."""

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all other wishes of a node."""
        return self.place, self.session


@attrs.frozen
class Holder:
    """The owner of an exclusive place, as the directory knows it."""

    rank: Rank
    session: int
    user: str
    mark: str


def yields(mine: Route, me: str, theirs: Route, them: str) -> bool:
    """Return whether our route has to go, now that another node is known to have one for its place.

    An exclusive owner yields to one of a higher `Rank`, and never to owners that share.  They yield
    to it; and of two groups at one place, it is the later one that yields: nobody can drive a group
    away by a group of another name.  For two routes, it is never both that yield.
    """
    if mine.group and theirs.group:
        if (mine.group, mine.user) == (theirs.group, theirs.user):
            return False
        return Rank(mine.epoch, me) > Rank(theirs.epoch, them)
    if mine.group or theirs.group:
        return bool(mine.group)
    return Rank(mine.epoch, me) < Rank(theirs.epoch, them)
