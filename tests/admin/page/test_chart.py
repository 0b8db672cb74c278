"""The drawing of the traffic."""

from __future__ import annotations

import pytest

from cotun_trio.admin.history import KEPT, Rate
from cotun_trio.admin.page.chart import HEIGHT, LEAST, WIDTH, ceiling, chart, points


@pytest.mark.parametrize(
    ("rate", "top"),
    [
        (0, LEAST),
        (1000, 1000),
        (1001, 2000),
        (2001, 5000),
        (5001, 10_000),
        (10_001, 20_000),
        (3e12, 5 * 10**12),
    ],
)
def test_the_top_is_a_round_number_above_all(rate: float, top: int) -> None:
    assert ceiling(rate) == top


def test_the_latest_rate_is_at_the_right_and_the_highest_at_the_top() -> None:
    *_, before, last = points([0.0, 500.0, 1000.0], 1000.0).split()
    assert last == f"{WIDTH:.1f},0.0"
    assert before == f"{WIDTH - WIDTH / (KEPT - 1):.1f},{HEIGHT / 2:.1f}"


def test_the_numbers_are_there_as_text() -> None:
    shown = chart([Rate(9e6, 0.0), Rate(1500.0, 10.0)])
    assert "Received: 1.5kB/s now, 9MB/s at most. Sent: 10B/s now, 10B/s at most." in shown
    assert "<polyline" in shown


def test_before_the_first_sample_there_is_no_drawing() -> None:
    assert "<svg" not in chart([])
