"""The table of nodes and routes, and the choice of an owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.fleet import routes
from cotun_trio.fleet.choice import AVOIDED, MAX_HOPS, avoid, choose
from cotun_trio.fleet.leases import TTL
from cotun_trio.fleet.records import Route
from cotun_trio.fleet.routes import Table
from tests.support.fleet import node_facts

PLACE = "tcp/0.0.0.0:8080"


def route(session: int = 1, place: str = PLACE, group: str = "g") -> Route:
    return Route(place, session, "alice", group, session)


def table(**loads: int) -> Table:
    """Return a table of nodes with a route each."""
    made = Table()
    for name, load in loads.items():
        made.describe(node_facts(name, load=load))
        made.put(name, route())
    return made


def chosen(made: Table, now: float = 0.0, tried: tuple[tuple[str, int], ...] = ()) -> str | None:
    found = choose(made, PLACE, now, tried)
    return None if found is None else found[0].facts.id


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "forget", "replace"]),
        st.sampled_from("abc"),
        st.integers(1, 3),
        st.sampled_from(["p", "q"]),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(ACTIONS)
def test_the_index_by_place_agrees_with_the_routes_of_the_nodes(
    actions: list[tuple[str, str, int, str]],
) -> None:
    made, plain = Table(), {}  # type: ignore[var-annotated]
    for kind, node, session, place in actions:
        made.describe(node_facts(node))
        own = plain.setdefault(node, {})
        if kind == "put":
            made.put(node, route(session, place))
            own[place, session] = route(session, place)
        elif kind == "remove":
            assert made.remove(node, place, session) == ((place, session) in own)
            own.pop((place, session), None)
        elif kind == "forget":
            assert set(made.forget(node)) == {place for place, _ in own}
            own.clear()
        else:
            left = made.replace(node, 7, [route(session, place)])
            assert set(left) == {p for p, _ in own} - {place}
            plain[node] = {(place, session): route(session, place)}
    for place in "pq":
        found = {(known.facts.id, each.session) for known, each in made.owners(place)}
        assert found == {(n, s) for n, own in plain.items() for p, s in own if p == place}
    assert len(made) == len({place for own in plain.values() for place, _ in own})


def test_the_least_load_is_chosen() -> None:
    assert chosen(table(a=3, b=2, c=9)) == "b"


def test_visitors_count_as_load_until_their_node_speaks_again() -> None:
    made = table(a=10, b=12)
    assert [chosen(made) for _ in range(6)] == ["a", "a", "a", "b", "a", "b"]
    made.describe(node_facts("a", load=10))
    assert chosen(made) == "a"


def test_a_draining_node_is_chosen_last() -> None:
    made = table(a=0, b=99)
    made.describe(node_facts("a", draining=True))
    assert chosen(made) == "b"
    made.forget("b")
    assert chosen(made) == "a"


def test_one_other_owner_is_tried_and_not_a_third() -> None:
    made = table(a=1, b=2, c=3)
    assert chosen(made, tried=(("a", 1),)) == "b"
    assert chosen(made, tried=(("a", 1), ("b", 1))) is None
    assert chosen(made, tried=(("a", 2),)) == "a"  # an earlier session of the same client
    assert MAX_HOPS == 2


def test_a_node_that_was_not_reached_is_left_out_for_a_while() -> None:
    made = table(a=1, b=2)
    avoid(made, "a", 0.0)
    avoid(made, "unknown", 0.0)
    assert chosen(made, AVOIDED - 0.1) == "b"
    assert chosen(made, AVOIDED) == "a"


def test_nobody_is_chosen_for_a_place_without_an_owner() -> None:
    assert choose(table(), PLACE, 0.0) is None


def test_a_node_that_the_directory_does_not_know_has_a_lease_to_come_back() -> None:
    made = table(a=1, b=1)
    made.doubt(["b"], 5.0)
    made.doubt(["b"], 9.0)
    assert made.doubted(5.0 + TTL - 0.1) == []
    assert made.doubted(5.0 + TTL) == ["a"]
    made.describe(node_facts("a"))
    assert made.doubted(100.0) == []


def test_an_unknown_node_or_place_too_many_is_left_out(monkeypatch: object) -> None:
    made = table(a=1)
    nodes, places = routes.MAX_NODES, routes.MAX_PLACES
    try:
        routes.MAX_NODES, routes.MAX_PLACES = 1, 1
        assert made.describe(node_facts("b")) is None
        made.put("a", route(place="other"))
        assert len(made) == 1
        made.put("a", route(session=2))  # at a place that it has
        assert len(list(made.owners(PLACE))) == 2
    finally:
        routes.MAX_NODES, routes.MAX_PLACES = nodes, places
