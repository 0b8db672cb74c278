"""Durations in the grammar of Go's ``time.ParseDuration``, sizes, and how both are shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import UsageError
from cotun_trio.units import LONGEST, format_duration, parse_duration, show_bytes

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        ("7µs", 7e-6),  # U+00B5, the micro sign
        ("7μs", 7e-6),  # U+03BC, the Greek letter
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("30m30m", 3600),  # Go wants no order and no units only once
        ("1s1h", 3601),
        ("005s", 5),
        ("87600h", LONGEST),
    ],
)
def test_reads_what_go_reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "00", "s", ".s", ".", "5 s", " 5s", "5s ", "5s\n", "5S", "5d", "5sec", "1,5s"),
        *("1e3s", "0x5s", "5s1", "5_0s", "\u0665s", "\uff15s", "inf", "nan", "1..5s", "1h-5m"),
        # Go takes signs; no duration here can be negative, and a plus is a slip.
        *("-5s", "+5s", "-0"),
        *("87601h", "9" * 400 + "h"),
    ],
)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (1e-10, "0s"),
        (5e-9, "5ns"),
        (1.5e-6, "1.5µs"),
        (0.00123, "1.23ms"),
        (0.0123456, "12.3ms"),
        (0.3, "300ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (61.25, "1m1.25s"),
        (120, "2m0s"),
        (5400, "1h30m0s"),
        (LONGEST, "87600h0m0s"),
    ],
)
def test_prints_as_go_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (999.9e-9, "1µs"),
        (0.9996, "1s"),
        (59.9996, "1m0s"),
        (119.9999, "2m0s"),
        (3599.9999, "1h0m0s"),
    ],
)
def test_rounding_up_carries_into_the_next_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, LONGEST))
def test_a_duration_that_is_printed_can_be_read_back(seconds: float) -> None:
    rounding = max(0.5e-9, seconds * 0.005) if seconds < 1 else 0.0005
    assert parse_duration(format_duration(seconds)) == pytest.approx(
        seconds, rel=1e-9, abs=rounding
    )


@given(st.text() | st.text("0123456789.hmsuµn-+ "))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 <= seconds <= LONGEST


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
