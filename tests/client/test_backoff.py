"""How long a client waits between two rounds."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cotun_trio.client.backoff import CLOSE, EARLY, FIRST_INTERVAL, HELD, HOLD, Backoff
from cotun_trio.settings import ClientSettings

LONGEST = 300.0
CROWD = 10_000


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Give the ranges that waits are drawn from; each wait is as long as it can be."""
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    monkeypatch.setattr("cotun_trio.client.backoff.random.uniform", uniform)
    return ranges


def draw_until(backoff: Backoff, end: float, *, reached: bool = False, now: float = 0.0) -> float:
    """Let rounds fail at once, one after each wait, up to the time `end`; return the time then."""
    while now < end:
        now += backoff.draw(now, dialled=now, reached=reached)
    return now


def crowd_until(
    end: float, seed: int, monkeypatch: pytest.MonkeyPatch, *, shortest: float = 1.0, reached: bool
) -> Counter[int]:
    """Let all of a crowd lose the server at once; return the dials in each tenth of a second."""
    monkeypatch.setattr("cotun_trio.client.backoff.random.uniform", random.Random(seed).uniform)
    tries = Counter[int]()
    for _ in range(CROWD):
        backoff, now = Backoff(LONGEST, hold=True, shortest=shortest), 0.0
        while now < end:
            now += backoff.draw(now, dialled=now, reached=reached)
            tries[int(now * 10)] += 1
    return tries


def test_what_cannot_be_reached_is_tried_every_few_seconds_for_half_a_minute(
    draws: list[tuple[float, float]],
) -> None:
    draw_until(Backoff(LONGEST, hold=True), HOLD)
    assert draws == [(0, FIRST_INTERVAL), *[HELD] * 7]


def test_meanwhile_the_time_that_an_attempt_took_is_part_of_the_wait(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=True)
    backoff.draw(0.0, dialled=0.0, reached=False)
    assert backoff.draw(10.0, dialled=7.5, reached=False) == 1.5
    assert backoff.draw(20.0, dialled=10.0, reached=False) == 0.0
    assert draws[1:] == [HELD, HELD]


def test_after_the_first_half_minute_the_waits_double_up_to_a_quarter_and_later_to_the_limit(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=True)
    now = draw_until(backoff, HOLD)
    draws.clear()
    for _ in range(13):
        now += backoff.draw(now, dialled=now, reached=False)
    early, late = (6, 12, *[CLOSE] * 5), (24, 48, 96, 192, 300, 300)
    assert draws == [(0, each) for each in (*early, *late)]


def test_a_server_that_was_reached_and_does_not_want_us_is_spared_from_the_first_on(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=True)
    for _ in range(5):
        backoff.draw(1.0, dialled=1.0, reached=True)
    assert draws == [(0, each) for each in (3, 6, 12, CLOSE, CLOSE)]


def test_rounds_that_are_counted_are_not_used_up_in_half_a_minute(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=False)
    for _ in range(5):
        backoff.draw(1.0, dialled=1.0, reached=False)
    assert draws == [(0, each) for each in (3, 6, 12, 24, 48)]


def test_a_limit_below_the_short_waits_holds_for_them_too(draws: list[tuple[float, float]]) -> None:
    draw_until(Backoff(1.5, hold=True), 5)
    assert set(draws) == {(0, 1.5)}


def test_the_default_of_the_shortest_interval_is_that_of_the_waits_above(
    draws: list[tuple[float, float]],
) -> None:
    for shortest in (
        {},
        {"shortest": ClientSettings.from_options("a", remotes="1").min_retry_interval},
    ):
        draw_until(Backoff(LONGEST, hold=True, **shortest), 600)
    assert draws[: len(draws) // 2] == draws[len(draws) // 2 :]


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("reached", [False, True])
@pytest.mark.parametrize("shortest", [2.0, 10.0, 30.0])
def test_no_wait_is_shorter_than_the_shortest_by_more_than_what_chance_needs(
    shortest: float, reached: bool, hold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(7)
    monkeypatch.setattr("cotun_trio.client.backoff.random.uniform", dice.uniform)
    backoff, now, waits = Backoff(LONGEST, hold=hold, shortest=shortest), 0.0, []
    for _ in range(200):
        began, now = now, now + dice.choice([0.0, 3.0, 20.0])  # an attempt takes so long
        waits.append(backoff.draw(now, dialled=began, reached=reached))
        now += waits[-1]
    assert shortest - 1 <= min(waits)
    assert waits[0] <= 3 * shortest
    assert max(waits) <= LONGEST


def test_with_a_shorter_one_the_first_attempts_come_sooner(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=True, shortest=0.1)
    for _ in range(5):
        backoff.draw(1.0, dialled=1.0, reached=True)
    assert [high for _, high in draws] == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8])
    assert {low for low, _ in draws} == {0}


def test_there_is_always_a_pause(draws: list[tuple[float, float]]) -> None:
    Backoff(LONGEST, hold=True, shortest=0.0).draw(0.0, dialled=0.0, reached=True)
    assert draws == [(0, pytest.approx(0.3))]


def test_the_longest_counts_more_than_the_shortest(draws: list[tuple[float, float]]) -> None:
    draw_until(Backoff(5.0, hold=True, shortest=60.0), 200)
    assert set(draws) == {(4, 5)}


def test_a_crowd_with_a_longer_one_is_no_denser(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = crowd_until(EARLY, 8, monkeypatch, shortest=10.0, reached=False)
    assert max(tries.values()) <= 0.02 * CROWD


def test_a_session_that_lasted_starts_all_of_it_again(draws: list[tuple[float, float]]) -> None:
    backoff = Backoff(LONGEST, hold=True)
    draw_until(backoff, 1000)
    draws.clear()
    backoff.start_again()
    draw_until(backoff, 1000 + HOLD, now=1000)
    assert draws == [(0, FIRST_INTERVAL), *[HELD] * 7]


@pytest.mark.parametrize("failed", [10, 1000, 10_000])
def test_the_waits_stay_finite_however_often_it_fails(
    failed: int, draws: list[tuple[float, float]]
) -> None:
    backoff = Backoff(LONGEST, hold=False)
    for _ in range(failed):
        backoff.draw(0.0, dialled=0.0, reached=True)
    assert draws[-1] == (0, LONGEST)


def test_of_a_crowd_no_tenth_of_a_second_has_more_than_one_in_twenty_in_the_first_half_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = crowd_until(HOLD, 4, monkeypatch, reached=False)
    assert max(tries.values()) <= 0.055 * CROWD


@pytest.mark.parametrize("reached", [False, True])
def test_in_the_first_two_minutes_attempts_stay_within_a_quarter_of_a_minute(
    reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(5)
    monkeypatch.setattr("cotun_trio.client.backoff.random.uniform", dice.uniform)
    for _ in range(300):
        backoff, began, now = Backoff(LONGEST, hold=True), 0.0, 0.0
        while (now := now + dice.choice([0.0, 0.1, 3.0, 12.0])) < EARLY:  # an attempt takes so long
            now += backoff.draw(now, dialled=began, reached=reached)
            assert now - began <= CLOSE
            began = now


def test_a_crowd_whose_attempts_take_long_does_not_come_back_in_one_moment(
    draws: list[tuple[float, float]],
) -> None:
    backoff = Backoff(LONGEST, hold=True)
    for now in range(30, 120, 30):
        backoff.draw(now, dialled=now - 30, reached=True)
    assert draws == [(0, FIRST_INTERVAL)] * 3


def test_of_a_crowd_that_is_turned_away_no_tenth_of_a_second_has_more_than_one_in_twenty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = crowd_until(EARLY, 6, monkeypatch, reached=True)
    assert max(tries.values()) <= 0.055 * CROWD
    late = [count for tenth, count in tries.items() if HOLD <= tenth / 10 < EARLY]
    assert max(late) <= 0.02 * CROWD
