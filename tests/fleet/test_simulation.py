"""A fleet under faults: whatever happens, a place has one owner soon after messages flow again."""

from __future__ import annotations

import pytest

from cotun_trio.fleet.leases import RENEWAL, TTL
from cotun_trio.fleet.records import Wish
from tests.support.fleet_simulation import Faults, Simulation

PLACES = ["tcp/0.0.0.0:1", "tcp/0.0.0.0:2", "tcp/0.0.0.0:3"]
CLIENTS = [("alice", "m1"), ("alice", "m2"), ("bob", "m3"), ("bob", ""), ("", "m4"), ("", "")]
PROPAGATION = 1.0
"""Seconds for news to reach all, without faults."""


def act(world: Simulation) -> None:
    """Have some client do something."""
    if not world.nodes:
        return
    node = world.random.choice(list(world.nodes.values()))
    sessions = list(node.owning.items())
    kind = world.random.random()
    if kind < 0.6 or not sessions:
        user, mark = world.random.choice(CLIENTS)
        group = world.random.choice(["", "", "", "g", "h"])
        node.open(Wish(world.random.choice(PLACES), world.number(), user, group, mark))
    elif kind < 0.85:
        node.close(*world.random.choice(sessions)[0])
    else:
        world.random.choice(sessions)[1].alive = False


def hurt(world: Simulation) -> None:
    """Have some fault begin or end."""
    nodes = list(world.nodes.values())
    node = world.random.choice(nodes)
    kind = world.random.randrange(9)
    if kind == 0:
        world.pause(node)
    elif kind == 1:
        world.resume(node)
    elif kind == 2 and len(nodes) > 1:
        world.kill(node)
        world.start("n")
    elif kind == 3:
        node.cut = not node.cut
    elif kind == 4:
        world.directory.empty()
    elif kind == 5:
        world.fail_over()
    elif kind == 6:
        node.offset += world.random.choice([0.5, TTL / 2, 10 * TTL])
    elif kind == 7:
        world.down = not world.down
    else:
        world.replicate()


def chaos(world: Simulation, steps: int) -> None:
    for _ in range(steps):
        if world.chance(0.3):
            hurt(world)
        act(world)
        world.advance(world.random.choice([0.01, 0.1, 0.5, 2.0, 6.0]))
    world.calm()


@pytest.mark.slow
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_a_place_has_one_owner_a_lease_after_the_faults(seed: int, local: bool) -> None:
    world = Simulation(seed, "abcd", local=local)
    world.faults = Faults(lost=0.1, late=0.05, doubled=0.1)
    chaos(world, 40)
    world.advance(TTL)
    assert not world.conflicts
    world.advance(2 * TTL)  # the dead ones are forgotten
    assert not world.conflicts
    world.check_converged()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_without_faults_a_place_never_has_two_owners_for_longer_than_news_take(seed: int) -> None:
    world = Simulation(seed, "abcd")
    world.advance(1.0)
    for _ in range(200):
        act(world)
        world.advance(world.random.choice([0.0, 0.01, 0.1, 0.5]))
        assert world.longest_conflict() < PROPAGATION
    world.advance(TTL)
    world.check_converged()


@pytest.mark.slow
def test_an_idle_fleet_writes_its_leases_and_nothing_else() -> None:
    world = Simulation(0, "n" * 50)
    world.advance(5.0)
    done, told = world.directory.done, world.directory.memory.last
    world.advance(30.0)
    assert abs(world.directory.done - done - 50 * 30.0 / RENEWAL) <= 50
    assert world.directory.memory.last == told
