"""Limits on connections that have not logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.startups import MAX_TOLD, OwnTally, Startups

if TYPE_CHECKING:
    from cotun_trio.access.startups import Startup


class Door:
    """Startups, and what they have said."""

    def __init__(self, limit: int, per_source: int) -> None:
        self.tally = OwnTally()
        self.startups = Startups(limit, per_source, self.tally)
        self.said: list[str] = []

    def enter(self, source: str) -> Startup | None:
        return self.startups.enter(source, self.said.append)


def test_there_is_a_limit_for_all() -> None:
    door = Door(2, 0)
    first = door.enter("a")
    assert first
    assert door.enter("b")
    assert not door.enter("c")
    first.leave()
    assert door.enter("c")
    assert not door.enter("d")


def test_there_is_a_limit_for_each_source() -> None:
    door = Door(0, 1)
    first = door.enter("a")
    assert first
    assert not door.enter("a")
    assert door.enter("b")
    first.leave()
    assert door.enter("a")


def test_a_place_is_given_back_once() -> None:
    door = Door(2, 0)
    first = door.enter("a")
    assert first
    assert door.enter("a")
    first.leave()
    first.leave()
    assert door.enter("a")
    assert not door.enter("a")


def test_zero_is_no_limit() -> None:
    door = Door(0, 0)
    assert all(door.enter("a") for _ in range(1000))


def test_each_flood_is_said_once() -> None:
    door = Door(3, 2)
    first = door.enter("a")
    door.enter("a")
    for _ in range(3):
        assert not door.enter("a")
    assert door.said == ["too many connections of a have not logged in: refusing more"]
    door.enter("b")
    for source in ("c", "d", "e"):
        assert not door.enter(source)
    assert door.said[1:] == ["too many connections have not logged in: refusing more"]
    assert first
    first.leave()
    assert door.enter("a")
    assert not door.enter("a")
    assert not door.enter("c")
    assert len(door.said) == 4


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans())),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_whatever_happens_it_counts_right_and_remembers_no_more_than_that(
    steps: list[tuple[str, bool]], limit: int, per_source: int
) -> None:
    door = Door(limit, per_source)
    inside: list[tuple[str, Startup]] = []
    for source, leaves in steps:
        if leaves and inside:
            inside.pop(0)[1].leave()
            continue
        count = sum(1 for other, _ in inside if other == source)
        room = (not limit or len(inside) < limit) and (not per_source or count < per_source)
        place = door.enter(source)
        assert (place is not None) == room
        if place is not None:
            inside.append((source, place))
    assert len(door.tally) == len({source for source, _ in inside})
    assert len(door.startups._told) <= len(door.tally)


def test_sources_that_only_others_have_are_not_remembered_for_ever() -> None:
    class Full(OwnTally):
        def of(self, source: str) -> int:
            return 1

    said: list[str] = []
    startups = Startups(0, 1, Full())
    for number in range(3 * MAX_TOLD):
        assert not startups.enter(f"source {number}", said.append)
    assert len(said) == 3 * MAX_TOLD
    assert len(startups._told) <= MAX_TOLD
