"""Which connection tries which server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.client.open_sessions import OpenSessions
from cotun_trio.client.spread import MISSES, Spread
from cotun_trio.errors import SameServer
from cotun_trio.logs import get_logger
from cotun_trio.settings import Route, ServerUrl
from tests.support.log_watch import watch_logs

if TYPE_CHECKING:
    from cotun_trio.client.spread import Seeker

A, B, C = (Route(ServerUrl.parse(host)) for host in "abc")
ALL = (A, B, C)


def session(route: Route, *, node: str = "", address: str = "") -> Any:
    """Return an open session."""
    return SimpleNamespace(url=route.server, node=node, address=address)


class World:
    """A client that wants `wanted` connections."""

    def __init__(self, wanted: int) -> None:
        self.open = OpenSessions(wanted)
        self.spread = Spread(self.open, wanted, get_logger("client"))
        self.seekers = self.spread.seekers

    def opens(self, seeker: Seeker, route: Route, **about: str) -> Any:
        """A seeker gets a session."""
        assert self.spread.take(seeker, route)
        found = session(route, **about)
        self.open.begin(found)
        self.spread.found(seeker)
        return found


def test_places_where_no_other_connection_is_come_first_in_the_users_order() -> None:
    world = World(3)
    one, two, three = world.seekers
    assert world.spread.order(one, ALL) == [A, B, C]
    world.opens(one, A)
    world.spread.take(two, B)
    assert world.spread.order(three, ALL) == [C, A, B]
    assert world.spread.order(two, ALL) == [B, C, A]


def test_one_connection_at_a_time_tries_a_server_until_it_has_a_session() -> None:
    world = World(2)
    one, two = world.seekers
    assert world.spread.take(one, A)
    assert not world.spread.take(two, A)
    one.is_waiting = True
    assert not world.spread.take(two, A)
    world.spread.found(one)
    assert world.spread.take(two, A)


def test_one_that_has_just_lost_its_session_takes_the_place_of_one_that_waits() -> None:
    world = World(2)
    one, two = world.seekers
    world.spread.take(one, A)
    two.is_fresh = True
    assert not world.spread.take(two, A)  # while the other tries
    one.is_waiting = True
    assert world.spread.take(two, A)
    assert not world.spread.take(one, A)
    two.is_waiting = True
    assert not world.spread.take(one, A)  # or they would take turns without end


async def test_one_that_finds_nothing_to_try_waits_until_another_has_a_session(
    autojump: trio.testing.MockClock,
) -> None:
    world = World(2)
    one, two = world.seekers
    world.spread.take(one, A)
    two.is_fresh = True
    with trio.move_on_after(1000) as waiting:
        await world.spread.wait(two)
    assert waiting.cancelled_caught
    assert not two.is_fresh

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.spread.wait, two)
        await trio.testing.wait_all_tasks_blocked()
        world.opens(one, A)


def test_a_client_ends_when_all_that_try_have_given_up_and_none_has_a_session() -> None:
    world = World(3)
    one, two, three = world.seekers
    three.is_parked = True
    assert not world.spread.gives_up(one)
    assert world.spread.gives_up(two)
    found = world.opens(three, A)
    assert not world.spread.gives_up(two)
    world.open.end(found)
    assert not world.spread.gives_up(two)  # that one has not tried again


def test_addresses_are_taken_by_url() -> None:
    world = World(3)
    one, two, _ = world.seekers
    world.opens(one, A, address="192.0.2.1")
    world.opens(two, B, address="192.0.2.2")
    assert world.spread.taken_addresses(A) == {"192.0.2.1"}


def test_only_an_identity_tells_servers_at_one_address_apart() -> None:
    world = World(3)
    one, two, _ = world.seekers
    world.opens(one, A, address="192.0.2.1")
    world.opens(two, B, address="192.0.2.2", node="aa")
    with pytest.raises(SameServer):
        world.spread.check(A, "192.0.2.1")
    world.spread.check(A, "192.0.2.3")
    world.spread.check(B, "192.0.2.2")
    world.spread.check(C, "192.0.2.1")


async def test_too_few_servers_are_told_when_it_is_certain_and_when_it_has_changed() -> None:
    world = World(3)
    one, two, three = world.seekers

    def miss() -> None:
        for _ in range(MISSES):
            world.spread.missed(three)

    async with watch_logs() as log:
        world.opens(one, A)
        for _ in range(MISSES - 1):
            world.spread.missed(three)
        assert not log.lines("client")
        world.spread.missed(three)
        miss()
        assert log.lines("client") == [
            "3 connections wanted, but there is only 1 server: going on with 1"
        ]
        world.opens(two, B)
        miss()
        assert log.lines("client")[1:] == [
            "3 connections wanted, but there are only 2 servers: going on with 2"
        ]
