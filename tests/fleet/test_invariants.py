"""What must hold whatever nodes, clients and faults do, in whatever order (Hypothesis finds it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cotun_trio.fleet.leases import TTL
from cotun_trio.fleet.records import Wish
from tests.support.fleet_simulation import Faults, Simulation

if TYPE_CHECKING:
    from tests.support.fleet_simulation import SimulatedNode

pytestmark = pytest.mark.slow

PLACES = st.sampled_from(["tcp/0.0.0.0:1", "tcp/0.0.0.0:2"])
CLIENTS = st.sampled_from([("alice", "m1"), ("alice", "m2"), ("bob", ""), ("", "m3"), ("", "")])
GROUPS = st.sampled_from(["", "", "", "g", "h"])
WHICH = st.integers(0, 9)


class Fleet(RuleBasedStateMachine):
    """A fleet of three, with everything that can happen to it as a rule."""

    world: Simulation

    @initialize(seed=st.integers(0, 1000), local=st.booleans(), lossy=st.booleans())
    def begin(self, seed: int, local: bool, lossy: bool) -> None:
        self.world = Simulation(seed, local=local)
        self.number = 0
        if lossy:
            self.world.faults = Faults(lost=0.1, late=0.1, doubled=0.1)
        self.world.advance(1.0)

    def node(self, which: int) -> SimulatedNode:
        return list(self.world.nodes.values())[which % len(self.world.nodes)]

    @rule(which=WHICH, place=PLACES, client=CLIENTS, group=GROUPS)
    def wish(self, which: int, place: str, client: tuple[str, str], group: str) -> None:
        self.number += 1
        self.node(which).open(Wish(place, self.number, client[0], group, client[1]))

    @rule(which=WHICH)
    def close(self, which: int) -> None:
        for key in list(self.node(which).owning)[:1]:
            self.node(which).close(*key)

    @rule(which=WHICH)
    def fall_silent(self, which: int) -> None:
        for session in self.node(which).owning.values():
            session.alive = False

    @rule(seconds=st.sampled_from([0.0, 0.005, 0.1, 1.0, 3.0, TTL]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        self.world.pause(self.node(which))

    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        self.world.resume(self.node(which))

    @rule(which=WHICH, seconds=st.sampled_from([1.0, TTL, 1000.0]))
    def jump_of_a_clock(self, which: int, seconds: float) -> None:
        self.node(which).offset += seconds

    @rule(which=WHICH)
    def cut_off(self, which: int) -> None:
        self.node(which).cut = not self.node(which).cut

    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        self.world.kill(self.node(which))
        self.world.start("n")

    @rule()
    def directory_goes(self) -> None:
        self.world.down = True

    @rule()
    def directory_comes(self) -> None:
        self.world.down = False

    @rule()
    def directory_is_emptied(self) -> None:
        self.world.directory.empty()

    @rule()
    def directory_is_replicated(self) -> None:
        self.world.replicate()

    @rule()
    def directory_fails_over(self) -> None:
        self.world.fail_over()

    @precondition(lambda self: self.world.conflicts)
    @rule()
    def all_is_well_again_and_a_place_has_one_owner_within_a_lease(self) -> None:
        self.world.calm()
        self.world.advance(TTL)
        assert not self.world.conflicts

    @invariant()
    def a_session_is_given_its_place_or_refused(self) -> None:
        for node in self.world.nodes.values():
            own = {(route.place, route.session) for route, _ in node.rules.claims.all_own()}
            assert set(node.owning) == own
            assert not own & set(node.wanting)

    @invariant()
    def a_node_has_one_owner_of_an_exclusive_place(self) -> None:
        for node in self.world.nodes.values():
            for place in node.exclusive():
                assert len(node.rules.claims.routes(place)) == 1

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.calm()
        self.world.advance(TTL)
        assert not self.world.conflicts
        self.world.advance(2 * TTL)
        self.world.check_converged()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=40,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
