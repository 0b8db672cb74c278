"""Limits on connections that have not logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.startups import MAX_TOLD, OwnSourceCounts, Startups
from cotun_trio.counts import OwnCount

if TYPE_CHECKING:
    from cotun_trio.access.startups import Startup


FULL = "too many connections have not logged in: refusing more"
CROWDED = "more than half of --max-startups have not logged in: refusing some at random"


class Door:
    """Startups, and what they have said; by default, nothing happens at random."""

    def __init__(self, limit: int, per_source: int, counts: OwnSourceCounts | None = None) -> None:
        self.crowd = OwnCount()
        self.sources = OwnSourceCounts() if counts is None else counts
        self.said: list[str] = []
        self.luck = 1.0
        self.startups = Startups(
            limit,
            per_source,
            crowd=self.crowd,
            sources=self.sources,
            say=self.said.append,
            chance=lambda: self.luck,
        )

    def enter(self, source: str | None) -> Startup | None:
        return self.startups.enter(source)

    def place(self, source: str | None) -> Startup:
        place = self.startups.enter(source)
        assert place is not None
        return place


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


def test_zero_is_no_limit_on_startups() -> None:
    door = Door(0, 0)
    assert all(door.enter("a") for _ in range(1000))


def test_a_trusted_proxy_has_only_the_limit_for_all_sources() -> None:
    door = Door(3, 1)
    assert all(door.enter(None) for _ in range(3))
    assert not door.enter(None)
    assert len(door.sources) == 0


# ---- the back end's clients, and those of a proxy


def test_a_client_of_the_back_ends_leaves_the_crowd_and_keeps_its_place_for_its_source() -> None:
    door = Door(1, 2)
    for _ in range(2):
        door.place("a").step_aside()
    assert not door.enter("a")
    assert door.crowd.total == 0
    assert door.enter("b")


def test_a_connection_that_counts_again_needs_room() -> None:
    door = Door(1, 0)
    first = door.place("a")
    assert first.come_back()
    first.step_aside()
    first.step_aside()
    second = door.place("b")
    assert not first.come_back()
    assert not first.come_back()
    second.leave()
    assert first.come_back()
    assert first.come_back()
    assert door.crowd.total == 1


def test_a_place_moves_to_the_client_that_a_proxy_names_and_to_the_next() -> None:
    door = Door(0, 1)
    proxy = door.place(None)
    for client in ("a", "b", "b", None, "a"):
        assert proxy.move(client)
        assert [door.sources.of(source) for source in "ab"] == [client == "a", client == "b"]
    assert not door.enter("a")
    proxy.leave()
    assert len(door.sources) == door.crowd.total == 0


def test_a_client_without_room_is_not_counted_and_the_next_one_can_be() -> None:
    door = Door(0, 1)
    door.place("a")
    proxy = door.place(None)
    assert proxy.move("b")
    assert not proxy.move("a")
    assert not proxy.move("a")
    assert (door.sources.of("a"), door.sources.of("b")) == (1, 0)
    assert proxy.move("b")
    proxy.leave()
    assert door.sources.of("b") == 0


# ---- at random


@pytest.mark.parametrize(
    ("inside", "chance"),
    [(0, 0), (1, 0), (5, 0), (6, 0.2), (7, 0.4), (8, 0.6), (9, 0.8), (10, 1)],
)
def test_between_half_full_and_full_the_chance_to_be_refused_grows_to_certainty(
    inside: int, chance: float
) -> None:
    door = Door(10, 0)
    for _ in range(inside):
        door.place("a")
    door.luck = chance - 1e-9
    assert (door.enter("b") is None) == (chance > 0)
    assert door.crowd.total == inside + (chance == 0)
    if chance == 0:
        return
    door.luck = min(chance + 1e-9, 1 - 1e-9)
    assert (door.enter("b") is None) == (chance == 1)


def test_of_one_source_all_places_can_be_had() -> None:
    door = Door(0, 10)
    door.luck = 0.0
    assert all(door.enter("a") for _ in range(10))


def test_a_connection_that_counts_again_may_be_refused_by_chance_like_a_new_one() -> None:
    door = Door(10, 0)
    place = door.place("a")
    place.step_aside()
    for _ in range(8):
        door.place("b")
    door.luck = 0.5
    assert not place.come_back()
    door.luck = 0.7
    assert place.come_back()


# ---- the log


def test_each_flood_is_said_once() -> None:
    door = Door(10, 4)
    first = [door.place("a") for _ in range(4)]
    for _ in range(3):
        assert not door.enter("a")
    assert door.said == ["too many connections of a have not logged in: refusing more"]
    door.luck = 0.0
    others = [door.place(source) for source in "bc"]
    for _ in range(3):
        assert not door.enter("d")
    assert door.said[1:] == [CROWDED]
    door.luck = 1.0
    others += [door.place(source) for source in "efgh"]
    for _ in range(3):
        assert not door.enter("d")
    assert door.said[2:] == [FULL]

    # It goes up and down, and that is the same flood.
    for _ in range(3):
        first.pop().leave()
        first.append(door.place("a"))
        assert not door.enter("a")
        assert not door.enter("d")
    assert len(door.said) == 3

    # It is over, and the next one is news.
    for place in (*first, *others[:-1]):
        place.leave()
    again = [door.place("a") for _ in range(4)]
    assert not door.enter("a")
    assert door.said[3:] == ["too many connections of a have not logged in: refusing more"]
    again += [door.place("b") for _ in range(4)] + [door.place("c")]
    assert not door.enter("d")
    assert door.said[4:] == [FULL]


@given(
    st.lists(st.tuples(st.sampled_from([None, *"abc"]), st.sampled_from("elsbm"))),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_whatever_happens_it_counts_right_and_remembers_no_more_than_that(
    steps: list[tuple[str | None, str]], limit: int, per_source: int
) -> None:
    door = Door(limit, per_source)
    inside: list[tuple[str | None, bool, Startup]] = []  # the source, and whether in the crowd

    def crowd_has_room() -> bool:
        return not limit or sum(in_crowd for _, in_crowd, _ in inside) < limit

    def source_has_room(source: str | None) -> bool:
        count = sum(other == source for other, _, _ in inside)
        return source is None or not per_source or count < per_source

    for source, step in steps:
        if step == "e":
            place = door.enter(source)
            assert (place is not None) == (crowd_has_room() and source_has_room(source))
            if place is not None:
                inside.append((source, True, place))
        elif inside:
            was, in_crowd, place = inside.pop(0)
            if step == "l":
                place.leave()
                continue
            if step == "s":
                place.step_aside()
                in_crowd = False
            elif step == "b":
                room = in_crowd or crowd_has_room()
                assert place.come_back() == room
                in_crowd = room
            else:
                room = source in (was, None) or source_has_room(source)
                assert place.move(source) == room
                was = source if room else None
            inside.append((was, in_crowd, place))
        assert door.crowd.total == sum(in_crowd for _, in_crowd, _ in inside)
        assert len(door.sources) == len({source for source, _, _ in inside} - {None})
        assert len(door.startups._told) <= len(door.sources)
    for _, _, place in inside:
        place.leave()
        place.leave()
    assert door.crowd.total == len(door.sources) == 0


def test_sources_that_only_others_have_are_not_remembered_for_ever() -> None:
    class Full(OwnSourceCounts):
        def of(self, source: str) -> int:
            return 1

    door = Door(0, 1, Full())
    for number in range(3 * MAX_TOLD):
        assert not door.enter(f"source {number}")
    assert len(door.said) == 3 * MAX_TOLD
    assert len(door.startups._told) <= MAX_TOLD
