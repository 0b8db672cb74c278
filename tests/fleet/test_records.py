"""Who yields to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.fleet.records import Route, yields

ROUTES = st.builds(
    Route,
    st.just("tcp/0.0.0.0:1"),
    st.integers(1, 3),
    st.sampled_from(["", "alice", "bob"]),
    st.sampled_from(["", "g", "h"]),
    st.integers(1, 3),
)


@given(one=ROUTES, other=ROUTES)
def test_of_two_owners_that_cannot_both_stay_exactly_one_yields(one: Route, other: Route) -> None:
    both_stay = one.group and (one.group, one.user) == (other.group, other.user)
    yielding = yields(one, "a", other, "b") + yields(other, "b", one, "a")
    assert yielding == (0 if both_stay else 1)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (("", 5), ("", 6), True),  # the later epoch has it
        (("", 6), ("", 5), False),
        (("", 5), ("", 5), True),  # the same one: the higher id, which is theirs
        (("g", 9), ("", 1), True),  # an exclusive owner was given it by the directory
        (("", 1), ("g", 9), False),
        (("g", 5), ("g", 6), False),
        (("g", 5), ("h", 6), False),  # a group is not driven away by a later one
        (("g", 6), ("h", 5), True),
    ],
)
def test_the_rank_decides(mine: tuple[str, int], theirs: tuple[str, int], expected: bool) -> None:
    ours, other = (Route("p", 1, "alice", group, epoch) for group, epoch in (mine, theirs))
    assert yields(ours, "a", other, "b") is expected
