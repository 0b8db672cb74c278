"""Events: kept in order, bounded, and no flood of one source pushes out the rest."""

from __future__ import annotations

import trio
import trio.testing

from cotun_trio.logs import get_logger
from cotun_trio.logs.events import KEPT, MAX_FACT, PER_SECOND, Events, record_events, recorded


def add(events: Events, number: int, kind: str = "refused") -> None:
    """Add an event of a source of its own."""
    events.add(kind, "server", {"peer": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1"})


async def test_the_latest_are_kept_with_numbers_without_a_gap() -> None:
    events = Events()
    assert events.after(0) == []
    for number in range(KEPT + 5):
        add(events, number)
    kept = events.after(0)
    assert [event.number for event in kept] == list(range(6, KEPT + 6))
    assert [event.number for event in events.after(KEPT + 3)] == [KEPT + 4, KEPT + 5]
    assert events.after(events.last) == events.after(events.last + 7) == []


async def test_a_flood_of_one_source_and_kind_takes_nothing_from_others() -> None:
    events = Events()
    for port in range(10 * PER_SECOND):  # from another port each time, as a new connection is
        events.add("refused", "server", {"peer": f"10.0.0.1:{port}"})
    # The second may change once while we are at it.
    assert PER_SECOND <= len(events.after(0)) <= 2 * PER_SECOND
    before = events.last
    events.add("opened", "server", {"peer": "10.0.0.1:5"})
    events.add("refused", "server", {"peer": "10.0.0.2:5"})
    assert [event.kind for event in events.after(before)] == ["opened", "refused"]


async def test_a_fact_has_an_end() -> None:
    events = Events()
    events.add("refused", "server", {"peer": "p", "reason": "x" * 1000})
    (event,) = events.after(0)
    assert event.facts["reason"] == "x" * MAX_FACT


async def test_a_reader_waits_for_news() -> None:
    events = Events()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.news)
        await trio.testing.wait_all_tasks_blocked()
        add(events, 1)


async def test_nothing_is_recorded_until_somebody_asks() -> None:
    log = get_logger("server").within(session=3)
    log.event("opened")
    assert recorded() is None
    events = record_events()
    assert events is record_events() is recorded()
    log.event("opened", user="alice")
    (event,) = events.after(0)
    assert (event.kind, event.role, event.facts) == (
        "opened",
        "server",
        {"session": "3", "user": "alice"},
    )


def test_outside_of_a_run_an_event_is_nothing() -> None:
    get_logger("server").event("opened")
