"""Penalties for failed logins: answers that take longer, and sources that are barred."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access import penalties as penalties_module
from cotun_trio.access.penalties import FORGET, MAX_BAR, MAX_DELAY, Bar, Penalties, Verdict


def bar(penalties: Penalties, source: str, now: float) -> float:
    """Fail until the source is barred; return for how long."""
    for _ in range(100):
        if seconds := penalties.failed(source, now).barred_for:
            return seconds
    raise AssertionError("never barred")


def test_each_failure_costs_twice_the_time_up_to_a_limit() -> None:
    penalties = Penalties(10)
    delays = [penalties.failed("a", 0.0).delay for _ in range(9)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2])


def test_ten_in_a_minute_bar_their_source_for_a_minute_and_no_other() -> None:
    penalties = Penalties(10)
    for number in range(9):
        assert not penalties.failed("a", 0.1 * number).barred_for
        assert not penalties.barred("a", 0.1 * number)
    assert penalties.failed("a", 1.0) == Verdict(MAX_DELAY, 60.0)
    assert penalties.barred("a", 1.0) == 60.0
    assert penalties.barred("a", 51.0) == 10.0
    assert penalties.barred("a", 61.0) == 0.0
    assert penalties.barred("b", 1.0) == 0.0
    assert penalties.failed("b", 1.0) == Verdict(0.1)


def test_who_fails_now_and_then_is_never_barred() -> None:
    penalties = Penalties(10)
    assert not any(penalties.failed("a", 6.7 * n).barred_for for n in range(1000))
    assert penalties.failed("a", 6.7 * 1000 + 60).delay == pytest.approx(0.1)


def test_it_does_not_matter_how_they_are_spread_over_the_minute() -> None:
    for every in (0.0, 1.0, 6.0):
        penalties = Penalties(10)
        verdicts = [penalties.failed("a", every * number) for number in range(10)]
        assert [bool(verdict.barred_for) for verdict in verdicts] == [False] * 9 + [True]


def test_each_bar_is_twice_the_one_before_up_to_an_hour_and_forgotten_in_the_end() -> None:
    penalties, now = Penalties(10), 0.0
    bars = []
    for _ in range(9):
        bars.append(bar(penalties, "a", now))
        now += bars[-1]
    assert bars == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert bar(penalties, "a", now - MAX_BAR + FORGET) == MAX_BAR
    assert bar(penalties, "a", now + MAX_BAR + FORGET + 1) == 60


def test_after_a_bar_the_count_begins_again() -> None:
    penalties = Penalties(3)
    bar(penalties, "a", 0.0)
    assert not penalties.failed("a", 60.0).barred_for


def test_zero_failures_switch_penalties_off() -> None:
    penalties = Penalties(0)
    assert all(penalties.failed("a", 0.0) == Verdict(0.0) for _ in range(100))
    assert not penalties.barred("a", 0.0)
    assert len(penalties) == 0


def test_the_one_that_failed_the_longest_ago_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(penalties_module, "MAX_SOURCES", 2)
    penalties = Penalties(1)
    for source in ("a", "b", "a", "c"):
        penalties.failed(source, 0.0)
    assert penalties.barred("a", 0.0)
    assert not penalties.barred("b", 0.0)
    assert penalties.barred("c", 0.0)


def test_many_ipv6_sources_push_out_no_ipv4_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties_module, "MAX_SOURCES", 2)
    penalties = Penalties(1)
    penalties.failed("192.0.2.1", 0.0)
    for number in range(10):
        penalties.failed(f"2001:db8:0:{number}::/64", 0.0)
    assert penalties.barred("192.0.2.1", 0.0)
    assert len(penalties) == 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 5000)), max_size=60))
def test_the_table_is_bounded_and_a_bar_does_not_shrink(steps: list[tuple[str, float]]) -> None:
    penalties, now = Penalties(2), 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penalties_module, "MAX_SOURCES", 3)
        for source, later in steps:
            now += later
            before = penalties.barred(source, now)
            verdict = penalties.failed(source, now)
            assert (
                penalties.barred(source, now) >= max(before, verdict.barred_for) - 1e-6
            )  # of a float
            assert 0.1 <= verdict.delay <= MAX_DELAY
            assert len(penalties) <= 3


def test_who_is_barred_can_be_listed() -> None:
    penalties = Penalties(1)
    penalties.failed("192.0.2.1", 0.0)
    penalties.failed("2001:db8::", 30.0)
    assert penalties.bars(40.0) == [Bar("192.0.2.1", 20.0, 1), Bar("2001:db8::", 50.0, 1)]
    assert penalties.bars(70.0) == [Bar("2001:db8::", 20.0, 1)]


def test_a_bar_that_is_lifted_is_forgotten_with_its_failures() -> None:
    penalties = Penalties(10)
    assert bar(penalties, "a", 0.0) == 60
    assert not penalties.lift("b", 1.0)
    assert penalties.lift("a", 1.0)
    assert penalties.barred("a", 1.0) == 0
    assert not penalties.lift("a", 1.0)
    assert bar(penalties, "a", 2.0) == 60  # it is the first one again
    assert not penalties.lift("a", 62.0)  # it is over


def test_all_bars_can_be_lifted_and_other_failures_stay() -> None:
    penalties = Penalties(2)
    for source in ("a", "2001:db8::/64"):
        bar(penalties, source, 0.0)
    penalties.failed("b", 0.0)
    assert penalties.lift_all(1.0) == 2
    assert penalties.bars(1.0) == []
    assert penalties.failed("b", 1.0).barred_for == 60
