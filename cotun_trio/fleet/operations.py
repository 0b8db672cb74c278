"""The operations of the directory, and their answers.

Each operation is done as a whole or not at all, but the node that asked may not get to know which:
an answer can be lost, and an operation done later than its deadline.  So each one is safe to be
done at any time, and more than once:

* What a node owns is one *statement* with a version.  A `Write` says which version it changes, and
  is refused where the directory has another one.
* `Restate` replaces the whole statement.  A node does that after every doubt: when an answer did
  not come, or a `Renew` or a `Write` shows that the directory has lost something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.records import Holder, NodeFacts, Route, Wish


class Operation:
    """The root of all operations."""

    __slots__ = ()


@attrs.frozen
class Renew(Operation):
    """Renew a node's lease, and describe it; the answer is `Renewed`.

    Also frees what nodes owned whose lease has run out.
    """

    facts: NodeFacts
    announce: bool
    """Whether other nodes are told; they are told in any case where the lease had run out."""
    epoch: int
    """The highest epoch that the node has seen: the counter is raised to it."""


@attrs.frozen
class Renewed:
    """The lease is held."""

    version: int
    """Of the node's statement; 0 for none, and -1 for one that is being made."""
    epoch: int
    """The highest epoch so far."""
    position: int
    """The number of the last entry of the stream."""
    life: str
    """See `Surveyed`."""


@attrs.frozen
class Write(Operation):
    """Change the statement of a node; the answer is `Written`, or `Outdated`."""

    node: str
    version: int
    """Of the statement that is changed; the next number is the changed one's, if any is."""
    epoch: int
    """See `Renew`."""
    claims: tuple[tuple[Wish, bool], ...] = ()
    """Wishes, each with whether the node knows of an owner elsewhere."""
    released: tuple[tuple[str, int], ...] = ()
    """Places, each with its session."""
    counts: Mapping[str, int] = attrs.field(factory=dict)
    """Counts that are others now; 0 for one that is gone."""
    entries: tuple[Entry, ...] = ()
    """Entries for all nodes, which change no statement."""

    @property
    def changes(self) -> int:
        """The number of its changes, which is bounded by who makes it."""
        return len(self.claims) + len(self.released) + len(self.counts) + len(self.entries)


@attrs.frozen
class Granted:
    """A claim has succeeded, by this epoch."""

    epoch: int


@attrs.frozen
class Held:
    """The place has an owner whose node is alive, and who is another client."""

    holder: Holder


@attrs.frozen
class Unknown:
    """The directory has no owner of the place, and the claimant says that there is one: either it
    has just gone, or the directory has lost it, and its node will say so in a moment."""


Outcome = Granted | Held | Unknown


@attrs.frozen
class Written:
    """The statement has been changed."""

    version: int
    epoch: int
    outcomes: tuple[Outcome, ...] = ()
    """One for each claim."""


@attrs.frozen
class Outdated:
    """Nothing was done: the directory has another version of the statement, or no lease."""

    version: int
    """The one that it has, or that is being made there."""


@attrs.frozen
class Restate(Operation):
    """Make a node's statement anew, in one or several parts; the answer is `Retold` or `Outdated`.

    Exclusive places are claimed back: the epoch of a route stays, and an owner elsewhere that is
    alive and has a higher rank keeps its place.  What the old statement had, and the new one has
    not, is released with the last part.
    """

    node: str
    version: int
    """Of the new statement; higher than that of the old one, or nothing is done."""
    routes: tuple[tuple[Route, str], ...]
    """Routes, each with the mark of its client."""
    counts: Mapping[str, int]
    first: bool
    last: bool


@attrs.frozen
class Retold:
    """A part of a statement has been made."""

    lost: tuple[tuple[str, Holder], ...] = ()
    """The places that others own by now."""


@attrs.frozen
class Survey(Operation):
    """Read what all nodes have to know, except their statements; the answer is `Surveyed`."""


@attrs.frozen
class Surveyed:
    """The directory, at the moment of an entry of the stream."""

    life: str
    """Of the directory: another one after it has started again, or another server has taken over,
    either of which can have lost the last entries, and then give others the same numbers."""
    position: int
    epoch: int
    nodes: tuple[tuple[NodeFacts, int], ...]
    """The nodes with a lease, each with the version of its statement; -1 for one that is being
    made."""
    bars: Mapping[str, float]
    """Seconds for which sources are barred."""
    revoked: Mapping[str, int]
    """The stamps of the latest revocations, by user."""


@attrs.frozen
class Read(Operation):
    """Read the statement of a node; the answer is a `Statement`."""

    node: str


@attrs.frozen
class Statement:
    """All that a node says of itself."""

    version: int
    """0 for none, and -1 for one that is being made."""
    routes: tuple[Route, ...] = ()
    counts: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen
class Leave(Operation):
    """Give up the lease of a node, and all that it owns; the answer is None."""

    node: str


@attrs.frozen
class CountFailure(Operation):
    """Count a failed login of a source; the answer is an `access.penalties.Verdict`.

    `per_minute` of them bar the source, for all nodes.
    """

    source: str
    per_minute: int


Answer = Renewed | Written | Outdated | Retold | Surveyed | Statement | None
