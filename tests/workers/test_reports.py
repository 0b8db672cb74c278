"""A worker's answers and events for the admin interface of its supervisor."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.admin.watched import Own
from cotun_trio.counts import Meters
from cotun_trio.logs import get_logger
from cotun_trio.logs.events import KEPT, PER_SECOND, record_events
from cotun_trio.snapshot import EndedTotals, Figures, SessionFigures
from cotun_trio.workers import control, reports, values
from cotun_trio.workers.control_link import MAX_PARTS, ControlLink
from cotun_trio.workers.reports import PAUSE, Reports
from tests.support.log_watch import watch_logs
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SESSION = SessionFigures(
    number=1,
    peer="192.0.2.1",
    user="ü",
    version="x",
    remotes=tuple(f"R:127.0.0.1:{port}:db.example.com:{port}" for port in range(100)),
    seconds=1.5,
    channels=0,
    bytes_out=1,
    bytes_in=2,
    round_trip=0.25,
)


class Shown(Own):
    """A server with so many sessions."""

    role = "server"
    not_ready = None

    def __init__(self, sessions: int) -> None:
        super().__init__(EndedTotals(), lambda: ())
        self._sessions = sessions

    async def stats(self) -> tuple[Figures, Meters]:
        return Figures(sessions=self._sessions), Meters()

    async def sessions(self) -> Sequence[SessionFigures]:
        return [attrs.evolve(SESSION, number=number) for number in range(self._sessions)]

    async def kick(self, identity: str, reason: str) -> bool:
        if reason == "bug":
            raise ZeroDivisionError
        return identity == "1"


class Ends:
    """The supervisor's end of a link, and the reports at the other."""

    def __init__(self, link: ControlLink, reports: Reports) -> None:
        self.link = link
        self.reports = reports
        self.events: list[control.Happened] = []

    def hear(self, received: Any) -> None:
        assert isinstance(received.message, control.Happened)
        self.events.append(received.message)

    async def see(self, kind: Any, name: str, *arguments: str) -> Any:
        parts = await self.link.ask_for_all(control.Look(name, arguments), control.Seen)
        return values.unpack(kind, [item for part in parts for item in part.items])


@contextlib.asynccontextmanager
async def ends(sessions: int = 1) -> AsyncIterator[Ends]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(ControlLink(one)) as ours, contextlib.closing(ControlLink(two)) as its:
        async with background() as nursery:
            both = Ends(ours, Reports(Shown(sessions), its, get_logger("server")))

            def hear(received: Any) -> None:
                nursery.start_soon(both.reports.answer, received.message, received.number)

            for link, heard in ((ours, both.hear), (its, hear)):
                nursery.start_soon(link.run)
                nursery.start_soon(link.hear, heard)
            yield both


async def test_answers_have_their_types() -> None:
    async with ends() as both:
        assert await both.see(tuple[Figures, Meters], "stats") == (Figures(sessions=1), Meters())
        (session,) = await both.see(tuple[SessionFigures, ...], "sessions")
        assert session == attrs.evolve(SESSION, number=0)
        assert await both.see(tuple[bool], "kick", "1", "why") == (True,)
        assert await both.see(tuple[bool], "kick", "2", "why") == (False,)


@pytest.mark.slow
async def test_a_thousand_sessions_with_a_hundred_remotes_each_come_in_parts() -> None:
    async with ends(1000) as both:
        look = control.Look("sessions", ())
        parts = await both.link.ask_for_all(look, control.Seen)
        assert len(parts) > 10
        assert sum(len(json.dumps(part.items)) for part in parts) > 3 * 1024 * 1024
        found = [values.unpack(SessionFigures, item) for part in parts for item in part.items]
        assert [session.number for session in found] == list(range(1000))
        # Other questions have been answered in between, and are afterwards.
        assert await both.see(tuple[bool], "kick", "1", "why") == (True,)


async def test_more_parts_than_the_link_takes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PART", 1)
    async with ends(MAX_PARTS + 5) as both:
        found = await both.see(tuple[SessionFigures, ...], "sessions")
        assert [session.number for session in found] == list(range(MAX_PARTS))


@pytest.mark.parametrize("arguments", [("workers",), ("role",), ("kick",), ("kick", "1", "bug")])
async def test_an_error_of_ours_is_logged_and_not_answered(
    arguments: tuple[str, ...], autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, ends() as both:
        with trio.move_on_after(1) as scope:
            await both.see(object, *arguments)
        assert scope.cancelled_caught
        await log.wait_for("internal error, an administrator gets no answer")
        assert await both.see(tuple[bool], "kick", "1", "why") == (True,)


async def test_events_are_reported_soon_and_a_flood_of_them_now_and_then(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with ends() as both, background() as nursery:
        nursery.start_soon(both.reports.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        began = trio.current_time()
        events = record_events()
        events.add("closed", "server", {"session": 7, "peer": "192.0.2.1:1"})
        await trio.testing.wait_all_tasks_blocked(0.01)
        (event,) = both.events
        assert (event.kind, event.facts) == ("closed", {"session": "7", "peer": "192.0.2.1:1"})
        assert trio.current_time() == began
        for number in range(KEPT + 500):
            events.add("refused", "server", {"client": f"192.0.{number // PER_SECOND}.1:1"})
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(both.events) == 1
        await trio.sleep(PAUSE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(both.events) == 1 + KEPT
        assert both.events[-1].facts["client"] == "192.0.149.1:1"


async def test_nothing_is_reported_where_nobody_asked_for_events() -> None:
    async with ends() as both:
        both.reports.report_events()
        assert await both.see(tuple[bool], "kick", "1", "why") == (True,)
        assert both.events == []
