"""Counts over all nodes."""

from __future__ import annotations

from cotun_trio.fleet import counts
from cotun_trio.fleet.counts import MAX_REPORTED, CountOfKind, CountsOfKind, FleetCounts


def test_a_sum_is_our_own_count_and_the_last_report_of_each_other_node() -> None:
    made = FleetCounts()
    made.change("s alice", 2)
    made.reported("b", {"s alice": 3, "s bob": 1})
    made.reported("c", {"s alice": 1})
    made.reported("b", {"s alice": 5})
    assert made.of("s alice") == 8
    assert made.own("s alice") == 2
    assert made.of("s bob") == 1


def test_the_counts_of_a_node_go_with_it_and_with_a_new_statement() -> None:
    made = FleetCounts()
    made.reported("b", {"x": 3, "y": 1})
    made.replace("b", {"y": 2})
    assert (made.of("x"), made.of("y")) == (0, 2)
    made.forget(["b", "unknown"])
    assert made.of("y") == 0


def test_a_report_has_what_has_changed_also_to_nothing() -> None:
    made = FleetCounts()
    assert not made.has_changed
    made.change("x", 1)
    made.change("y", 1)
    made.change("y", -1)
    assert made.take_report() == {"x": 1, "y": 0}
    assert not made.has_changed
    assert made.take_all() == {"x": 1}


def test_a_report_is_bounded_and_the_oldest_change_comes_first() -> None:
    made = FleetCounts()
    for number in range(MAX_REPORTED + 5):
        made.change(str(number), 1)
    assert list(made.take_report()) == [str(n) for n in range(MAX_REPORTED)]
    assert len(made.take_report()) == 5


def test_another_node_cannot_fill_our_memory(monkeypatch: object) -> None:
    made, before = FleetCounts(), counts.MAX_COUNTS
    try:
        counts.MAX_COUNTS = 2
        made.reported("b", {"x": 1, "y": 1, "z": 1})
        made.reported("b", {"x": 4})
    finally:
        counts.MAX_COUNTS = before
    assert [made.of(key) for key in "xyz"] == [4, 1, 0]


def test_kinds_are_apart_and_say_when_they_change() -> None:
    made, told = FleetCounts(), []
    sources = CountsOfKind(made, "startups", lambda: told.append("sources"))
    users = CountsOfKind(made, "sessions", lambda: told.append("users"))
    crowd = CountOfKind(made, "crowd", lambda: told.append("crowd"))
    sources.change("x", 2)
    users.change("x", 1)
    crowd.add(7)
    made.reported("b", {"startups x": 1, "crowd": 1})
    assert (sources.of("x"), users.of("x"), crowd.own, crowd.total) == (3, 1, 7, 8)
    assert told == ["sources", "users", "crowd"]


def test_bytes_that_are_no_text_can_be_counted_and_told() -> None:
    made = FleetCounts()
    CountsOfKind(made, "startups", lambda: None).change("\udcff", 1)
    assert [key.encode() for key in made.take_all()] == [b"startups \\udcff"]
