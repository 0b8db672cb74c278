"""Restarts: the delay before a worker is started again."""

from __future__ import annotations

import itertools

from cotun_trio.workers.restarts import FIRST_DELAY, MAX_DELAY, STABLE, Restarts


def test_after_the_first_early_end_it_is_at_once_and_then_later_and_later() -> None:
    restarts, delays = Restarts(), []
    for _ in range(2000):
        restarts.ended(0.0)
        delays.append(restarts.delay)
    assert delays[:4] == [0.0, FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert all(one <= other for one, other in itertools.pairwise(delays))
    assert delays[-1] == MAX_DELAY


def test_one_that_has_lived_begins_anew() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.ended(STABLE - 0.1)
    assert restarts.delay > FIRST_DELAY
    restarts.ended(STABLE)
    assert restarts.delay == 0.0
    restarts.ended(0.0)
    assert restarts.delay == 0.0


def test_where_there_is_no_process_the_next_try_waits() -> None:
    restarts = Restarts()
    restarts.not_started()
    assert restarts.delay == FIRST_DELAY
    restarts.not_started()
    assert restarts.delay == 2 * FIRST_DELAY


def test_a_new_account_has_no_delay_whatever_happens_in_another_place() -> None:
    one, other = Restarts(), Restarts()
    for _ in range(5):
        one.ended(0.0)
    other.ended(STABLE)
    assert other.delay == 0.0
    assert one.delay > 0.0
