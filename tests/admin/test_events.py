"""``/api/v1/events``: the form of the events, where readers begin, and what readers can cost."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.admin.events import KEEPALIVE, MAX_BATCH, RETRY
from cotun_trio.admin.interface import MAX_CONNECTIONS, MAX_READERS
from cotun_trio.admin.streaming import MAX_DROPPED, PATIENCE
from cotun_trio.logs.events import KEPT, record_events
from tests.support.admin import Blocks, ask, dial, reading, request
from tests.support.leaks import nothing_left
from tests.support.tunnel import running_client, running_server, switchable_server

if TYPE_CHECKING:
    from pathlib import Path

GREETING = f"retry: {RETRY * 1000:.0f}\nid: "


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


def note(number: int, role: str = "server", text: str = "") -> None:
    """Note an event of a source of its own."""
    peer = f"10.0.{number >> 8}.{number & 255}:1"
    record_events().add("refused", role, {"peer": peer, "reason": text})


def fields(block: str) -> dict[str, str]:
    """Return the fields of an event."""
    return {name: value for name, _, value in (line.partition(": ") for line in block.split("\n"))}


async def ids(blocks: Blocks, number: int) -> list[int]:
    """Return the numbers of the next events."""
    return [int(fields(await blocks.next())["id"]) for _ in range(number)]


async def test_a_session_comes_and_goes_while_somebody_reads(place: str) -> None:
    async with running_server(admin_listen=place) as server, reading(place) as blocks:
        assert await blocks.next() == f"{GREETING}0"
        async with running_client(server.addresses[0], "0:db.internal:5432"):
            opened = fields(await blocks.next())
        closed = fields(await blocks.next())
    assert list(opened) == ["id", "event", "data"]
    assert (opened["id"], opened["event"]) == ("1", "opened")
    event = json.loads(opened["data"])
    assert (event["number"], event["kind"], event["role"]) == (1, "opened", "server")
    assert event["facts"]["session"] == "1"
    assert event["facts"]["remotes"] == "0=>db.internal:5432"
    assert closed["event"] == "closed"
    assert int(json.loads(closed["data"])["facts"]["bytes_received"]) > 0


async def test_text_with_line_ends_stays_one_line(place: str) -> None:
    async with running_server(admin_listen=place), reading(place) as blocks:
        await blocks.next()
        note(1, text="a\r\nid: 7\n\nb\u2028c")
        event = fields(await blocks.next())
    assert event["id"] == "1"
    assert json.loads(event["data"])["facts"]["reason"] == "a\r\nid: 7\n\nb\u2028c"


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, [6]),
        ("?after=3", {}, [4, 6]),
        ("?after=0", {}, [1, 2, 3, 4, 6]),
        ("?last=2", {}, [3, 4, 6]),
        ("?last=0", {}, [6]),
        ("?last=99", {}, [1, 2, 3, 4, 6]),
        ("", {"Last_Event_ID": "3"}, [4, 6]),
        ("?after=1", {"Last_Event_ID": "3"}, [4, 6]),
        ("?last=3", {"Last_Event_ID": "5"}, [6]),
        # Of a process that was there before this one: all of them are new.
        ("", {"Last_Event_ID": "77"}, [1, 2, 3, 4, 6]),
    ],
)
async def test_a_reader_begins_where_it_wants_to(
    place: str, query: str, headers: dict[str, str], expected: list[int]
) -> None:
    async with running_server(admin_listen=place):
        for number in range(4):
            note(number)
        note(4, role="client")  # number 5, and not for readers at the server
        async with reading(place, query, **headers) as blocks:
            assert (await blocks.next()).startswith(GREETING)
            note(5)
            assert await ids(blocks, len(expected)) == expected


async def test_a_reader_that_has_had_nothing_yet_misses_nothing_between_two_connections(
    place: str,
) -> None:
    async with running_server(admin_listen=place):
        note(1)
        async with reading(place) as blocks:
            last = fields(await blocks.next())["id"]
        note(2)
        async with reading(place, Last_Event_ID=last) as blocks:
            await blocks.next()
            assert await ids(blocks, 1) == [2]


async def test_a_reader_far_behind_gets_all_that_is_kept(place: str) -> None:
    async with running_server(admin_listen=place):
        for number in range(KEPT + 10):
            note(number)
        async with reading(place, "?after=3") as blocks:
            await blocks.next()
            assert await ids(blocks, KEPT) == list(range(11, KEPT + 11))
    assert KEPT > 2 * MAX_BATCH  # so that there was more than one batch


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?after=x", {}), ("?last=-1", {}), ("?last=" + 20 * "9", {}), ("", {"Last_Event_ID": "é"})],
)
async def test_a_beginning_that_is_no_number_is_an_error(
    place: str, query: str, headers: dict[str, str]
) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, f"/api/v1/events{query}", **headers)
    assert answer.status == 400
    assert "wants a number" in answer.json["detail"]


@pytest.mark.parametrize(("query", "expected"), [("", [1, 2]), ("?last=1", [2]), ("?after=2", [])])
async def test_as_json_there_is_an_end(place: str, query: str, expected: list[int]) -> None:
    async with running_server(admin_listen=place):
        note(1)
        note(2)
        answer = await ask(place, f"/api/v1/events{query}", Accept="text/html, application/json")
    assert [event["number"] for event in answer.json] == expected


async def test_a_head_alone_ends(place: str) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, "/api/v1/events", method="HEAD")
    assert (answer.status, answer.body) == (200, "")
    assert answer.headers["content-type"] == "text/event-stream"


# ---- what readers can cost


async def test_silence_is_broken_before_a_proxy_gives_up(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with running_server(admin_listen=place), reading(place) as blocks:
        await blocks.next()
        before = trio.current_time()
        assert [await blocks.next(), await blocks.next()] == [":", ":"]
        assert 2 * KEEPALIVE <= trio.current_time() - before < 3 * KEEPALIVE


async def test_a_crowd_of_readers_leaves_the_interface_open(place: str) -> None:
    async with running_server(admin_listen=place), contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(reading(place)) for _ in range(MAX_READERS)]
        for _ in range(2 * MAX_CONNECTIONS):
            refused = await ask(place, "/api/v1/events")
            assert refused.status == 503
            assert refused.json["detail"] == f"there are {MAX_READERS} readers of events already"
        assert (await ask(place, "/ready")).status == 200
        for reader in readers:
            await reader.next()
        note(1)
        for reader in readers:
            assert await ids(reader, 1) == [1]


async def test_a_reader_that_leaves_makes_room_at_once(place: str) -> None:
    async with running_server(admin_listen=place), contextlib.AsyncExitStack() as stack:
        async with nothing_left(), contextlib.AsyncExitStack() as leaving:
            for _ in range(MAX_READERS):
                await leaving.enter_async_context(reading(place))
        for _ in range(MAX_READERS):
            await stack.enter_async_context(reading(place))


async def test_a_reader_that_takes_nothing_is_cut(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with running_server(admin_listen=place), nothing_left():
        async with await dial(place) as stream:
            for number in range(KEPT):
                note(number, text=300 * "x")
            await stream.send_all(request("/api/v1/events?after=0"))
            before = trio.current_time()
            await trio.sleep(PATIENCE + 1)
            blocks, found = Blocks(stream), []
            await blocks.next()
            while block := await blocks.next():
                found.append(block)
            assert trio.current_time() - before < 2 * PATIENCE
        assert 0 < len(found) < KEPT


async def test_a_reader_has_nothing_to_say(place: str) -> None:
    async with running_server(admin_listen=place), reading(place) as blocks:
        await blocks.next()
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(64):
                await blocks.stream.send_all(MAX_DROPPED // 16 * b"x")
        with contextlib.suppress(trio.BrokenResourceError):
            assert await blocks.next() == ""


async def test_the_end_of_the_server_is_the_end_of_its_readers(place: str) -> None:
    async with switchable_server(admin_listen=place) as switch, reading(place) as blocks:
        await blocks.next()
        await switch.stop()
        assert await blocks.next() == ""
