"""How counts are shown: short, and never wrong by more than the last of three digits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.stats import show_bytes

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0B"),
        (1, "1B"),
        (999, "999B"),
        (1000, "1kB"),
        (1001, "1kB"),
        (1500, "1.5kB"),
        (1234, "1.23kB"),
        (12_345, "12.3kB"),
        (999_499, "999kB"),
        (999_500, "1MB"),
        (10_000_000, "10MB"),
        (1_048_576, "1.05MB"),
        (2**30, "1.07GB"),
        (10**12, "1TB"),
        (10**15, "1PB"),
        (999 * 10**15, "999PB"),
    ],
)
def test_bytes_are_shown_in_decimal_units(count: int, shown: str) -> None:
    assert show_bytes(count) == shown


@given(st.integers(0, 999 * 10**15))
def test_what_is_shown_is_near_what_it_is(count: int) -> None:
    shown = show_bytes(count)
    match = re.fullmatch(r"(\d{1,3}|\d\.\d{1,2}|\d\d\.\d)([kMGTP]?B)", shown)
    assert match, shown
    assert abs(float(match[1]) * UNITS[match[2]] - count) <= count / 200
