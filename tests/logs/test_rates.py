"""Lines in a second: counted for each source, in a table with a bound."""

from __future__ import annotations

import math

import pytest

from cotun_trio.logs.rates import MAX_SOURCES, OTHERS, Rates


def rates(limit: int = 3, now: float = 0.0) -> Rates:
    """Return counters for the second that `now` is in."""
    made = Rates(limit)
    assert made.turn(now) == {}
    return made


def admitted(counters: Rates, source: str, times: int) -> int:
    """Return how many of so many lines are admitted."""
    return [counters.admits(source) for _ in range(times)].count(True)


def test_a_source_has_so_many_lines_and_no_more() -> None:
    counters = rates()
    assert [counters.admits("a") for _ in range(5)] == [True, True, True, False, False]


def test_one_source_takes_nothing_from_another() -> None:
    counters = rates()
    assert admitted(counters, "a", 1000) == 3
    assert admitted(counters, "b", 3) == 3
    assert counters.turn(1.0) == {"a": 997}


@pytest.mark.parametrize("start", [0.0, 1.5, 1234.999, 1e9])
def test_the_next_second_is_another_one(start: float) -> None:
    counters = rates(now=start)
    assert admitted(counters, "a", 5) == 3
    end = math.floor(start) + 1
    assert counters.turn(math.nextafter(end, 0)) == {}
    assert admitted(counters, "a", 5) == 0
    assert counters.turn(end) == {"a": 7}
    assert admitted(counters, "a", 5) == 3
    assert counters.turn(end + 1000) == {"a": 2}
    assert counters.turn(end + 1001) == {}


def test_a_source_below_its_rate_is_not_reported() -> None:
    counters = rates()
    assert admitted(counters, "a", 3) == 3
    assert counters.turn(1.0) == {}


def test_what_has_many_lines_counts_as_many_and_is_not_cut() -> None:
    counters = rates(limit=50)
    assert counters.admits("a")
    assert counters.admits("a", lines=50)
    assert not counters.admits("a")
    assert counters.turn(1.0) == {"a": 1}


def test_the_table_is_bounded_and_who_has_no_place_there_shares_one() -> None:
    counters = rates()
    assert all(counters.admits(f"early {number}") for number in range(MAX_SOURCES))
    late = [counters.admits(f"late {number}") for number in range(100)]
    assert late == [True] * 3 + [False] * 97
    assert counters.admits("early 7")  # as before
    assert len(counters._admitted) <= MAX_SOURCES + 1
    assert counters.turn(1.0) == {OTHERS: 97}
    assert counters.admits("late 0")
    assert len(counters._admitted) == 1
