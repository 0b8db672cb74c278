"""The work that a peer may cause: units, turns, allowances."""

from __future__ import annotations

import pytest

from cotun_trio.budget import (
    BEFORE_LOGIN,
    BURST,
    DIAL,
    FRAME,
    KEY_EXCHANGE,
    OPEN,
    PACKET,
    REFILL,
    REFUSAL,
    REQUEST,
    TURN,
    Allowance,
    Budget,
)


def test_a_turn_begins_with_all_of_its_units() -> None:
    budget = Budget()
    budget.spend(100)
    assert budget.left == TURN - 100
    budget.begin()
    assert budget.left == TURN


def test_what_was_spent_is_the_sum_of_all_turns() -> None:
    budget = Budget()
    for _ in range(3):
        budget.begin()
        budget.spend(TURN + 5)  # the last message may cost more than is left
    assert budget.spent == 3 * (TURN + 5)


def test_work_of_each_kind_counts_in_the_turn_and_for_its_allowance() -> None:
    budget = Budget()
    budget.be_busy(10)
    budget.waste(20)
    assert (TURN - budget.left, budget.busy, budget.wasted) == (30, 10, 20)
    budget.begin()
    assert (budget.busy, budget.wasted) == (10, 20)  # until somebody takes them


def test_a_packet_with_a_few_bytes_is_busy_and_one_with_none_is_waste() -> None:
    budget = Budget()
    for size in (1, 15, 0):
        budget.note_tiny(size)
    assert (budget.left, budget.busy, budget.wasted) == (TURN, 2 * PACKET, PACKET)


def test_what_is_taken_is_counted_from_zero_again() -> None:
    budget = Budget()
    budget.be_busy(10)
    budget.note_waste(20)
    assert budget.take() == (10, 20)
    assert budget.take() == (0, 0)


def test_turns_are_numbered() -> None:
    budget = Budget()
    numbers = [budget.turn]
    for _ in range(2):
        budget.begin()
        numbers.append(budget.turn)
    assert numbers == [0, 1, 2]


def test_a_login_fits_the_budget_of_a_stranger_several_times_over() -> None:
    # Version, KEXINIT, public value, NEWKEYS, service and two tries; a dozen frames.
    login = 2 * KEY_EXCHANGE + 3 * REQUEST + 7 * PACKET + 12 * FRAME
    assert login < BEFORE_LOGIN / 2


def test_a_turn_takes_some_messages_of_the_dearest_kind() -> None:
    assert TURN // max(OPEN + DIAL, REFUSAL, KEY_EXCHANGE, REQUEST) >= 2


def test_an_allowance_lasts_for_a_burst_and_then_for_what_comes_back() -> None:
    allowance = Allowance(0.0)
    assert allowance.take(BURST, 0.0) == 0
    assert allowance.take(REFILL, 0.0) == pytest.approx(1)
    assert allowance.take(0, 0.5) == pytest.approx(0.5)
    assert allowance.take(0, 1.0) == pytest.approx(0)
    assert allowance.take(REFILL // 2, 1.5) == pytest.approx(0)


@pytest.mark.parametrize(("sharers", "rest"), [(1, 0.01), (10, 0.1), (100, 1), (1000, 1)])
def test_few_that_overdraw_get_more_back(sharers: int, rest: float) -> None:
    allowance = Allowance(0.0)
    assert allowance.take(BURST + REFILL, 0.0, sharers) == pytest.approx(rest)
    assert allowance.take(0, rest, sharers) == pytest.approx(0)


def test_nobody_saves_up_more_than_a_burst() -> None:
    allowance = Allowance(0.0)
    assert allowance.take(BURST + REFILL, 1e6) == pytest.approx(1)
