"""A fleet in virtual time: nodes, their sessions, and a network and a directory with faults.

Everything that happens is an event at some time, and all chance comes from one seed: a run that
fails does so again.
"""

from __future__ import annotations

import copy
import heapq
import random
from typing import TYPE_CHECKING

import attrs

from cotun_trio.fleet import effects, operations
from cotun_trio.fleet.rules import Rules
from tests.support.fleet import ModelDirectory, node_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.fleet.records import Wish

DEADLINE = 2.0
"""Seconds for an operation, as in the shell."""
POLL = 0.1
"""Seconds between two looks at the stream."""


@attrs.define
class Faults:
    """The faults of the network; each is a probability for a message."""

    lost: float = 0.0
    late: float = 0.0
    """It takes longer than any deadline, and comes all the same."""
    doubled: float = 0.0


@attrs.define(eq=False)
class Session:
    """A session of a client, which holds a place or wants one."""

    number: int
    wish: Wish
    alive: bool = True
    """Whether its client answers."""


class SimulatedNode:
    """A node, and what it believes to own."""

    def __init__(self, world: Simulation, name: str, *, local: bool) -> None:
        self.world = world
        self.name = name
        self.offset = 0.0
        """The difference of its clock, which only ever jumps forward."""
        self.rules = Rules(node_facts(name), world.now, local=local)
        self.dead = False
        self.cut = False
        """Whether the directory is out of its reach."""
        self.paused: list[Callable[[], None]] | None = None
        """What happens when it goes on; None while it runs."""
        self.wanting: dict[tuple[str, int], Session] = {}
        self.owning: dict[tuple[str, int], Session] = {}
        self.refused = 0
        self.cut_users: list[str] = []

    @property
    def now(self) -> float:
        """The time by its clock."""
        return self.world.now + self.offset

    # ---- messages

    def run(self, step: Callable[[], None]) -> None:
        """Do a step, now or when the node goes on; then do what follows from it."""
        if self.dead:
            return
        if self.paused is not None:
            self.paused.append(step)
            return
        step()
        self.pump()

    def pump(self) -> None:
        """Do what the rules want now."""
        rules = self.rules
        rules.tick(self.now)
        self._do_effects()
        if operation := rules.next_operation(self.now):
            self._ask(operation, self._answered, lambda: rules.failed(self.now))
        if reading := rules.view.next_reading(self.now):
            self._ask(reading, self._read, lambda: rules.view.reading_failed(self.now))

    def _ask(
        self,
        operation: operations.Operation,
        answered: Callable[[operations.Operation, object], None],
        failed: Callable[[], None],
    ) -> None:
        pending = [True]

        def settle(step: Callable[[], None]) -> Callable[[], None]:
            def once() -> None:
                if pending.pop() if pending else False:
                    step()

            return once

        def come_back(answer: object) -> None:
            self.run(settle(lambda: answered(operation, answer)))

        self.world.at_directory(self, operation, come_back)
        self.world.after(DEADLINE, lambda: self.run(settle(failed)))

    def _answered(self, operation: operations.Operation, answer: object) -> None:
        rules = self.rules
        match operation:
            case operations.Renew():
                assert isinstance(answer, operations.Renewed)
                rules.renewed(operation, answer, self.now)
            case operations.Write():
                assert isinstance(answer, operations.Written | operations.Outdated)
                rules.written(operation, answer, self.now)
            case operations.Restate():
                assert isinstance(answer, operations.Retold | operations.Outdated)
                rules.restated(operation, answer)
            case _:
                rules.left()

    def _read(self, operation: operations.Operation, answer: object) -> None:
        if isinstance(operation, operations.Read):
            assert isinstance(answer, operations.Statement)
            self.rules.view.stated(operation.node, answer)
        else:
            assert isinstance(answer, operations.Surveyed)
            self.rules.view.surveyed(answer, self.now)

    def follow(self) -> None:
        """Look at the stream, now and again."""
        if self.dead:
            return
        self.world.after(POLL, self.follow)
        if self.paused is None:
            self.pump()
        position = self.rules.view.position
        if position is None:
            return
        is_broken = self.cut or self.world.down
        if is_broken or self.world.chance(self.world.faults.lost / 4):
            self.run(self.rules.view.lose_position)
            return
        news = self.world.directory.after(position)
        times = 2 if self.world.chance(self.world.faults.doubled) else 1
        for _ in range(times):
            self.world.after(
                self.world.latency(),
                lambda: self.run(lambda: self.rules.view.heard(news, self.now)),
            )

    # ---- sessions

    def _do_effects(self) -> None:
        for effect in self.rules.take_effects():
            match effect:
                case effects.Give(place, number, _):
                    session = self.wanting.pop((place, number), None)
                    if session is not None:
                        self.owning[place, number] = session
                case effects.Refuse(place, number, _):
                    self.wanting.pop((place, number), None)
                    self.refused += 1
                case effects.Yield(place, number, _):
                    self.owning.pop((place, number), None)
                case effects.Probe(place, number, epoch):
                    session = self.owning.get((place, number))
                    alive = session is not None and session.alive
                    self.world.after(
                        0.5 if not alive else 0.05,
                        lambda p=place, n=number, e=epoch, a=alive: self.run(  # type: ignore[misc]
                            lambda: self.rules.probed(p, n, e, alive=a)
                        ),
                    )
                case effects.CutUser(user):
                    self.cut_users.append(user)
                case _:
                    pass

    def open(self, wish: Wish) -> None:
        """A session wants a place."""

        def step() -> None:
            self.wanting[wish.key] = Session(wish.session, wish)
            self.rules.wish(wish, self.now)

        self.run(step)

    def close(self, place: str, number: int) -> None:
        """A session has ended."""

        def step() -> None:
            self.wanting.pop((place, number), None)
            self.owning.pop((place, number), None)
            self.rules.release(place, number)

        self.run(step)

    def exclusive(self) -> set[str]:
        """Return the places that it believes to own alone."""
        return {s.wish.place for s in self.owning.values() if not s.wish.group}


class Simulation:
    """A world with nodes; `nodes` has those that live."""

    def __init__(self, seed: int, names: str = "abc", *, local: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.local = local
        self.faults = Faults()
        self.directory = ModelDirectory(max_entries=200)
        self._replica = self.directory.copied()
        self.down = False
        """Whether the directory answers nobody."""
        self.nodes: dict[str, SimulatedNode] = {}
        self.conflicts: dict[str, float] = {}
        """The places that several nodes believe to own, since when."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        for name in names:
            self.start(name)

    # ---- time

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Do a step later."""
        heapq.heappush(self._events, (self.now + seconds, self.number(), step))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, step = heapq.heappop(self._events)
            step()
            self._watch()
        self.now = end

    def _watch(self) -> None:
        """Note which places have several owners."""
        seen: set[str] = set()
        double: set[str] = set()
        for node in self.nodes.values():
            mine = node.exclusive()
            double |= seen & mine
            seen |= mine
        self.conflicts = {place: self.conflicts.get(place, self.now) for place in double}

    def number(self) -> int:
        """Return a number for a session or a node."""
        self._count += 1
        return self._count

    def longest_conflict(self) -> float:
        """Return for how long the oldest conflict has lasted."""
        return max((self.now - since for since in self.conflicts.values()), default=0.0)

    def chance(self, probability: float) -> bool:
        """Return whether something happens."""
        return self.random.random() < probability

    def latency(self) -> float:
        """Return the seconds that a message takes."""
        if self.chance(self.faults.late):
            return self.random.uniform(DEADLINE, 4 * DEADLINE)
        return self.random.uniform(0.0005, 0.02)

    # ---- the directory

    def replicate(self) -> None:
        """Have a replica copy the directory as it is now."""
        self._replica = self.directory.copied()

    def fail_over(self) -> None:
        """Go on with the replica: what was written since is lost."""
        self.directory.fail_over(copy.deepcopy(self._replica))

    def at_directory(
        self,
        node: SimulatedNode,
        operation: operations.Operation,
        come_back: Callable[[object], None],
    ) -> None:
        """Have an operation done, if it gets there, and its answer come back, if it does."""

        def arrive() -> None:
            if self.down:
                return
            answer = self.directory.perform(operation, self.now)
            if not node.cut and not self.chance(self.faults.lost):
                self.after(self.latency(), lambda: come_back(answer))

        times = 2 if self.chance(self.faults.doubled) else 1
        for _ in range(times):
            if not node.cut and not self.chance(self.faults.lost):
                self.after(self.latency(), arrive)

    # ---- nodes

    def start(self, name: str) -> SimulatedNode:
        """Start a node."""
        node = SimulatedNode(self, f"{name}{self.number()}", local=self.local)
        self.nodes[node.name] = node
        node.follow()
        return node

    def kill(self, node: SimulatedNode) -> None:
        """End a node without a word."""
        node.dead = True
        del self.nodes[node.name]

    def pause(self, node: SimulatedNode) -> None:
        """Stop a node."""
        if node.paused is None:
            node.paused = []

    def resume(self, node: SimulatedNode) -> None:
        """Have a node go on: all that has come meanwhile comes at once."""
        steps, node.paused = node.paused or [], None
        for step in steps:
            node.run(step)

    def calm(self) -> None:
        """End all faults."""
        self.faults = Faults()
        self.down = False
        for node in list(self.nodes.values()):
            node.cut = False
            self.resume(node)

    # ---- checks

    def check_converged(self) -> None:
        """Assert that all nodes and the directory agree."""
        memory = self.directory.memory
        own = {
            name: {route for route, _ in node.rules.claims.all_own()}
            for name, node in self.nodes.items()
        }
        assert set(memory.leases) == set(own)
        for name, node in self.nodes.items():
            believed = {(s.wish.place, s.number) for s in node.owning.values()}
            assert {(r.place, r.session) for r in own[name]} == believed
            assert set(memory.stated.get(name, EMPTY).routes.values()) == own[name]
            table = node.rules.view.table
            others = {n: set(known.all_routes()) for n, known in table.nodes.items()}
            assert others == {n: routes for n, routes in own.items() if n != name}
            assert not node.wanting
        exclusive = {
            route.place: (name, route.epoch)
            for name, routes in own.items()
            for route in routes
            if not route.group
        }
        claimed = {p: (h.rank.node, h.rank.epoch) for p, h in memory.claims.items()}
        assert claimed == exclusive


@attrs.frozen
class _Empty:
    routes: dict[tuple[str, int], object] = attrs.field(factory=dict)


EMPTY = _Empty()
