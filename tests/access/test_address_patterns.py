"""Patterns that mean addresses and let names in: which are found, and what would be right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.access_list import AccessList
from cotun_trio.access.address_patterns import right_pattern
from cotun_trio.access.authfile import parse_authfile

LOOSE = [
    (r"^10\.0\.0\..*", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^10\.0\.0\..*$", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^10\.0\.0\.", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"10\.0\.0\.", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^10\.0\.0\..*:22$", r"^10\.0\.0\.[0-9]+:22$"),
    (r"^10\.0\.0\.[^:]+:22$", r"^10\.0\.0\.[0-9]+:22$"),
    (r"^10\.0\.0\.\S+:(80|443)$", r"^10\.0\.0\.[0-9]+:(80|443)$"),
    (r"^10\.0\.0\.\w+:22$", r"^10\.0\.0\.[0-9]+:22$"),
    (r"^10\..*:22$", r"^10\.[0-9]+\.[0-9]+\.[0-9]+:22$"),
    (r"^192\.168\..*", r"^192\.168\.[0-9]+\.[0-9]+:[0-9]+$"),
    (r"^10\.0\.0\.7", r"^10\.0\.0\.7:[0-9]+$"),
    (r"^10\.0\.0\.7.*:22$", r"^10\.0\.0\.[0-9]+:22$"),
    (r"^10.0.0.7:22$", r"^10\.0\.0\.7:22$"),
    (r"^10.0.0.*", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^(10|11)\.0\.0\..*:22$", r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+:22$"),
    (r"^10\.0\.0\.[0-9]+", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^10\.0\.0\.\d+.*:22$", r"^10\.0\.0\.[0-9]+:22$"),
    (r"^socks$|^10\.0\.0\..*", r"^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"socks:^10\.0\.0\..*", r"socks:^10\.0\.0\.[0-9]+:[0-9]+$"),
    (r"^R:127\.0\.0\..*", r"^R:127\.0\.0\.[0-9]+:[0-9]+$"),
]

RIGHT = [
    "",
    "*",
    ".*",
    "^socks$",
    r"^10\.0\.0\.[0-9]+:22$",
    r"^10\.0\.0\.[0-9]+:.*$",
    r"^10\.0\.0\.\d{1,3}:22$",
    r"^10\.0\.0\.(1|2|3):22$",
    r"^10\.0\.0\.[0-9.]+:22$",
    r"^R:0\.0\.0\.0:8080$",
    r"^(?:10|11)\.0\.0\.[0-9]{1,3}:(?:80|443)$",
    r"^db\.internal:5432$",
    r"^.*\.example\.com:443$",
    r"^[^:]+:443$",
    r"^[a-z0-9.-]+:443$",
    r"^10\.example\.com:22$",
    r"^10gbit\..*:22$",
    r"^\[2001:db8::[0-9a-f:]*\]:22$",
    r"^unix:/run/10\.0\.0\..*",
    r"^(?P<a>x)(?i)\Q10.0\E{2}[[:digit:]]+(",
]


@pytest.mark.parametrize(("pattern", "right"), LOOSE)
def test_a_pattern_for_addresses_that_lets_names_in_is_found(pattern: str, right: str) -> None:
    assert right_pattern(pattern) == right


@pytest.mark.parametrize("pattern", [right for _, right in LOOSE])
def test_the_pattern_that_is_said_to_be_right_is(pattern: str) -> None:
    assert right_pattern(pattern) is None
    AccessList([pattern])


@pytest.mark.parametrize("pattern", RIGHT)
def test_other_patterns_are_left_alone(pattern: str) -> None:
    assert right_pattern(pattern) is None


@given(st.text("^$\\\\AQE.()[]{}?*+|:1230a-dPRi<>,/", max_size=20))
def test_no_pattern_is_too_strange_to_be_looked_at(pattern: str) -> None:
    right = right_pattern(pattern)
    assert right is None or right_pattern(right) is None


def test_the_warning_names_the_place_and_the_right_pattern_once() -> None:
    file = {"a:b": [r"^10\.0\.0\..*"], "c:d": [r"^10\.0\.0\..*", r"^10\.0\.0\."]}
    warnings = parse_authfile(json.dumps(file).encode()).warnings
    assert [line.partition(",")[0] for line in warnings] == [
        "pattern 1 of the user 'a'",
        "pattern 2 of the user 'c'",
    ]
    assert "looks like addresses and lets names in" in warnings[0]
    assert "is not anchored" in warnings[1]
    for line in warnings:
        assert line.endswith(r"for addresses, write '^10\\.0\\.0\\.[0-9]+:[0-9]+$'")
