"""The queue of logins, as a table: which password is checked next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access import login_queue
from cotun_trio.access.login_queue import FORGET, PATIENCE, LoginQueue

if TYPE_CHECKING:
    from cotun_trio.access.login_queue import Turn


class Door:
    """A queue, who has got a thread in what order, and a clock that stands still."""

    def __init__(self, threads: int = 1) -> None:
        self.queue = LoginQueue(threads)
        self.now = 0.0
        self.served: list[str] = []
        self.turns: dict[str, Turn] = {}

    def wait(self, *sources: str) -> None:
        for source in sources:
            self.turns[source] = self.queue.wait(
                source, self.now, lambda source=source: self.served.append(source)
            )

    def done(self, source: str, *, right: bool | None = False) -> None:
        self.queue.done(self.turns[source], self.now, right=right)

    def give_up(self, source: str) -> None:
        self.queue.give_up(self.turns[source])

    def check(self, *sources: str, right: bool = False) -> None:
        """Have sources checked before anything else."""
        for source in sources:
            self.wait(source)
            self.done(source, right=right)
        self.served.clear()

    def rest(self) -> list[str]:
        """Let all have their turns; return in what order."""
        for source in self.served:
            self.done(source)
        return self.served


def test_among_equals_the_last_is_first() -> None:
    door = Door()
    door.wait(*"abc")
    assert door.served == ["a"]
    assert door.rest() == [*"acb"]


def test_no_more_logins_are_checked_at_a_time_than_there_are_threads() -> None:
    door = Door(threads=2)
    door.wait(*"abcd")
    assert door.served == [*"ab"]
    door.done("b")
    assert door.served == [*"abd"]


def test_one_with_fewer_wrong_passwords_goes_first() -> None:
    door = Door()
    door.check(*"aab")
    door.wait("busy", *"abc")
    assert door.rest() == ["busy", *"cba"]


def test_one_that_has_logged_in_goes_before_one_that_nobody_knows() -> None:
    door = Door()
    door.check("good", right=True)
    door.wait("busy", "good", "new")
    assert door.rest() == ["busy", "good", "new"]


def test_a_good_login_does_not_make_up_for_wrong_ones() -> None:
    door = Door()
    door.check("both")
    door.check("both", right=True)
    door.wait("busy", "new", "both")
    assert door.rest() == ["busy", "new", "both"]


@pytest.mark.parametrize(("later", "order"), [(FORGET, "dba"), (FORGET + 1, "adb")])
def test_wrong_passwords_are_forgotten(later: float, order: str) -> None:
    door = Door()
    door.check("a")
    door.now += later
    door.wait("busy", *"bda")
    assert door.rest() == ["busy", *order]


def test_a_login_that_was_not_checked_does_not_count_as_wrong() -> None:
    door = Door()
    door.wait("a")
    door.done("a", right=None)
    door.served.clear()
    door.wait("busy", *"ba")
    assert door.rest() == ["busy", *"ab"]


@pytest.mark.parametrize("known", [False, True])
def test_thirty_guessers_hold_a_good_login_up_for_one_check(known: bool) -> None:
    door = Door()
    guessers = [f"guesser {number}" for number in range(30)]
    if known:
        door.check(*guessers)
    door.wait(*guessers, "good")
    door.done(guessers[0])
    assert door.served == [guessers[0], "good"]


def test_the_one_that_has_waited_longest_is_passed_over_so_often_and_no_more() -> None:
    door = Door()
    door.check("bad", "worse", "worse")
    door.wait("busy", "worse", "bad")
    for number in range(2 * PATIENCE + 2):
        door.wait(f"new {number}")
        door.done(door.served[-1])
    assert door.served.index("worse") == PATIENCE + 1
    assert door.served.index("bad") == 2 * PATIENCE + 2


def test_a_source_whose_thread_is_not_back_waits_and_holds_nobody_up() -> None:
    door = Door(threads=2)
    door.wait("a")
    door.wait("a", "b")
    assert door.served == [*"ab"]
    door.done("b")
    door.wait("c")
    assert door.served == [*"abc"]
    door.done("a")
    assert door.served == [*"abca"]


def test_one_that_gives_up_leaves_nothing_behind() -> None:
    door = Door()
    door.wait(*"abc")
    door.give_up("b")
    door.give_up("b")
    assert len(door.queue) == 1
    assert door.rest() == [*"ac"]
    assert (len(door.queue), door.queue._running) == (0, set())


def test_sources_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_queue, "MAX_SOURCES", 2)
    door = Door()
    door.check(*"abac")
    door.check(*"abac", right=True)
    assert list(door.queue._wrong) == [*"ac"]
    assert list(door.queue._good) == [*"ac"]


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from("wdg"), st.sampled_from("abcd"), st.booleans()), max_size=30
    ),
)
def test_no_thread_is_idle_while_somebody_waits_and_none_is_given_twice(
    threads: int, steps: list[tuple[str, str, bool]]
) -> None:
    queue = LoginQueue(threads)
    waiting: dict[str, Turn] = {}
    running: dict[str, Turn] = {}

    def go(source: str) -> None:
        assert source not in running
        came.append(source)

    for step, source, right in steps:
        came: list[str] = []
        if step == "w" and source not in waiting:
            waiting[source] = queue.wait(source, 0.0, lambda source=source: go(source))
        elif step == "d" and source in running:
            queue.done(running.pop(source), 0.0, right=right)
        elif step == "g" and source in waiting:
            queue.give_up(waiting.pop(source))
        for other in came:
            running[other] = waiting.pop(other)
        assert len(running) <= threads
        assert len(queue) == len(waiting)
        assert queue._running == set(running)
        if len(running) < threads:
            assert set(waiting) <= set(running)
