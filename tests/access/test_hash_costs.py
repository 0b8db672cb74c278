"""Costs of password hashes: measured, estimated and limited."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access import hash_costs
from cotun_trio.access.hash_costs import BUDGET, MAX_WORK, measure, slow_hashes
from cotun_trio.access.passwords import decoy

if TYPE_CHECKING:
    from cotun_trio.access.passwords import Cost


def argon2(memory: int, passes: int, lanes: int = 1) -> Cost:
    return ("argon2id", str(memory), str(passes), str(lanes))


class Machine:
    """A clock, and hashes that take a millisecond for each MiB and pass, or 1024 rounds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.computed: list[Cost] = []
        self.short_of_memory = False
        self._cost: Cost = ()
        monkeypatch.setattr(hash_costs, "decoy", self._decoy)

    def clock(self) -> float:
        return self.now

    def _decoy(self, cost: Cost) -> Machine:
        assert decoy(cost).cost == cost  # it is one
        self._cost = cost
        return self

    def matches(self, _password: str) -> bool:
        if self.short_of_memory:
            raise MemoryError
        self.computed.append(self._cost)
        kind, *numbers = self._cost
        work = 2 ** int(numbers[0]) if kind == "bcrypt" else int(numbers[0]) * int(numbers[1])
        self.now += work / 1024 / 1000
        return False

    def measure(self, *costs: Cost) -> dict[Cost, float]:
        return measure(dict.fromkeys(costs), {}, self.clock)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("cost", "sample", "seconds"),
    [
        (argon2(19_456, 2), argon2(19_456, 2), 0.038),
        (argon2(19_456, 100), argon2(19_456, 6), 1.9),
        (argon2(1024 * 1024, 4), argon2(MAX_WORK, 1), 4.096),
        (argon2(65_536, 2, 64), argon2(65_536, 2), 0.128),
        (("bcrypt", "04"), ("bcrypt", "04"), 1.5625e-5),
        (("bcrypt", "16"), ("bcrypt", "11"), 0.064),
    ],
)
def test_a_small_one_of_the_kind_is_computed_and_the_rest_follows(
    machine: Machine, cost: Cost, sample: Cost, seconds: float
) -> None:
    assert machine.measure(cost) == {cost: pytest.approx(seconds)}
    assert machine.computed == [sample]


def test_a_cost_that_is_known_is_not_measured_again(machine: Machine) -> None:
    cost, other = argon2(1024, 1), argon2(2048, 1)
    assert measure({cost: "", other: ""}, {cost: 5.0}, machine.clock) == {
        cost: 5.0,
        other: pytest.approx(0.002),
    }
    assert machine.computed == [other]


def test_many_costs_are_measured_for_so_long_and_the_rest_is_reckoned(machine: Machine) -> None:
    costs = [argon2(MAX_WORK - number, 1) for number in range(100)]
    found = machine.measure(*costs, ("bcrypt", "12"))
    assert machine.now < BUDGET + 0.2
    assert machine.computed[-1] == ("bcrypt", "11")  # of which there was none yet
    assert list(found.values()) == [
        *(pytest.approx((MAX_WORK - number) / 1024 / 1000) for number in range(100)),
        pytest.approx(0.004),
    ]


def test_where_there_is_no_memory_nothing_is_known(machine: Machine) -> None:
    machine.short_of_memory = True
    assert machine.measure(argon2(1024, 1), ("bcrypt", "04")) == {}


def test_real_hashes_are_timed_by_the_clock() -> None:
    ticks = iter(range(100))
    found = measure({argon2(64, 1): "", ("bcrypt", "04"): ""}, {}, lambda: float(next(ticks)))
    assert found == {argon2(64, 1): 1.0, ("bcrypt", "04"): 1.0}


WHERE = {argon2(1024, 1): "line 1", ("bcrypt", "12"): "line 2 and 3 more"}


@pytest.mark.parametrize(
    ("seconds", "warnings"),
    [
        ((0.1, 0.15), []),
        ((0.3, 0.0), []),
        ((0.1, 0.35), [(("bcrypt", "12"), "^line 2 and 3 more: .* some 0.3 s .*hash-password$")]),
        ((3.0, 0.4), [(argon2(1024, 1), "^line 1: .* 3.0 s"), (("bcrypt", "12"), "^line 2")]),
        (
            (0.2, 0.21),
            [((), "^every login takes some 0.4 s .* the 2 kinds in use: have one kind$")],
        ),
    ],
)
def test_what_is_too_much_is_said_with_its_place(
    seconds: tuple[float, float], warnings: list[tuple[Cost, str]]
) -> None:
    found = list(slow_hashes(dict(zip(WHERE, seconds, strict=True)), WHERE))
    assert [cost for cost, _ in found] == [cost for cost, _ in warnings]
    for (_, text), (_, pattern) in zip(found, warnings, strict=True):
        assert re.search(pattern, text)
