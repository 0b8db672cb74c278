"""What goes to Redis and comes back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.fleet import entries, redis_codec
from cotun_trio.fleet.operations import Restate, Statement, Surveyed, Write
from cotun_trio.fleet.records import Holder, Rank, Route, Wish
from tests.support.fleet import node_facts

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**53)
ROUTES = st.builds(Route, TEXT, NUMBER, TEXT, TEXT, NUMBER)


def fields(pairs: list[Any]) -> dict[bytes, bytes]:
    """Return names and values as Redis has them."""
    words = [str(word).encode() for word in pairs]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.slow
@given(
    routes=st.lists(ROUTES, unique_by=lambda r: (r.place, r.session)),
    counts=st.dictionaries(TEXT, NUMBER),
)
def test_a_statement_comes_back_as_it_was_made(routes: list[Route], counts: dict[str, int]) -> None:
    made = redis_codec.restate(
        Restate("a", 7, tuple((route, "") for route in routes), counts, True, True)
    )
    stored = {each["f"]: each["v"] for each in json.loads(json.dumps(made))["routes"]}
    stored |= dict(made["counts"]) | {"#": "7"}
    found = redis_codec.statement({k.encode(): v.encode() for k, v in stored.items()})
    assert set(found.routes) == set(routes)
    assert found.counts == counts
    assert found.version == 7


@pytest.mark.slow
@given(
    route=ROUTES,
    node=st.text("abc~", min_size=1),
    mark=st.text("0a"),
)
def test_an_owner_comes_back_as_it_was_made(route: Route, node: str, mark: str) -> None:
    made = redis_codec.restate(Restate(node, 7, ((route, mark),), {}, True, True))
    found = redis_codec.load_holder(made["routes"][0]["h"])
    assert found == Holder(Rank(route.epoch, node), route.session, route.user, mark)


@given(wish=st.builds(Wish, TEXT, NUMBER, TEXT, TEXT, st.just("m1")))
def test_a_claim_has_the_field_that_its_release_has(wish: Wish) -> None:
    made = redis_codec.write(Write("a", 1, 0, ((wish, True),), (wish.key,)))
    assert made["claims"][0]["f"] == made["released"][0]["f"]
    assert made["claims"][0]["known"] is True


@pytest.mark.parametrize(
    "entry",
    [
        entries.Asked("b", "unix//a b", 7),
        entries.Kept("tcp/x:1", 7),
        entries.Barred("192.0.2.1", 60.0),
        entries.Lifted("192.0.2.1"),
    ],
)
def test_an_entry_comes_back_as_it_was_made(entry: entries.Entry) -> None:
    assert redis_codec.load_entry(fields(redis_codec.dump_entry(entry))) == entry


def test_a_change_has_what_is_opened_closed_and_counted() -> None:
    made = ["k", "changed", "n", "a", "v", "3", "r 1 unix//a b", '9 ["al ice", "g"]', "r 2 p", ""]
    found = redis_codec.load_entry(fields([*made, "c s x", "0", "c s y", "4"]))
    assert found == entries.Changed(
        "a", 3, (Route("unix//a b", 1, "al ice", "g", 9),), (("p", 2),), {"s x": 0, "s y": 4}
    )


def test_what_a_later_version_adds_is_left_out() -> None:
    found = redis_codec.load_entry(fields(["k", "whatever", "x", "1"]))
    assert type(found) is entries.Entry
    facts = attrs.asdict(node_facts("a")) | {"added": [1]}
    assert redis_codec.load_facts(json.dumps(facts)) == node_facts("a")


def test_a_statement_that_is_being_made_has_no_version() -> None:
    assert redis_codec.statement({b"#": b"~7"}) == Statement(-1)
    assert redis_codec.statement({}) == Statement(0)


def test_a_survey_is_read() -> None:
    facts = json.dumps(attrs.asdict(node_facts("a"))).encode()
    found = redis_codec.surveyed(
        [b"life", b"9", b"4", [facts, b"~3"], [b"192.0.2.1", b"1.500"], [b"alice", b"1700"]]
    )
    expected = Surveyed("life", 9, 4, ((node_facts("a"), -1),), {"192.0.2.1": 1.5}, {"alice": 1700})
    assert found == expected


@pytest.mark.parametrize("facts", ["1", "{", "[]", "{}", '{"id": 1}', "[" * 50])
def test_a_description_that_is_none_is_an_error(facts: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        redis_codec.load_facts(facts)


@pytest.mark.parametrize(
    "change", [{"load": "1"}, {"load": True}, {"draining": 1}, {"address": None}]
)
def test_a_description_has_the_right_types(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        redis_codec.load_facts(json.dumps(attrs.asdict(node_facts("a")) | change))


@pytest.mark.slow
@given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=12)))
def test_other_bytes_are_an_error_of_a_kind_that_is_expected(words: dict[bytes, bytes]) -> None:
    for read in (redis_codec.statement, redis_codec.load_entry):
        with contextlib.suppress(ValueError, LookupError, TypeError):
            read(words)
