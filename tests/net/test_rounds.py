"""The order of turns: nobody starves, and the shortest do not wait for the longest."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.net.rounds import MOST_KNOWN, SLACK, USUAL, Crowd

LONG = 0.0005
"""Seconds of a turn of somebody who floods."""


def test_a_group_has_a_turn_before_any_has_its_second() -> None:
    crowd: Crowd[int] = Crowd()
    for number in range(10):
        crowd.add("a", number, number)
    for number in range(3):
        crowd.add(f"b{number}", 0, 100 + number)
    first = [crowd.take()[1] for _ in range(4)]
    assert sorted(first) == [0, 100, 101, 102]


def test_an_item_waits_once() -> None:
    crowd: Crowd[str] = Crowd()
    crowd.add("a", 1, "x")
    crowd.add("a", 1, "y")
    assert crowd.take() == ("a", "y")
    assert not crowd


def test_a_question_is_before_a_hundred_floods_that_came_first() -> None:
    crowd: Crowd[int] = Crowd()
    for flooder in range(100):
        crowd.took(flooder, 10 * LONG)
        crowd.add(flooder, 0, 0)
    crowd.add("question", 0, 1)
    turns = [crowd.take()[0] for _ in range(2)]
    assert "question" in turns


def test_short_turns_without_an_end_leave_every_other_one_to_the_rest() -> None:
    crowd: Crowd[int] = Crowd()
    crowd.took("long", 10 * LONG)
    crowd.add("long", 0, 0)
    counts: Counter[object] = Counter()
    for _ in range(100):
        for each in ("short", "shorter", "long"):
            crowd.add(each, 0, 0)
        group, _ = crowd.take()
        crowd.took(group, LONG if group == "long" else USUAL / 10)
        counts[group] += 1
    assert counts["long"] >= 100 // 6


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=200))
def test_all_that_waits_has_its_turn_once(added: list[tuple[int, int]]) -> None:
    crowd: Crowd[tuple[int, int]] = Crowd()
    for group, key in added:
        crowd.add(group, key, (group, key))
    taken = []
    while crowd:
        group, item = crowd.take()
        crowd.took(group, USUAL)
        assert item[0] == group
        taken.append(item)
    assert sorted(taken) == sorted(set(added))


def test_its_memory_is_bounded_however_long_the_crowd_lasts() -> None:
    crowd: Crowd[int] = Crowd()
    for number in range(3 * MOST_KNOWN):
        crowd.add("always", number, number)
        crowd.add(number, 0, 0)
        crowd.took(crowd.take()[0], USUAL)
        crowd.took(crowd.take()[0], USUAL)
    assert len(crowd._seconds) <= MOST_KNOWN + 1
    assert len(crowd._shortest) <= 2 * len(crowd._waiting) + SLACK + 1
