"""The places for connections to the admin interface: the eldest that says nothing makes room."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.admin import routes
from cotun_trio.admin.answers import text
from cotun_trio.admin.interface import MAX_CONNECTIONS
from cotun_trio.admin.places import Places
from tests.support.admin import ask, send
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, background, connect
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.admin.answers import Answer
    from cotun_trio.admin.places import Place


class Crowd:
    """Tasks that hold places until they lose them."""

    def __init__(self, nursery: trio.Nursery, most: int) -> None:
        self.places = Places(most)
        self.lost: list[int] = []
        self._nursery = nursery
        self._count = 0

    def come(self) -> Place | None:
        """Have another task hold a place, if there is one."""
        place = self.places.enter()
        if place is not None:
            self._nursery.start_soon(self._hold, place, self._count)
        self._count += 1
        return place

    async def _hold(self, place: Place, number: int) -> None:
        with place.hold():
            await trio.sleep_forever()
        self.lost.append(number)

    async def settle(self) -> list[int]:
        """Return the numbers of the tasks that have lost their places."""
        await trio.testing.wait_all_tasks_blocked()
        return sorted(self.lost)


async def test_the_eldest_makes_room_for_a_new_one() -> None:
    async with background() as nursery:
        crowd = Crowd(nursery, 2)
        for _ in range(4):
            assert crowd.come()
        assert await crowd.settle() == [0, 1]


async def test_a_request_that_was_let_in_keeps_its_place() -> None:
    async with background() as nursery:
        crowd = Crowd(nursery, 2)
        first, _ = crowd.come(), crowd.come()
        assert first
        first.let_in()
        assert crowd.come()
        assert await crowd.settle() == [1]


async def test_where_all_were_let_in_there_is_no_room_until_one_ends() -> None:
    async with background() as nursery:
        crowd = Crowd(nursery, 2)
        for _ in range(2):
            place = crowd.come()
            assert place
            place.let_in()
        assert crowd.come() is None
        place.give_up()
        assert await crowd.settle() == [1]
        assert crowd.come()


async def test_requests_that_were_let_in_are_answered_however_many_want_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    statuses: list[int] = []
    let_in: list[object] = []
    answered = trio.Event()

    async def answer(*about: object) -> Answer:
        let_in.append(about)
        await answered.wait()
        return text("OK")

    async def request() -> None:
        statuses.append((await ask(place, "/ready")).status)

    monkeypatch.setattr(routes, "answer", answer)
    async with running_server(admin_listen=place), trio.open_nursery() as nursery:
        for _ in range(MAX_CONNECTIONS):
            nursery.start_soon(request)
        while len(let_in) < MAX_CONNECTIONS:
            await trio.lowlevel.checkpoint()
        assert await send(place, b"") == b""
        answered.set()
    assert statuses == [200] * MAX_CONNECTIONS


@pytest.mark.parametrize(
    "head", [b"", b"GET /ready HTTP/1.1\r\nX: ", b"GET /ready HTTP/1.1\r\n\r\n"]
)
async def test_strangers_on_every_place_of_a_port_keep_nobody_out(
    tmp_path: Path, head: bytes
) -> None:
    """They say nothing, or begin a head, or stay when they have been refused."""
    token = tmp_path / "token"
    async with (
        watch_logs() as log,
        running_server(admin_listen=f"{LOOPBACK}:0", admin_token_file=str(token)),
    ):
        address = (await log.wait_for(r"Answering administrators on http://([^/]+)/"))[1]
        strangers = [await connect(address) for _ in range(MAX_CONNECTIONS)]
        for each in strangers:
            if head:
                await each.send_all(head)
        answer = await ask(address, "/ready", token=token.read_text().strip())
        assert answer.status == 200
        with contextlib.suppress(trio.BrokenResourceError):  # reset, where it was not read
            while await strangers[0].receive_some():
                pass
        for each in strangers:
            await each.aclose()
