"""The sources that are barred."""

from __future__ import annotations

import pytest

from cotun_trio.access.penalties import MAX_SOURCES
from cotun_trio.fleet.bars import Bars


def test_a_bar_ends_and_a_shorter_one_does_not_end_it_earlier() -> None:
    bars = Bars()
    bars.bar("a", 60.0, 0.0)
    bars.bar("a", 10.0, 5.0)
    assert bars.barred("a", 20.0) == 40.0
    assert bars.barred("a", 61.0) == 0.0
    assert bars.barred("b", 0.0) == 0.0


@pytest.mark.slow
def test_bars_that_are_over_make_room_and_else_the_first_one() -> None:
    bars = Bars()
    bars.bar("long", 1000.0, 0.0)
    for number in range(MAX_SOURCES - 1):
        bars.bar(str(number), 10.0, 0.0)
    bars.bar("new", 10.0, 20.0)
    assert bars.barred("long", 20.0)
    assert bars.barred("new", 20.0)
    for number in range(MAX_SOURCES):
        bars.bar(f"x{number}", 1000.0, 20.0)
    assert not bars.barred("long", 20.0)
    assert bars.barred(f"x{MAX_SOURCES - 1}", 20.0)
