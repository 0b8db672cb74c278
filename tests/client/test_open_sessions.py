"""The choice of a session for a new connection."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from cotun_trio.client.open_sessions import TURN, OpenSessions


class FakeSession:
    """A session that carries so many connections."""

    url = "http://a"

    def __init__(self, count: int, node: str) -> None:
        self.flows = SimpleNamespace(count=count)
        self.node = node


def session(count: int = 0, node: str = "") -> Any:
    """Return one."""
    return FakeSession(count, node)


def open_sessions(*sessions: Any) -> OpenSessions:
    """Return these sessions as open ones."""
    found = OpenSessions(len(sessions))
    for each in sessions:
        found.begin(each)
    return found


def test_a_connection_goes_to_the_session_that_carries_the_fewest() -> None:
    few, many = session(1), session(2)
    assert open_sessions(many, few, session(3)).choose() is few


def test_where_they_carry_the_same_each_has_its_turn() -> None:
    one, two, three = session(), session(), session()
    found = open_sessions(one, two, three)
    assert [found.choose() for _ in range(6)] == [one, two, three] * 2


def test_what_has_ended_is_not_chosen() -> None:
    one, two = session(), session(5)
    found = open_sessions(one, two)
    assert found.end(one)
    assert found.choose() is two
    assert found.end(two)
    assert not found.end(two)
    assert found.choose() is None


def test_datagrams_stay_with_their_session_as_long_as_it_is_open() -> None:
    one, two = session(), session()
    found = open_sessions(one, two)
    choose = found.steady_choice()
    first = choose()
    assert [choose() for _ in range(5)] == [first] * 5
    found.end(first)
    assert choose() is (two if first is one else one)
    found.end(two)
    found.end(one)
    assert choose() is None


def test_it_says_how_many_there_are() -> None:
    assert str(open_sessions(session())) == "Connected to http://a"
    found = OpenSessions(3)
    found.begin(session())
    assert str(found) == "Connected to 1 of 3 servers"


async def test_the_servers_of_others_are_known_to_the_one_that_asks_next(
    autojump: trio.testing.MockClock,
) -> None:
    found = open_sessions(session(node="aa"), session())
    known: list[tuple[str, ...]] = []

    async def ask(node: str) -> None:
        async with found.asking() as nodes:
            known.append(nodes)
            await trio.sleep(TURN / 2)
            found.begin(session(node=node))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "bb")
        nursery.start_soon(ask, "cc")
    assert [len(nodes) for nodes in known] == [1, 2]


async def test_a_server_that_does_not_answer_keeps_others_waiting_for_a_moment_only(
    autojump: trio.testing.MockClock,
) -> None:
    found = OpenSessions(2)

    async def never(task_status: trio.TaskStatus[None]) -> None:
        async with found.asking():
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(never)
        async with found.asking() as nodes:
            assert nodes == ()
        assert trio.current_time() == TURN
        nursery.cancel_scope.cancel()
    async with found.asking():  # and it is free again
        assert trio.current_time() == TURN
