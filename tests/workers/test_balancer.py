"""The choice of the worker that gets the next connection."""

from __future__ import annotations

import attrs

from cotun_trio.workers.balancer import Balancer


@attrs.define(eq=False)
class Someone:
    load: int = 0
    is_late: bool = False
    is_silent: bool = False
    has_room: bool = True


def balancer(*workers: Someone) -> Balancer[Someone]:
    result: Balancer[Someone] = Balancer()
    for worker in workers:
        result.add(worker)
    return result


def test_the_worker_with_the_fewest_is_chosen() -> None:
    one, two, three = Someone(3), Someone(1), Someone(2)
    assert balancer(one, two, three).choose() is two


def test_workers_with_equal_load_take_turns() -> None:
    workers = [Someone(), Someone(), Someone()]
    three = balancer(*workers)
    assert [three.choose() for _ in range(6)] == workers * 2


def test_load_is_balanced_when_connections_end() -> None:
    one, two = Someone(), Someone()
    both = balancer(one, two)
    for _ in range(10):
        chosen = both.choose()
        assert chosen
        chosen.load += 1
    assert (one.load, two.load) == (5, 5)
    one.load = 0
    for _ in range(5):
        assert both.choose() is one
        one.load += 1


def test_one_that_is_late_comes_last_but_comes() -> None:
    late, busy = Someone(0, is_late=True), Someone(100)
    both = balancer(late, busy)
    assert both.choose() is busy
    both.remove(busy)
    assert both.choose() is late
    assert both.choose(in_time=True) is None


def test_of_those_that_are_late_the_load_decides() -> None:
    one, two = Someone(2, is_late=True), Someone(1, is_late=True)
    assert balancer(one, two).choose() is two


def test_one_that_is_silent_or_full_gets_nothing() -> None:
    silent, full = Someone(is_late=True, is_silent=True), Someone(has_room=False)
    both = balancer(silent, full)
    assert both.choose() is None
    assert not both.is_open
    full.has_room = True
    assert both.is_open
    assert both.choose() is full
    full.has_room, silent.is_silent = False, False
    assert both.choose() is silent


def test_there_may_be_no_worker() -> None:
    worker = Someone()
    empty = balancer(worker)
    empty.remove(worker)
    empty.remove(worker)
    assert empty.choose() is None
    assert not empty.is_open
    assert len(empty) == 0
