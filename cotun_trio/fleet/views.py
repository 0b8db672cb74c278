"""The view of a node: the other nodes, by what the stream tells and what was read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cotun_trio.fleet import entries
from cotun_trio.fleet.effects import CutUser, UsersDiffer
from cotun_trio.fleet.leases import RETRY, TTL
from cotun_trio.fleet.operations import Read, Survey
from cotun_trio.fleet.routes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.fleet.bars import Bars
    from cotun_trio.fleet.claims import Claims
    from cotun_trio.fleet.counts import FleetCounts
    from cotun_trio.fleet.effects import Effect
    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Renewed, Statement, Surveyed
    from cotun_trio.fleet.records import NodeFacts, Route

MAX_REVOKED = 65_536
"""Users whose last revocation is remembered."""


class View:
    """The other nodes, as the node that `facts` describe knows them.

    Every statement has a version, and every change of one is an entry with the next version.  An
    entry that does not fit has the statement read; an entry that is missing from the stream has
    everything surveyed, and then only those statements are read whose version is another one.
    """

    def __init__(
        self,
        facts: NodeFacts,
        claims: Claims,
        counts: FleetCounts,
        bars: Bars,
        effect: Callable[[Effect], None],
    ) -> None:
        self._me = facts.id
        self.users = facts.users
        """The digest of our users file."""
        self._claims = claims
        self._counts = counts
        self._bars = bars
        self._effect = effect
        self._wanted: dict[str, int] = {}  # nodes to read, each until it has this version
        self._reading: Survey | Read | None = None
        self._not_before = -math.inf  # this moment, nothing is read
        self._revoked: dict[str, int] = {}
        self._differing: dict[str, str] = {}  # nodes, each with the digest that was told of
        self._life = ""  # of the directory, when it was surveyed
        self._behind_since = math.inf  # when the stream was found to have more than was heard
        self._behind_at = 0
        self.table = Table()
        self.epoch = 0
        """The highest epoch seen."""
        self.position: int | None = None
        """The number of the last entry of the stream that was heard; None: do not follow now."""

    def has_owner_elsewhere(self, place: str) -> bool:
        """Return whether another node is known to own the place alone."""
        return self.table.has_exclusive_owner(place)

    def saw_epoch(self, epoch: int) -> None:
        """Remember an epoch if it is the highest."""
        self.epoch = max(self.epoch, epoch)

    # ---- the stream

    def heard(self, news: Sequence[tuple[int, Entry]], now: float) -> None:
        """Entries of the stream have come, each with its number.

        One may come twice.  One that is missing is found by the numbers, which have no gaps.
        """
        for number, entry in news:
            if self.position is None:
                return
            if number <= self.position:
                continue
            if number > self.position + 1:
                self.lose_position()
                return
            self.position = number
            self._take(entry, now)

    def lose_position(self) -> None:
        """The stream cannot be followed: survey everything, and follow from there."""
        self.position = None
        self._behind_since = math.inf

    def compare(self, before: int | None, renewed: Renewed, now: float) -> None:
        """The directory has said where its stream is, after we had heard up to `before`.

        A smaller number than was heard, or another life: the directory has lost entries, perhaps.
        A number that was not heard for as long as a lease: the stream does not come through, though
        nothing says so.
        """
        if self.position is None or before is None:
            return
        last = renewed.position
        is_stuck = now >= self._behind_since + TTL and self.position < self._behind_at
        if last < before or renewed.life != self._life or is_stuck:
            self.lose_position()
        elif self.position >= self._behind_at and last > self.position:
            self._behind_since, self._behind_at = now, last

    def _take(self, entry: Entry, now: float) -> None:
        match entry:
            case entries.NodeChanged():
                self._describe(entry.facts)
                self._want(entry.facts.id, entry.version)
            case entries.NodeGone():
                self._gone(entry.node)
            case entries.Changed():
                self._changed(entry)
            case entries.Restated():
                self._want(entry.node, entry.version)
            case entries.Asked() if entry.node == self._me:
                self._claims.asked(entry.place, entry.epoch)
            case entries.Kept():
                self._claims.kept(entry.place, entry.epoch)
            case entries.Revoked():
                self._revoke(entry.user, entry.stamp)
            case entries.Barred() | entries.Lifted():
                self._bars.hear(entry, now)
            case _:
                pass

    def _describe(self, facts: NodeFacts) -> None:
        if facts.id == self._me or self.table.describe(facts) is None:
            return
        if facts.users != self.users and self._differing.get(facts.id) != facts.users:
            self._differing[facts.id] = facts.users
            self._effect(UsersDiffer(facts))

    def _gone(self, node: str) -> None:
        self._wanted.pop(node, None)
        self._differing.pop(node, None)
        self._counts.forget((node,))
        self._left_places(self.table.forget(node))

    def _changed(self, entry: entries.Changed) -> None:
        known = self.table.nodes.get(entry.node)
        if known is None or known.version >= entry.version:
            return
        if known.version + 1 < entry.version:
            self._want(entry.node, entry.version)
            return
        known.version = entry.version
        for place, session in entry.closed:
            if self.table.remove(entry.node, place, session):
                self._claims.place_left(place)
        for route in entry.opened:
            self._open(entry.node, route)
        self._counts.reported(entry.node, entry.counts)

    def _open(self, node: str, route: Route) -> None:
        self.table.put(node, route)
        self.saw_epoch(route.epoch)
        self._claims.route_seen(node, route)

    def _left_places(self, places: list[str]) -> None:
        for place in places:
            self._claims.place_left(place)

    def _revoke(self, user: str, stamp: int) -> None:
        if stamp > self._revoked.get(user, 0):
            self._revoked.pop(user, None)
            self._revoked[user] = stamp
            if len(self._revoked) > MAX_REVOKED:
                del self._revoked[next(iter(self._revoked))]
            self._effect(CutUser(user))

    # ---- reading

    def next_reading(self, now: float) -> Survey | Read | None:
        """Return what to read from the directory now, if anything; then report how that went."""
        if self._reading is not None or now < self._not_before:
            return None
        if self.position is None:
            self._reading = Survey()
        elif self._wanted:
            self._reading = Read(next(iter(self._wanted)))
        return self._reading

    def _want(self, node: str, version: int) -> None:
        known = self.table.nodes.get(node)
        if known is not None and version > known.version:
            self._wanted[node] = max(version, self._wanted.get(node, 0))

    def surveyed(self, answer: Surveyed, now: float) -> None:
        """The answer to a `Survey`."""
        self._reading = None
        self.position = answer.position
        self._life = answer.life
        self._behind_at = 0
        self.saw_epoch(answer.epoch)
        for facts, version in answer.nodes:
            self._describe(facts)
            self._want(facts.id, version)
        self.table.doubt([facts.id for facts, _ in answer.nodes], now)
        for source, seconds in answer.bars.items():
            self._bars.bar(source, seconds, now)
        for user, stamp in answer.revoked.items():
            self._revoke(user, stamp)

    def stated(self, node: str, answer: Statement) -> None:
        """The answer to a `Read`."""
        self._reading = None
        wanted = self._wanted.pop(node, 0)
        known = self.table.nodes.get(node)
        if known is None or answer.version <= known.version:
            return  # it has not been made yet: an entry will say when
        if answer.version < wanted:
            self._wanted[node] = wanted
        left = self.table.replace(node, answer.version, ())
        for route in answer.routes:
            self._open(node, route)
        self._left_places(left)
        self._counts.replace(node, answer.counts)

    def reading_failed(self, now: float) -> None:
        """A reading has failed: it is tried again."""
        self._reading = None
        self._not_before = now + RETRY

    # ---- time

    def tick(self, now: float) -> None:
        """Forget the nodes that have been doubted for too long."""
        for node in self.table.doubted(now):
            self._gone(node)

    def next_deadline(self) -> float:
        """Return when `tick` has to be called."""
        doubted = (known.doubted_since + TTL for known in self.table.nodes.values())
        return min(doubted, default=math.inf)

    def next_reading_time(self) -> float:
        """Return when `next_reading` has to be called."""
        has_to_read = self.position is None or self._wanted
        return self._not_before if has_to_read and self._reading is None else math.inf
