"""The rules of a node of a fleet, without any I/O: time and messages go in, operations and effects
come out.

The shell (`cotun_trio.fleet.node`) does three things at the same time, and reports each here:

* It does the operations that `next_operation` returns, one after the other.
* It reads what `View.next_reading` returns, one after the other.
* It follows the stream from `View.position` on, and gives its entries to `View.heard`.  Where the
  stream breaks off, a `Survey` says where to begin again.

Then it does the effects that `take_effects` returns.  Times are seconds of any clock that does not
go backwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from cotun_trio.fleet import entries
from cotun_trio.fleet.bars import Bars
from cotun_trio.fleet.claims import HELD, NO_DIRECTORY, Claims
from cotun_trio.fleet.counts import INTERVAL, FleetCounts
from cotun_trio.fleet.effects import CutUser, DirectoryBack, DirectoryLost, Refuse
from cotun_trio.fleet.leases import TTL, Lease
from cotun_trio.fleet.operations import Leave, Outdated, Renew, Restate, Write
from cotun_trio.fleet.statements import Statement
from cotun_trio.fleet.views import View

if TYPE_CHECKING:
    from cotun_trio.fleet.effects import Effect
    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Operation, Renewed, Retold, Written
    from cotun_trio.fleet.records import NodeFacts, Route, Wish

NOTABLE = 8
"""Other nodes are told of a load that has changed by more than this part of it."""
LEAVING = "this node is about to leave"


class Rules:
    """The rules of the node that `facts` describe.

    `local` says that a node without the directory gives its sessions the places that they wish for;
    otherwise it refuses them, and in both cases it keeps what it has.
    """

    def __init__(self, facts: NodeFacts, now: float, *, local: bool = False) -> None:
        self._facts = facts
        self._announced: NodeFacts | None = None
        self._local = local
        self._began = now
        self._effects: list[Effect] = []
        self._lease = Lease(now)
        self._in_flight: Operation | None = None
        self._position_sent: int | None = None  # that of the view when the lease was renewed last
        self._answers = True  # the directory, as far as we know
        self._is_lost = False  # and this has been told
        self._next_report = now
        self._left = False
        self._leaving = False
        self.counts = FleetCounts()
        """The counts of all nodes."""
        self.bars = Bars()
        """The sources that are barred."""
        self.claims = Claims(facts.id, self._effects.append, self._tell)
        """The places of this node."""
        self._statement = Statement(facts.id, self.claims, self.counts)
        self.view = View(facts, self.claims, self.counts, self.bars, self._effects.append)
        """The other nodes, and what is read of them."""

    # ---- wishes

    def wish(self, wish: Wish, now: float) -> None:
        """A session wants a place; `Give` or `Refuse` is the answer, in some seconds at most."""
        if self._leaving:
            self._effects.append(Refuse(wish.place, wish.session, LEAVING))
        elif self._conflicts(wish):
            self._effects.append(Refuse(wish.place, wish.session, HELD))
        elif not self._is_alone(now):
            self.claims.wish(wish, now)
        elif wish.group or (self._local and self._may_take(wish)):
            self.view.epoch += 1
            self.claims.take(wish, self.view.epoch)
            self._statement.doubt()
        else:
            self._effects.append(Refuse(wish.place, wish.session, NO_DIRECTORY))

    def _conflicts(self, wish: Wish) -> bool:
        """Return whether the place is known to be shared where the wish is not, or as a different
        group.  Of two exclusive owners, the directory chooses."""
        for route in self._all_routes(wish.place):
            if route.group != wish.group or (route.group and route.user != wish.user):
                return True
        return False

    def _may_take(self, wish: Wish) -> bool:
        """Return whether no other user's session is known to own the place."""
        return all(route.user == wish.user for route in self._all_routes(wish.place))

    def _all_routes(self, place: str) -> list[Route]:
        return [*self.claims.routes(place), *(r for _, r in self.view.table.owners(place))]

    def release(self, place: str, session: int) -> None:
        """A session has no use for a place any more, or does not wait for it any more."""
        self.claims.release(place, session)

    def probed(self, place: str, session: int, epoch: int, *, alive: bool) -> None:
        """The answer to `Probe`."""
        self.claims.probed(place, session, epoch, alive=alive)

    def set_load(self, load: int) -> None:
        """The number of sessions has changed; others are told with the lease, where it matters."""
        self._facts = attrs.evolve(self._facts, load=load)

    def set_users(self, users: str) -> None:
        """The users file has changed."""
        self._facts = attrs.evolve(self._facts, users=users)
        self.view.users = users

    def drain(self) -> None:
        """Have other nodes choose this one no more, from the next renewal on, which is at once."""
        self._facts = attrs.evolve(self._facts, draining=True)
        self._lease.renew_at_once()

    def leave(self) -> None:
        """Give everything up, as the last operation."""
        self._leaving = True

    def revoke(self, user: str) -> None:
        """Have all nodes cut the present sessions of a user, this one at once."""
        self._effects.append(CutUser(user))
        self._tell(entries.Revoked(user))

    def bar(self, source: str, seconds: float, now: float) -> None:
        """Have all nodes accept no login of a source, this one at once."""
        self.bars.bar(source, seconds, now)
        self._tell(entries.Barred(source, seconds))

    def lift(self, source: str) -> None:
        """Have all nodes let a source log in again, this one at once."""
        self.bars.lift(source)
        self._tell(entries.Lifted(source))

    def _tell(self, entry: Entry) -> None:
        self._statement.tell(entry)

    # ---- operations

    def next_operation(self, now: float) -> Operation | None:
        """Return what to ask of the directory now, if anything; then report how that went."""
        if self._in_flight is None:
            self._in_flight = self._due(now)
            if isinstance(self._in_flight, Renew):
                self._lease.sent(now)
                self._position_sent = self.view.position
        else:
            return None
        return self._in_flight

    def _due(self, now: float) -> Operation | None:
        if self._leaving:
            return None if self._left else Leave(self._facts.id)
        if now >= self._lease.next_renewal:
            return Renew(self._facts, self._is_notable(), self.view.epoch)
        if not self._answers or not self._lease.is_held(now):
            return None
        report = now >= self._next_report and self.counts.has_changed
        if report:
            self._next_report = now + INTERVAL
        return self._statement.next_operation(
            self.view.epoch, self.view.has_owner_elsewhere, with_counts=report
        )

    def _is_notable(self) -> bool:
        old, new = self._announced, self._facts
        if old is None or attrs.evolve(old, load=new.load) != new:
            return True
        return abs(new.load - old.load) * NOTABLE > old.load

    def renewed(self, operation: Renew, answer: Renewed, now: float) -> None:
        """The answer to a `Renew`."""
        self._in_flight = None
        self._lease.renewed()
        if operation.facts.draining != self._facts.draining:
            self._lease.renew_at_once()
        if operation.announce:
            self._announced = operation.facts
        self._answers = True
        if self._is_lost:
            self._is_lost = False
            self._effects.append(DirectoryBack())
        self.view.saw_epoch(answer.epoch)
        if answer.version != self._statement.version:
            self._statement.outdated(answer.version)
        self.view.compare(self._position_sent, answer, now)

    def written(self, operation: Write, answer: Written | Outdated, now: float) -> None:
        """The answer to a `Write`."""
        self._in_flight = None
        if isinstance(answer, Outdated):
            self._statement.put_back(operation)
            self._was_outdated(answer)
            return
        self._statement.version = answer.version
        self.view.saw_epoch(answer.epoch)
        for (wish, _), outcome in zip(operation.claims, answer.outcomes, strict=True):
            self.claims.settled(wish, outcome, now)

    def restated(self, operation: Restate, answer: Retold | Outdated) -> None:
        """The answer to a `Restate`."""
        self._in_flight = None
        if isinstance(answer, Outdated):
            self._was_outdated(answer)
            return
        self._statement.restated(operation)
        for place, holder in answer.lost:
            self.view.saw_epoch(holder.rank.epoch)
            self.claims.lost(place, holder)

    def _was_outdated(self, answer: Outdated) -> None:
        """The lease may be gone, too."""
        self._statement.outdated(answer.version)
        self._lease.renew_at_once()

    def left(self) -> None:
        """The answer to `Leave`: there is nothing more to do."""
        self._in_flight, self._left = None, True

    def failed(self, now: float) -> None:
        """The operation has failed, or its deadline is over: nobody knows whether it was done."""
        operation, self._in_flight = self._in_flight, None
        self._answers = False
        self._lease.failed(now)
        if isinstance(operation, Leave):
            self._left = True  # the lease runs out
        elif isinstance(operation, Write | Restate):
            self._statement.failed(operation)

    @property
    def has_left(self) -> bool:
        """Whether the last operation has been tried."""
        return self._left

    # ---- time

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        self.claims.tick(now)
        self.view.tick(now)
        if self._is_alone(now) and not self._is_lost:
            self._is_lost = True
            self._effects.append(DirectoryLost())

    def lease_left(self, now: float) -> float:
        """Return for how many seconds the lease is held, at least; 0 where it has run out."""
        return self._lease.ends(now) - now

    @property
    def directory_answers(self) -> bool:
        """Whether the directory has answered within a lease."""
        return not self._is_lost

    @property
    def is_leaving(self) -> bool:
        """Whether the node drains, or leaves."""
        return self._leaving or self._facts.draining

    def _is_alone(self, now: float) -> bool:
        """Return whether the directory has not answered for longer than a lease."""
        return not self._lease.is_held(now) and now >= self._began + TTL

    def next_deadline(self) -> float:
        """Return when `tick` and `next_operation` have to be called, if nothing comes before."""
        report = self._next_report if self.counts.has_changed and self._answers else math.inf
        renewal = math.inf if self._leaving else self._lease.next_renewal
        lost = math.inf if self._is_lost else self._lease.ends(self._began + TTL)
        return min(renewal, report, lost, self.claims.next_deadline(), self.view.next_deadline())

    def take_effects(self) -> list[Effect]:
        """Return the effects since the last call."""
        taken = self._effects[:]
        self._effects.clear()
        return taken
