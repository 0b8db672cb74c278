"""Counts that several processes share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.startups import Startups
from cotun_trio.forwards.quota import Quota
from cotun_trio.workers.shared_counts import (
    CELLS,
    FORWARDS,
    SERVED,
    SOURCES,
    STARTUPS,
    STEPS,
    TAKEN,
    USERS,
    SharedCounts,
    SharedSourceCounts,
    allocate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(16)
SLOTS = 3


@pytest.fixture
def both() -> Iterator[tuple[SharedCounts, SharedCounts]]:
    """Give the same memory twice, as two processes have it."""
    descriptor = allocate(SLOTS)
    one, two = (SharedCounts(descriptor, SLOTS, KEY) for _ in range(2))
    os.close(descriptor)
    yield one, two
    one.close()
    two.close()


def test_each_process_counts_for_itself_and_sees_the_sum(
    both: tuple[SharedCounts, SharedCounts],
) -> None:
    one, two = both[0].count(FORWARDS, 0), both[1].count(FORWARDS, 2)
    one.add(5)
    two.add(2**40)
    assert (one.own, two.own) == (5, 2**40)
    assert one.total == two.total == 2**40 + 5
    assert both[0].count(SERVED, 0).total == 0
    one.add(-5)
    assert two.total == two.own == 2**40


def test_the_counts_of_a_dead_process_are_gone(both: tuple[SharedCounts, SharedCounts]) -> None:
    one, two = both[0].count(FORWARDS, 0), both[1].count(FORWARDS, 1)
    one.add(3)
    two.add(4)
    both[0].source_counts(0, SOURCES).change("a", 1)
    both[1].source_counts(1, SOURCES).change("a", 1)
    both[1].clear(0)
    assert (one.own, two.total) == (0, 4)
    assert both[0].source_counts(0, SOURCES).of("a") == 1


def test_a_quota_holds_for_all_workers_together(both: tuple[SharedCounts, SharedCounts]) -> None:
    one = Quota(3, both[0].count(FORWARDS, 0))
    two = Quota(3, both[1].count(FORWARDS, 1))
    one.count.add(2)
    assert not two.used_up
    two.count.add(1)
    assert one.used_up
    assert two.used_up
    one.count.add(-1)
    assert not two.used_up


def test_limits_on_startups_hold_for_all_workers_together(
    both: tuple[SharedCounts, SharedCounts],
) -> None:
    said: list[str] = []
    one, two = (
        Startups(
            4,
            2,
            crowd=counts.count(STARTUPS, slot),
            sources=counts.source_counts(slot, SOURCES),
            say=said.append,
            chance=lambda: 1.0,
        )
        for slot, counts in enumerate(both)
    )
    first, second = one.enter("a"), two.enter("a")
    assert first
    assert second
    for startups in (one, two):
        assert not startups.enter("a")
    assert one.enter("b")
    assert two.enter("b")
    assert not one.enter("c")
    second.leave()
    assert one.enter("a")
    assert not two.enter("c")


def test_sources_have_cells_of_their_own_that_no_client_can_choose(
    both: tuple[SharedCounts, SharedCounts],
) -> None:
    counts = both[0].source_counts(0, SOURCES)
    counts.change("10.0.0.1", 1)
    others = [f"10.0.{n // 256}.{n % 256}" for n in range(2, 500)]
    assert sum(counts.of(other) for other in others) <= 2  # 1 in 65536 each
    descriptor = allocate(1)
    other_key = SharedCounts(descriptor, 1, b"another one")
    os.close(descriptor)
    cells = {
        counts._cell(source) == other_key.source_counts(0, SOURCES)._cell(source)
        for source in others
    }
    other_key.close()
    assert False in cells


def test_users_and_sources_of_one_name_are_not_counted_together(
    both: tuple[SharedCounts, SharedCounts],
) -> None:
    sources, users = both[0].source_counts(0, SOURCES), both[0].source_counts(0, USERS)
    users.change("alice", 2)
    assert sources.of("alice") == 0
    sources.change("alice", 5)
    assert users.of("alice") == 2
    elsewhere = both[1].source_counts(SLOTS - 1, USERS)
    assert elsewhere.of("alice") == 2
    elsewhere.change("alice", 1)
    assert users.of("alice") == 3
    both[1].clear(0)
    assert elsewhere.of("alice") == 1


@pytest.mark.parametrize("table", [SOURCES, USERS])
@pytest.mark.parametrize("cell", [0, CELLS - 1])
def test_a_table_ends_where_the_next_one_begins(
    both: tuple[SharedCounts, SharedCounts],
    table: int,
    cell: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SharedSourceCounts, "_cell", lambda _counts, _name: cell)
    for slot in range(SLOTS):
        both[0].source_counts(slot, table).change("x", 1)
    (other,) = {SOURCES, USERS} - {table}
    for slot in range(SLOTS):
        assert both[1].source_counts(slot, other).of("x") == 0
        assert both[1].source_counts(slot, table).of("x") == SLOTS
        for number in (FORWARDS, STARTUPS, SERVED, TAKEN, STEPS):
            assert both[1].count(number, slot).own == 0
