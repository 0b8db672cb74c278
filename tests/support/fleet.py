"""A fleet's directory in memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.access.penalties import Penalties
from cotun_trio.fleet import entries, operations
from cotun_trio.fleet.directory import DirectoryFailed
from cotun_trio.fleet.leases import TTL
from cotun_trio.fleet.operations import Granted, Held, Outdated, Unknown, Written
from cotun_trio.fleet.records import Holder, NodeFacts, Rank, Route

if TYPE_CHECKING:
    from cotun_trio.access.penalties import Verdict
    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Operation, Outcome
    from cotun_trio.fleet.records import Wish


def node_facts(name: str, **changes: object) -> NodeFacts:
    """Return a node for tests."""
    facts = NodeFacts(id=name, address=f"{name}.test:8080", fingerprint=f"FP-{name}", version="1")
    return attrs.evolve(facts, **changes)  # type: ignore[arg-type]


@attrs.define
class _Stated:
    version: int = 0
    being_made: bool = False
    routes: dict[tuple[str, int], Route] = attrs.field(factory=dict)
    counts: dict[str, int] = attrs.field(factory=dict)
    old: set[tuple[str, int]] = attrs.field(factory=set)

    @property
    def readable(self) -> int:
        return -1 if self.being_made else self.version


@attrs.define
class _Memory:
    leases: dict[str, float] = attrs.field(factory=dict)
    facts: dict[str, NodeFacts] = attrs.field(factory=dict)
    stated: dict[str, _Stated] = attrs.field(factory=dict)
    claims: dict[str, Holder] = attrs.field(factory=dict)
    epoch: int = 0
    last: int | None = None
    stream: list[tuple[int, Entry]] = attrs.field(factory=list)
    bars: dict[str, float] = attrs.field(factory=dict)
    revoked: dict[str, int] = attrs.field(factory=dict)
    renewed: float = 0.0
    amnesty: float = 0.0


class ModelDirectory:
    """The directory as it should be: what the scripts of the real one do, in plain Python.

    `max_entries` is the length of its stream.
    """

    def __init__(self, max_entries: int = 1000, per_minute: int = 3) -> None:
        self._max_entries = max_entries
        self.penalties = Penalties(per_minute)
        self.memory = _Memory()
        self.life = 1
        self.done = 0
        """The number of operations that were done."""

    # ---- faults

    def empty(self) -> None:
        """Lose everything."""
        self.memory = _Memory()

    def copied(self) -> _Memory:
        """Return what a replica has at this moment."""
        return copy.deepcopy(self.memory)

    def fail_over(self, replica: _Memory) -> None:
        """Go on with what a replica had."""
        self.memory = replica
        self.life += 1

    # ---- operations

    def perform(self, operation: Operation, now: float) -> object:
        """Do an operation, and return its answer."""
        self.done += 1
        name = f"_{type(operation).__name__.lower()}"
        return copy.deepcopy(getattr(self, name)(operation, now))

    def after(self, position: int) -> list[tuple[int, Entry]]:
        """Return the entries after `position`."""
        return [each for each in self.memory.stream if each[0] > position]

    def _say(self, now: float, entry: Entry) -> None:
        memory = self.memory
        memory.last = (int(now * 1e6) if memory.last is None else memory.last) + 1
        memory.stream.append((memory.last, entry))
        del memory.stream[: -self._max_entries]

    def _amnesty(self, now: float) -> None:
        if now - self.memory.renewed > TTL / 2:
            self.memory.amnesty = now + TTL

    def _is_alive(self, node: str, now: float) -> bool:
        lease = self.memory.leases.get(node)
        return lease is not None and (lease >= now or now < self.memory.amnesty)

    def _bury(self, node: str, now: float) -> None:
        memory = self.memory
        if memory.leases.pop(node, None) is None:
            return
        memory.facts.pop(node)
        memory.stated.pop(node, None)
        memory.claims = {p: h for p, h in memory.claims.items() if h.rank.node != node}
        self._say(now, entries.NodeGone(node))

    def _renew(self, op: operations.Renew, now: float) -> operations.Renewed:
        memory, node = self.memory, op.facts.id
        self._amnesty(now)
        memory.renewed = now
        was_held = memory.leases.get(node, 0.0) >= now
        stated = memory.stated.get(node, _Stated())
        memory.leases[node] = now + TTL
        memory.facts[node] = op.facts
        memory.epoch = max(memory.epoch, op.epoch)
        if op.announce or not was_held:
            self._say(now, entries.NodeChanged(op.facts, stated.readable))
        for other in [n for n in memory.leases if not self._is_alive(n, now)]:
            self._bury(other, now)
        return operations.Renewed(stated.readable, memory.epoch, memory.last or 0, str(self.life))

    def _write(self, op: operations.Write, now: float) -> Written | Outdated:
        memory = self.memory
        self._amnesty(now)
        stated = memory.stated.setdefault(op.node, _Stated())
        if stated.readable != op.version or op.node not in memory.leases:
            return Outdated(stated.version)
        memory.epoch = max(memory.epoch, op.epoch)
        opened: list[Route] = []
        outcomes: list[Outcome] = []
        for key in op.released:
            self._release(op.node, stated, *key)
        for wish, known in op.claims:
            outcomes.append(self._claim(op.node, stated, wish, known, opened, now))
        self._count(stated, op.counts)
        if op.released or opened or op.counts:
            stated.version += 1
            closed = tuple(op.released)
            self._say(
                now,
                entries.Changed(op.node, stated.version, tuple(opened), closed, dict(op.counts)),
            )
        for entry in op.entries:
            self._say(now, self._kept(entry, now))
        return Written(stated.version, memory.epoch, tuple(outcomes))

    @staticmethod
    def _count(stated: _Stated, counts: object) -> None:
        assert isinstance(counts, dict)
        stated.counts = {k: v for k, v in {**stated.counts, **counts}.items() if v}

    def _kept(self, entry: Entry, now: float) -> Entry:
        if isinstance(entry, entries.Revoked):
            entry = attrs.evolve(entry, stamp=int(now * 1000))
            self.memory.revoked[entry.user] = entry.stamp
        elif isinstance(entry, entries.Barred):
            self.memory.bars[entry.source] = now + entry.seconds
        elif isinstance(entry, entries.Lifted):
            self.memory.bars.pop(entry.source, None)
            self.penalties.lift(entry.source, now)
        return entry

    def _release(self, node: str, stated: _Stated, place: str, session: int) -> None:
        stated.routes.pop((place, session), None)
        holder = self.memory.claims.get(place)
        if holder and (holder.rank.node, holder.session) == (node, session):
            del self.memory.claims[place]

    def _claim(
        self,
        node: str,
        stated: _Stated,
        wish: Wish,
        known: bool,
        opened: list[Route],
        now: float,
    ) -> Outcome:
        memory = self.memory
        holder = memory.claims.get(wish.place)
        if holder and not self._is_alive(holder.rank.node, now) and holder.rank.node != node:
            self._bury(holder.rank.node, now)
        elif holder and not (wish.mark and wish.mark == holder.mark and not wish.group):
            return Held(holder)
        elif not holder and known:
            return Unknown()
        memory.epoch += 1
        route = Route(wish.place, wish.session, wish.user, wish.group, memory.epoch)
        stated.routes[wish.key] = route
        opened.append(route)
        if not wish.group:
            rank = Rank(memory.epoch, node)
            memory.claims[wish.place] = Holder(rank, wish.session, wish.user, wish.mark)
        return Granted(memory.epoch)

    def _restate(self, op: operations.Restate, now: float) -> operations.Retold | Outdated:
        memory = self.memory
        stated = memory.stated.setdefault(op.node, _Stated())
        continues = stated.being_made and stated.version == op.version
        if op.node not in memory.leases or not (
            op.version > stated.version if op.first else continues
        ):
            return Outdated(stated.version)
        if op.first:
            stated.old |= set(stated.routes)
            stated.routes, stated.counts = {}, {}
            stated.version, stated.being_made = op.version, True
        lost = []
        for route, mark in op.routes:
            memory.epoch = max(memory.epoch, route.epoch)
            rank = Rank(route.epoch, op.node)
            holder = memory.claims.get(route.place)
            other = holder is not None and not route.group and holder.rank.node != op.node
            if holder and other and self._is_alive(holder.rank.node, now) and holder.rank > rank:
                lost.append((route.place, holder))
                continue
            stated.routes[route.place, route.session] = route
            if not route.group:
                memory.claims[route.place] = Holder(rank, route.session, route.user, mark)
        self._count(stated, op.counts)
        if op.last:
            for place, session in stated.old - set(stated.routes):
                self._release(op.node, stated, place, session)
            stated.old = set()
            stated.being_made = False
            self._say(now, entries.Restated(op.node, op.version))
        return operations.Retold(tuple(lost))

    def _survey(self, op: operations.Survey, now: float) -> operations.Surveyed:
        memory = self.memory
        nodes = [
            (facts, memory.stated.get(node, _Stated()).readable)
            for node, facts in memory.facts.items()
            if self._is_alive(node, now)
        ]
        bars = {s: until - now for s, until in memory.bars.items() if until > now}
        return operations.Surveyed(
            str(self.life), memory.last or 0, memory.epoch, tuple(nodes), bars, memory.revoked
        )

    def _read(self, op: operations.Read, now: float) -> operations.Statement:
        stated = self.memory.stated.get(op.node, _Stated())
        return operations.Statement(stated.readable, tuple(stated.routes.values()), stated.counts)

    def _leave(self, op: operations.Leave, now: float) -> None:
        self._bury(op.node, now)

    def _countfailure(self, op: operations.CountFailure, now: float) -> Verdict:
        verdict = self.penalties.failed(op.source, now)
        if verdict.barred_for:
            self._say(now, self._kept(entries.Barred(op.source, verdict.barred_for), now))
        return verdict


class MemoryDirectory:
    """A model as a `cotun_trio.fleet.directory.Directory`, by Trio's clock."""

    def __init__(self) -> None:
        self.model = ModelDirectory()
        self.broken = False
        """Whether all fails at once."""
        self.frozen = False
        """Whether nothing is answered."""

    async def perform(self, operation: Operation) -> Any:
        """See `Directory`."""
        await self._reach()
        return self.model.perform(operation, trio.current_time())

    async def after(self, position: int) -> list[tuple[int, Entry]]:
        """See `Directory`."""
        for _ in range(20):
            await self._reach()
            if news := self.model.after(position):
                return news
            await trio.sleep(0.05)
        return []

    async def _reach(self) -> None:
        await trio.sleep(0.001)
        if self.broken:
            raise DirectoryFailed("connection refused")
        while self.frozen:
            await trio.sleep(0.1)
