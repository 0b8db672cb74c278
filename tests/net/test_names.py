"""Looking names up: places, shares, and what happens where nobody answers."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import Shortage
from cotun_trio.net import names
from cotun_trio.net.names import (
    MAX_ADDRESSES,
    MAX_WAITING,
    OWN_PLACES,
    PER_SHARE,
    PLACES,
    look_up,
    share_of,
)
from tests.support.names import address_of, know, silence
from tests.support.sockets import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.net.names import Share


@pytest.fixture(autouse=True)
def many_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all places, whatever this machine's limit of descriptors is."""
    monkeypatch.setattr(names, "soft_limit", lambda: None)


# ---- places and shares, without a thread


async def fill(*shares: Share) -> int:
    """Take as many places as there are for these, in turn; return how many."""
    count = 0
    with trio.CancelScope() as scope:
        scope.cancel()  # what would have to wait fails
        more = True
        while more:
            more = False
            for share in shares:
                with trio.move_on_after(0):
                    await share.acquire_on_behalf_of(None)
                    count, more = count + 1, True
    return count


async def test_a_session_has_so_many_places() -> None:
    assert await fill(share_of("ann")) == PER_SHARE


async def test_the_sessions_of_one_owner_have_half_of_all_places() -> None:
    assert await fill(*[share_of("ann") for _ in range(100)]) == PLACES // 2


async def test_two_owners_have_a_third_each() -> None:
    sessions = [share_of(owner) for _ in range(100) for owner in ("ann", "bob")]
    assert await fill(*sessions) == 2 * PLACES // 3 + 1
    running = {share.group.running for share in sessions}
    assert max(running) - min(running) <= 1


async def test_a_session_with_none_running_finds_a_place_beside_many_that_hang() -> None:
    hanging = [share_of("ann") for _ in range(20)]
    await fill(*hanging)
    assert await fill(share_of("bob")) == PER_SHARE


async def test_a_session_finds_a_place_beside_another_one_of_the_same_owner_that_hangs() -> None:
    await fill(share_of("ann"))
    assert await fill(share_of("ann")) == PER_SHARE


async def test_a_hundred_owners_that_hang_leave_a_place_for_the_next_one() -> None:
    hanging = [share_of(number) for number in range(100)]
    await fill(*hanging)
    assert await fill(share_of("bob")) >= 1


async def test_the_quota_of_an_owner_is_as_its_sessions_come_and_go() -> None:
    first = share_of("ann")
    await fill(first)
    group = first.group
    del first
    assert share_of("ann").group is group  # as long as anybody knows it
    group.running = 0


class Lookups:
    """Look-ups that wait for places, and what has come of them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.started: list[object] = []

    async def add(self, share: Share, name: object, count: int = 1) -> None:
        """Begin with some look-ups, in this order."""
        for _ in range(count):
            self.nursery.start_soon(self._acquire, share, name)
            await trio.testing.wait_all_tasks_blocked()

    async def _acquire(self, share: Share, name: object) -> None:
        await share.acquire_on_behalf_of(None)
        self.started.append(name)


async def test_those_that_wait_have_a_place_in_turn_owner_by_owner_and_session_by_session() -> None:
    async with trio.open_nursery() as nursery:
        lookups = Lookups(nursery)
        one, two = share_of("ann"), share_of("ann")
        other = share_of("bob")
        everybody = [one, two, other]
        hanging = [share_of(number) for number in range(200)]
        assert await fill(*hanging) == PLACES
        for share in everybody:
            await lookups.add(share, everybody.index(share), 3)
        assert lookups.started == []
        for share in hanging[:9]:
            share.release_on_behalf_of(None)
            await trio.testing.wait_all_tasks_blocked()
        # As long as few places are free, some stay so for owners that have none running.
        assert lookups.started == [0, 2, 1, 2, 0]
        for share in hanging[9:PLACES]:
            share.release_on_behalf_of(None)
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(map(str, lookups.started)) == sorted("000111222")


async def test_the_first_to_wait_in_a_session_is_the_first_to_start() -> None:
    async with trio.open_nursery() as nursery:
        lookups, share = Lookups(nursery), share_of("ann")
        await fill(share)
        for name in range(5):
            await lookups.add(share, name)
        for _ in range(5):
            share.release_on_behalf_of(None)
            await trio.testing.wait_all_tasks_blocked()
        assert lookups.started == [0, 1, 2, 3, 4]


async def test_so_many_wait_in_a_session_and_one_more_is_refused() -> None:
    async with trio.open_nursery() as nursery:
        lookups, share = Lookups(nursery), share_of("ann")
        await fill(share)
        for _ in range(MAX_WAITING):
            nursery.start_soon(lookups._acquire, share, "waits")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Shortage, match="too many names are being looked up"):
            await share.acquire_on_behalf_of(None)
        share.release_on_behalf_of(None)
        await trio.testing.wait_all_tasks_blocked()
        assert lookups.started == ["waits"]
        nursery.start_soon(lookups._acquire, share, "waits")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_is_cancelled_while_it_waits_takes_no_place_and_stands_in_nobodys_way() -> None:
    async with trio.open_nursery() as nursery:
        lookups, share = Lookups(nursery), share_of("ann")
        await fill(share)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as given_up:
                given_up.start_soon(share.acquire_on_behalf_of, None)
                await trio.testing.wait_all_tasks_blocked()
                await lookups.add(share, "patient")
                scope.cancel()
        share.release_on_behalf_of(None)
        await trio.testing.wait_all_tasks_blocked()
        assert lookups.started == ["patient"]
        for _ in range(PER_SHARE):
            share.release_on_behalf_of(None)
    assert (share.running, share.group.running, len(share.group.waiting)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("limit", "places"), [(None, 128), (20_000, 128), (1024, 128), (512, 64), (64, 8), (8, 2)]
)
def test_the_sockets_of_the_resolver_fit_into_half_of_the_reserve(
    limit: int | None, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "soft_limit", lambda: limit)
    assert names.count_places() == places


# ---- in threads


async def test_a_name_has_the_addresses_that_the_system_says() -> None:
    found = await look_up("localhost", share=share_of("ann"))
    assert set(found) & {address_of("127.0.0.1"), address_of("::1")}


async def test_each_address_is_there_once_and_in_the_order_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, several=["192.0.2.1", "::1", "192.0.2.1", "192.0.2.2"])
    assert await look_up("several") == list(map(address_of, ("192.0.2.1", "::1", "192.0.2.2")))


async def test_of_very_many_addresses_the_first_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"192.0.{number // 256}.{number % 256}" for number in range(4000)]
    know(monkeypatch, many=many)
    assert await look_up("many") == list(map(address_of, many[:MAX_ADDRESSES]))


@pytest.mark.parametrize(
    ("host", "address"), [("127.1", "127.0.0.1"), ("0x7f.1", "127.0.0.1"), ("::1", "::1")]
)
async def test_digits_in_any_spelling_take_no_place(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = know(monkeypatch)
    share = share_of("ann")
    await fill(share)
    assert await look_up(host, share=share) == [address_of(address)]
    assert asked == []


async def test_an_address_keeps_its_zone() -> None:
    index = socket.if_nametoindex("lo")
    assert (await look_up("fe80::1%lo"))[0][1] in ("fe80::1%lo", f"fe80::1%{index}")


@pytest.mark.parametrize("host", ["\0", "127.0.0.1\0", "a\0b", "a..b", "\ud800", "ü" * 300])
async def test_what_cannot_be_a_name_is_not_asked_for(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = know(monkeypatch)
    with pytest.raises(OSError, match="not a name that can be looked up") as caught:
        await look_up(host)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert asked == []


async def test_a_name_beyond_ascii_is_asked_for_as_idna_2008_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = know(monkeypatch, **{"xn--strae-oqa.example": ["192.0.2.1"]})
    assert await look_up("Straße.example") == [address_of("192.0.2.1")]
    assert asked == ["xn--strae-oqa.example"]


async def test_where_no_thread_can_be_started_the_look_up_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot_start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    share = share_of("ann")
    with monkeypatch.context() as patch, pytest.raises(Shortage, match="can't start new thread"):
        patch.setattr("trio._threads.start_thread_soon", cannot_start)
        await look_up("name", share=share)
    assert share.running == 0


async def given_up(count: int, new_share: Callable[[], Share | None]) -> None:
    """Give `count` look-ups up that nobody answers; their threads go on."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(lambda: look_up("silent.example", share=new_share()))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_look_up_that_was_given_up_keeps_its_place_until_its_thread_is_back() -> None:
    with silence() as resolver:
        share = share_of("ann")
        await given_up(PER_SHARE, lambda: share)
        await until(lambda: len(resolver.asked) == PER_SHARE)
        assert await fill(share) == 0
        resolver.end_one()
        await until(lambda: share.running < PER_SHARE)
        assert await fill(share) == 1


async def test_two_hundred_names_that_nobody_answers_hold_no_other_session_up() -> None:
    with silence(good=["192.0.2.1"]) as resolver:
        share = share_of("ann")
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(lambda n=number: look_up(f"{n}.silent", share=share))
            await until(lambda: len(resolver.asked) == PER_SHARE)
            for other in (share_of("ann"), share_of("bob"), None):
                assert await look_up("good", share=other) == [address_of("192.0.2.1")]
            assert len(resolver.asked) == PER_SHARE
            # And what else needs threads has all that there are.
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            nursery.cancel_scope.cancel()


async def test_what_peers_look_up_takes_no_place_from_the_program_itself() -> None:
    with silence() as resolver:
        await given_up(PLACES + 10, lambda: share_of(object()))
        await until(lambda: len(resolver.asked) == PLACES)
        await given_up(OWN_PLACES, lambda: None)
        await until(lambda: len(resolver.asked) >= PLACES + OWN_PLACES)
        assert len(resolver.asked) == PLACES + OWN_PLACES


async def test_what_the_program_itself_looks_up_is_limited_too() -> None:
    with silence() as resolver:
        await given_up(OWN_PLACES + 5, lambda: None)
        await until(lambda: len(resolver.asked) == OWN_PLACES)
        await trio.testing.wait_all_tasks_blocked()
        assert len(resolver.asked) == OWN_PLACES
