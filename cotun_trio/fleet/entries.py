"""The entries of the change stream: what is told to all nodes, once and in one order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cotun_trio.fleet.records import NodeFacts, Route


class Entry:
    """The root of all entries."""

    __slots__ = ()


@attrs.frozen
class NodeChanged(Entry):
    """A node has come, or describes itself in another way."""

    facts: NodeFacts
    version: int
    """Of its statement; see `cotun_trio.fleet.operations.Statement`."""


@attrs.frozen
class NodeGone(Entry):
    """A node has left, or its lease has run out; all that it owned is free."""

    node: str


@attrs.frozen
class Changed(Entry):
    """A node's statement has changed: its next version is `version`."""

    node: str
    version: int
    opened: tuple[Route, ...] = ()
    closed: tuple[tuple[str, int], ...] = ()
    """Places, each with its session."""
    counts: Mapping[str, int] = attrs.field(factory=dict)
    """Counts that are others now; 0 for one that is gone."""


@attrs.frozen
class Restated(Entry):
    """A node has made its statement anew, as this version: nodes with another version read it."""

    node: str
    version: int


@attrs.frozen
class Asked(Entry):
    """A node asks another one whether the session that owns a place still answers."""

    node: str
    place: str
    epoch: int


@attrs.frozen
class Kept(Entry):
    """The answer to `Asked`: the session is alive, and keeps its place."""

    place: str
    epoch: int


@attrs.frozen
class Revoked(Entry):
    """The sessions that a user has at present are cut.  `stamp` is the time, by the directory."""

    user: str
    stamp: int = 0


@attrs.frozen
class Barred(Entry):
    """No login of a source is accepted for so many seconds."""

    source: str
    seconds: float


@attrs.frozen
class Lifted(Entry):
    """A source may log in again, and its failures are forgotten."""

    source: str
