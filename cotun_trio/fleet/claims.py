"""The places of this node: those that its sessions own, and those that they wish for."""

from __future__ import annotations

import math
from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from cotun_trio.fleet.effects import Give, Probe, Refuse, Yield
from cotun_trio.fleet.entries import Asked, Kept
from cotun_trio.fleet.operations import Granted, Held
from cotun_trio.fleet.records import Route, yields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cotun_trio.fleet.effects import Effect
    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Outcome
    from cotun_trio.fleet.records import Holder, Wish

PATIENCE = 4.0
"""Seconds for a wish to be settled, with all questions to other nodes."""
ASK_AGAIN = 0.5
"""Seconds until a place is asked for again that the directory does not know the owner of."""
MAX_WISHES = 4096
"""Wishes at a time; more are refused."""

HELD = "another client has it"
UNSETTLED = "the fleet has not settled who has it"
NO_DIRECTORY = "the fleet's directory does not answer"
REPLACED = "replaced by a new session of the same client"
DEAD = "replaced by another session of the same user: this one did not answer"
OUTRANKED = "another node has given it to a later session"


class Stage(Enum):
    """How far a wish has come."""

    QUEUED = "queued"
    FLYING = "flying"
    """In an operation that has no answer yet."""
    ASKED = "asked"
    """The owner's node is asked whether the owner is alive."""
    WAITING = "waiting"
    """For a change of the owners that are known."""


@attrs.define
class _Pending:
    wish: Wish
    deadline: float
    stage: Stage = Stage.QUEUED
    again_at: float = math.inf
    asked_of: int = 0  # the epoch of the owner that is asked
    dropped: bool = False  # nobody wants the answer any more


@attrs.frozen
class _Own:
    route: Route
    mark: str


class Claims:
    """The places of the node `me`, and its wishes.

    Its effects go to `effect`, its questions and answers for other nodes to `tell`.
    """

    def __init__(
        self, me: str, effect: Callable[[Effect], None], tell: Callable[[Entry], None]
    ) -> None:
        self._me = me
        self._effect = effect
        self._tell = tell
        self._own: defaultdict[str, dict[int, _Own]] = defaultdict(dict)  # by place and session
        self._pending: dict[str, dict[int, _Pending]] = {}  # the same
        self._queue: dict[tuple[str, int], None] = {}
        self._released: dict[tuple[str, int], None] = {}
        self._wishes = 0

    # ---- what there is

    def routes(self, place: str) -> list[Route]:
        """Return the routes of this node to a place."""
        return [own.route for own in self._own.get(place, {}).values()]

    def all_own(self) -> Iterator[tuple[Route, str]]:
        """Give all routes of this node, each with the mark of its client."""
        for sessions in self._own.values():
            for own in sessions.values():
                yield own.route, own.mark

    # ---- wishes of sessions

    def wish(self, wish: Wish, now: float) -> None:
        """A session wants a place: ask the directory, unless it has it or asks already."""
        if own := self._own.get(wish.place, {}).get(wish.session):
            self._effect(Give(wish.place, wish.session, own.route.epoch))
            return
        sessions = self._pending.get(wish.place, {})
        if pending := sessions.get(wish.session):
            pending.dropped = False
            return
        if self._wishes >= MAX_WISHES:
            self._effect(Refuse(wish.place, wish.session, "too many wishes at a time"))
            return
        self._pending.setdefault(wish.place, {})[wish.session] = _Pending(wish, now + PATIENCE)
        self._queue[wish.key] = None
        self._wishes += 1

    def take(self, wish: Wish, epoch: int) -> None:
        """Give a session its place without asking the directory."""
        self._grant(wish, epoch)

    def release(self, place: str, session: int) -> None:
        """A session wants a place no more, or does not wait for it any more."""
        pending = self._pending.get(place, {}).get(session)
        if pending is not None and pending.stage is Stage.FLYING:
            pending.dropped = True
        elif pending is not None:
            self._forget(pending.wish)
        if session in self._own.get(place, {}):
            self._drop(place, session)

    def probed(self, place: str, session: int, epoch: int, *, alive: bool) -> None:
        """The answer to `Probe`."""
        own = self._own.get(place, {}).get(session)
        if own is None or own.route.epoch != epoch:
            return
        if alive:
            self._tell(Kept(place, epoch))
        else:
            self._lose(place, session, DEAD)

    # ---- operations

    def take_queued(self, limit: int, known: Callable[[str], bool]) -> list[tuple[Wish, bool]]:
        """Return wishes for an operation, each with whether it is `known` that its place has an
        owner."""
        taken = []
        for key in list(self._queue)[:limit]:
            del self._queue[key]
            pending = self._pending[key[0]][key[1]]
            pending.stage = Stage.FLYING
            taken.append((pending.wish, known(key[0])))
        return taken

    def take_released(self, limit: int) -> list[tuple[str, int]]:
        """Return releases for an operation."""
        taken = list(self._released)[:limit]
        for key in taken:
            del self._released[key]
        return taken

    def released_by_restating(self) -> None:
        """The whole statement is made anew, without what was released."""
        self._released.clear()

    def put_back(self, wishes: Iterable[Wish]) -> None:
        """Nobody knows what has become of an operation: ask again, unless nobody wants to know."""
        for wish in wishes:
            pending = self._pending[wish.place][wish.session]
            if pending.dropped:
                self._forget(wish)
            else:
                pending.stage = Stage.QUEUED
                self._queue[wish.key] = None

    def settled(self, wish: Wish, outcome: Outcome, now: float) -> None:
        """Take the directory's answer to a wish."""
        pending = self._pending[wish.place][wish.session]
        if isinstance(outcome, Granted):
            self._forget(wish)
            if pending.dropped:
                self._released[wish.key] = None
            else:
                self._grant(wish, outcome.epoch)
        elif pending.dropped:
            self._forget(wish)
        elif not isinstance(outcome, Held):
            pending.stage, pending.again_at = Stage.WAITING, now + ASK_AGAIN
        elif wish.user and wish.user == outcome.holder.user:
            pending.stage, pending.asked_of = Stage.ASKED, outcome.holder.rank.epoch
            self._tell(Asked(outcome.holder.rank.node, wish.place, pending.asked_of))
        else:
            self._refuse(wish, HELD)

    def lost(self, place: str, holder: Holder) -> None:
        """The directory has given an exclusive place to another owner."""
        for session, own in list(self._own.get(place, {}).items()):
            if not own.route.group and (holder.rank.node, holder.session) != (self._me, session):
                self._lose(place, session, OUTRANKED)

    # ---- what other nodes say

    def route_seen(self, node: str, route: Route) -> None:
        """Another node has this route: perhaps ours has to go."""
        for session, own in list(self._own.get(route.place, {}).items()):
            if yields(own.route, self._me, route, node):
                self._lose(route.place, session, OUTRANKED)

    def place_left(self, place: str) -> None:
        """Another node has left a place: those who wait for that ask again."""
        for pending in self._pending.get(place, {}).values():
            if pending.stage in (Stage.ASKED, Stage.WAITING):
                self._ask_again(pending)

    def asked(self, place: str, epoch: int) -> None:
        """Another node wants to know whether our owner is alive."""
        for session, own in self._own.get(place, {}).items():
            if own.route.epoch == epoch and not own.route.group:
                self._effect(Probe(place, session, epoch))

    def kept(self, place: str, epoch: int) -> None:
        """An owner is alive: those who asked are refused."""
        for pending in list(self._pending.get(place, {}).values()):
            if pending.stage is Stage.ASKED and pending.asked_of == epoch:
                self._refuse(pending.wish, HELD)

    # ---- time

    def tick(self, now: float) -> None:
        """Refuse wishes that have waited for too long, and ask again for others."""
        for pending in [each for all_ in self._pending.values() for each in all_.values()]:
            if now >= pending.deadline and pending.stage is not Stage.FLYING:
                asked = pending.stage is Stage.QUEUED
                self._refuse(pending.wish, NO_DIRECTORY if asked else UNSETTLED)
            elif now >= pending.again_at:
                self._ask_again(pending)

    def next_deadline(self) -> float:
        """Return when `tick` has to be called."""
        return min(
            (
                min(each.deadline, each.again_at)
                for all_ in self._pending.values()
                for each in all_.values()
                if each.stage is not Stage.FLYING
            ),
            default=math.inf,
        )

    def _ask_again(self, pending: _Pending) -> None:
        pending.stage, pending.again_at = Stage.QUEUED, math.inf
        self._queue[pending.wish.key] = None

    def _grant(self, wish: Wish, epoch: int) -> None:
        if not wish.group:
            for session in list(self._own.get(wish.place, {})):
                self._lose(wish.place, session, REPLACED)
        route = Route(wish.place, wish.session, wish.user, wish.group, epoch)
        self._own[wish.place][wish.session] = _Own(route, wish.mark)
        self._effect(Give(wish.place, wish.session, epoch))

    def _lose(self, place: str, session: int, reason: str) -> None:
        self._drop(place, session)
        self._effect(Yield(place, session, reason))

    def _drop(self, place: str, session: int) -> None:
        del self._own[place][session]
        if not self._own[place]:
            del self._own[place]
        self._released[place, session] = None

    def _refuse(self, wish: Wish, reason: str) -> None:
        self._forget(wish)
        self._effect(Refuse(wish.place, wish.session, reason))

    def _forget(self, wish: Wish) -> None:
        self._queue.pop(wish.key, None)
        sessions = self._pending[wish.place]
        del sessions[wish.session]
        if not sessions:
            del self._pending[wish.place]
        self._wishes -= 1
