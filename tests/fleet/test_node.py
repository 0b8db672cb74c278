"""Nodes of a fleet, with a directory in memory and a clock that jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.errors import NotNow
from cotun_trio.fleet.claims import PATIENCE
from cotun_trio.fleet.leases import RENEWAL, TTL
from cotun_trio.fleet.node import DEADLINE, mark_of, new_id
from cotun_trio.fleet.records import Wish
from tests.support.fleet import MemoryDirectory
from tests.support.fleet_nodes import running_node, until
from tests.support.log_watch import watch_logs

if TYPE_CHECKING:
    from cotun_trio.fleet.records import NodeFacts
    from tests.support.fleet_nodes import RunningNode

PLACE = "tcp/0.0.0.0:8080"
ALICE = Wish(PLACE, 1, "alice", mark="m1")
AGAIN = Wish(PLACE, 2, "alice", mark="m1")
OTHER = Wish(PLACE, 3, "alice", mark="m2")
BOB = Wish(PLACE, 4, "bob", mark="m3")


def others(running: RunningNode) -> list[NodeFacts]:
    """Return the other nodes that a node knows."""
    return [known.facts for known in running.node.rules.view.table.nodes.values()]


async def test_a_place_is_given_and_all_know_the_way(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        epoch = await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        facts, route = b.node.choose(PLACE) or (None, None)
        assert facts in others(b)
        assert route == a.node.routes(PLACE)[0]
        assert route.epoch == epoch
        a.node.release(PLACE, ALICE.session)
        await until(lambda: b.node.choose(PLACE) is None)


async def test_another_client_does_not_get_a_held_place(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        with pytest.raises(NotNow, match="another client has it"):
            await b.node.claim(BOB)
        assert not a.host.yielded


async def test_a_client_that_comes_back_to_another_node_has_its_place_at_once(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        a.host.silent.add(ALICE.session)  # and nobody asks
        began = trio.current_time()
        await b.node.claim(AGAIN)
        assert trio.current_time() < began + 0.1
        await until(lambda: a.host.yielded)
        assert a.host.yielded == [(PLACE, ALICE.session)]
        assert not a.node.routes(PLACE)


@pytest.mark.parametrize("silent", [False, True])
async def test_another_session_of_the_user_has_the_place_where_the_first_one_is_silent(
    autojump: trio.testing.MockClock, silent: bool
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        if silent:
            a.host.silent.add(ALICE.session)
            await b.node.claim(OTHER)
        else:
            with pytest.raises(NotNow, match="another client has it"):
                await b.node.claim(OTHER)
        assert bool(a.host.yielded) is silent


async def test_an_owner_whose_node_does_not_say_whether_it_is_alive_keeps_its_place(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        a.scope.cancel()
        began = trio.current_time()
        with pytest.raises(NotNow, match="not settled"):
            await b.node.claim(OTHER)
        assert trio.current_time() < began + PATIENCE + 1.0


async def test_what_a_dead_node_had_is_free_when_its_lease_is_over(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        await until(lambda: others(b))
        a.scope.cancel()
        await until(lambda: not others(b), seconds=TTL + RENEWAL + 1.0)
        await b.node.claim(BOB)


async def test_what_a_leaving_node_had_is_free_at_once(autojump: trio.testing.MockClock) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        await until(lambda: others(b))
        await a.node.leave()
        await until(lambda: not others(b), seconds=1.0)
        await b.node.claim(BOB)
        with pytest.raises(NotNow, match="about to leave"):
            await a.node.claim(ALICE)


async def test_leaving_takes_two_deadlines_where_the_directory_is_frozen(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a:
        await a.node.claim(ALICE)
        directory.frozen = True
        began = trio.current_time()
        await a.node.leave()
        assert trio.current_time() <= began + 2 * DEADLINE


async def test_a_draining_node_is_chosen_only_where_it_alone_has_an_owner(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    group = attrs.evolve(ALICE, group="g")
    async with (
        running_node(directory, "a") as a,
        running_node(directory, "b") as b,
        running_node(directory, "c") as c,
    ):
        await a.node.claim(group)
        await until(lambda: chosen(c) == "a")
        a.node.drain()
        await until(lambda: any(facts.draining for facts in others(c)), seconds=1.0)
        assert chosen(c) == "a"
        await b.node.claim(attrs.evolve(group, session=9))
        await until(lambda: chosen(c) == "b")


def chosen(running: RunningNode) -> str | None:
    """Return the id of the node that a visitor is sent to."""
    found = running.node.choose(PLACE)
    return None if found is None else found[0].id


@pytest.mark.slow
async def test_without_its_directory_a_node_keeps_its_places_and_gives_no_new_ones(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with (
        watch_logs() as log,
        running_node(directory, "a") as a,
        running_node(directory, "b") as b,
    ):
        await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        directory.broken = True
        with pytest.raises(NotNow, match="directory does not answer"):
            await b.node.claim(attrs.evolve(BOB, place="tcp/0.0.0.0:1"))
        await trio.sleep(10 * TTL)
        began = trio.current_time()
        with pytest.raises(NotNow, match="directory does not answer"):
            await b.node.claim(attrs.evolve(BOB, place="tcp/0.0.0.0:1"))
        assert trio.current_time() == began
        assert a.node.routes(PLACE)
        assert b.node.choose(PLACE)
        assert not a.host.yielded
        assert len(log.find("does not answer .connection refused.")) == 2  # once for each
        directory.broken = False
        await trio.sleep(RENEWAL + 1.0)
        assert len(log.find("answers again")) == 2
        assert a.node.routes(PLACE)
        await b.node.claim(attrs.evolve(BOB, place="tcp/0.0.0.0:1"))


async def test_a_node_may_take_places_without_its_directory_and_the_later_epoch_has_them(
    autojump: trio.testing.MockClock,
) -> None:
    directory, gone = MemoryDirectory(), MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(gone, "b", local=True) as b:
        await a.node.claim(attrs.evolve(BOB, place="tcp/0.0.0.0:1"))
        await a.node.claim(ALICE)
        gone.broken = True
        await trio.sleep(2 * TTL)
        await b.node.claim(BOB)  # it has never heard of any other
        gone.model, gone.broken = directory.model, False
        await until(lambda: b.host.yielded, seconds=TTL)
        assert a.node.routes(PLACE)
        assert not a.host.yielded


async def test_an_emptied_directory_is_filled_again_within_a_lease(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        epoch = await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        directory.model.empty()
        with pytest.raises(NotNow):
            await b.node.claim(BOB)  # who does not get it in between
        await trio.sleep(TTL - PATIENCE)
        assert directory.model.memory.claims[PLACE].rank.epoch == epoch
        assert directory.model.memory.epoch >= epoch
        assert b.node.choose(PLACE)
        assert not a.host.yielded


async def test_a_frozen_directory_is_found_by_its_deadlines(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with watch_logs() as log, running_node(directory, "a") as a:
        await a.node.claim(ALICE)
        directory.frozen = True
        await trio.sleep(TTL + 1.0)
        assert log.find("does not answer .no answer in 2 s.")
        directory.frozen = False
        await trio.sleep(2 * DEADLINE)
        await a.node.claim(attrs.evolve(ALICE, place="tcp/0.0.0.0:1"))


async def test_a_cancelled_claim_takes_nothing(autojump: trio.testing.MockClock) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        with trio.move_on_after(0.0005):  # the operation is on its way
            await a.node.claim(ALICE)
        await trio.sleep(1.0)
        assert not a.node.routes(PLACE)
        await b.node.claim(BOB)


async def test_a_claim_of_what_a_session_has_is_given_at_once(
    autojump: trio.testing.MockClock,
) -> None:
    async with running_node(MemoryDirectory(), "a") as a:
        epoch = await a.node.claim(ALICE)
        began = trio.current_time()
        assert await a.node.claim(ALICE) == epoch
        assert trio.current_time() == began


async def test_two_claims_of_one_session_have_one_answer(autojump: trio.testing.MockClock) -> None:
    async with running_node(MemoryDirectory(), "a") as a:
        epochs: list[int] = []

        async def claim() -> None:
            epochs.append(await a.node.claim(ALICE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim)
            nursery.start_soon(claim)
        assert len(set(epochs)) == 1


async def test_a_node_that_could_not_be_reached_is_not_chosen(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await a.node.claim(ALICE)
        await until(lambda: chosen(b) == "a")
        b.node.avoid("a")
        assert chosen(b) is None
        await until(lambda: chosen(b) == "a", seconds=TTL + 1.0)


async def test_a_users_file_that_has_changed_is_told_with_the_lease(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await until(lambda: others(b))
        a.node.set_users("new")
        await until(lambda: others(b)[0].users == "new", seconds=RENEWAL + 1.0)


async def test_a_revocation_reaches_all_nodes_within_a_second(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await until(lambda: others(a) and others(b))
        a.node.revoke("alice")
        assert a.host.cut == ["alice"]
        await until(lambda: b.host.cut == ["alice"], seconds=1.0)


async def test_a_revocation_reaches_a_node_that_has_missed_it(
    autojump: trio.testing.MockClock,
) -> None:
    directory, seen_by_b = MemoryDirectory(), MemoryDirectory()
    seen_by_b.model = directory.model
    async with running_node(directory, "a") as a, running_node(seen_by_b, "b") as b:
        await until(lambda: others(a) and others(b))
        seen_by_b.broken = True
        a.node.revoke("alice")
        await trio.sleep(5 * TTL)
        directory.model.memory.stream.clear()
        seen_by_b.broken = False
        await until(lambda: b.host.cut == ["alice"], seconds=TTL)


async def test_counts_of_all_nodes_are_summed_up_within_a_second_and_die_with_their_node(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a, running_node(directory, "b") as b:
        await until(lambda: others(a) and others(b))
        a.node.counts("sessions").change("user alice", 2)
        b.node.counts("sessions").change("user alice", 1)
        a.node.count("startups").add(5)
        assert b.node.counts("sessions").of("user alice") == 1
        await until(lambda: b.node.counts("sessions").of("user alice") == 3, seconds=1.2)
        assert b.node.count("startups").total == 5
        assert b.node.count("startups").own == 0
        a.node.counts("sessions").change("user alice", -2)
        await until(lambda: b.node.counts("sessions").of("user alice") == 1, seconds=1.2)
        await a.node.leave()
        await until(lambda: b.node.count("startups").total == 0, seconds=1.0)


@pytest.mark.slow
async def test_failed_logins_at_all_nodes_bar_their_source_at_all_nodes(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()  # three failures
    source = "192.0.2.1"
    async with (
        running_node(directory, "a", max_auth_failures=3) as a,
        running_node(directory, "b", max_auth_failures=3) as b,
    ):
        await until(lambda: others(a) and others(b))
        assert not (await a.node.failures.failed(source)).barred_for
        assert not (await b.node.failures.failed(source)).barred_for
        assert (await a.node.failures.failed(source)).barred_for == 60.0
        assert a.node.failures.barred(source)
        await until(lambda: b.node.failures.barred(source), seconds=1.0)
        await trio.sleep(60.0)
        assert not a.node.failures.barred(source)


async def test_without_the_directory_the_failures_at_one_node_count(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a", max_auth_failures=2) as a:
        directory.frozen = True
        assert not (await a.node.failures.failed("192.0.2.1")).barred_for
        assert (await a.node.failures.failed("192.0.2.1")).barred_for
        assert a.node.failures.barred("192.0.2.1")


async def test_without_a_limit_no_failure_is_counted(autojump: trio.testing.MockClock) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a") as a:
        assert (await a.node.failures.failed("192.0.2.1")).delay == 0.0


@pytest.mark.slow
async def test_different_users_files_are_a_warning_once(autojump: trio.testing.MockClock) -> None:
    directory = MemoryDirectory()
    async with (
        watch_logs() as log,
        running_node(directory, "a", users="1") as a,
        running_node(directory, "b", users="2") as b,
    ):
        await until(lambda: others(a) and others(b))
        a.node.set_load(1000)
        await trio.sleep(2 * TTL)
        assert len(log.find("has another users file")) == 2


async def test_words_that_other_nodes_cannot_read_are_refused(
    autojump: trio.testing.MockClock,
) -> None:
    async with running_node(MemoryDirectory(), "a") as a:
        with pytest.raises(NotNow, match="no text"):
            await a.node.claim(attrs.evolve(ALICE, user="\udc80"))


@pytest.mark.slow
async def test_an_idle_node_does_nothing_between_its_renewals(
    autojump: trio.testing.MockClock,
) -> None:
    directory = MemoryDirectory()
    async with running_node(directory, "a"):
        await trio.sleep(1.0)
        before = directory.model.done
        await trio.sleep(20 * RENEWAL)
        assert 19 <= directory.model.done - before <= 21


def test_a_mark_tells_clients_apart_and_does_not_show_their_identity() -> None:
    assert mark_of("") == ""
    assert mark_of("secret") == mark_of("secret") != mark_of("other")
    assert "secret" not in mark_of("secret")


def test_each_run_of_a_node_has_another_id() -> None:
    assert new_id("a") != new_id("a")
    assert new_id("a").startswith("a~")
