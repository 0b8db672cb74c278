"""The line that says what a process is doing."""

from __future__ import annotations

import json
import random
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.admin.answers import list_as_json
from cotun_trio.counts import MAX_USERS, OTHERS, UserTraffic
from cotun_trio.snapshot import (
    EndedTotals,
    Figures,
    figures,
    figures_in_turns,
    session_figures_in_turns,
    snapshot,
)
from tests.support.targets import MiB, exchange
from tests.support.tunnel import echo_tunnel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def test_what_sessions_have_carried_counts_while_they_live_and_afterwards() -> None:
    ended = EndedTotals()
    async with echo_tunnel() as both, await both.connect() as stream:
        await exchange(stream, bytes(MiB))
        (session,) = both.client.sessions
        line = snapshot(ended, [session])
        found = re.search(
            r"1 sessions \(1 so far\), [01] channels, (\S+)MB sent, (\S+)MB rec", line
        )
        assert found, line
        assert all(1 <= float(count) < 1.2 for count in found.groups())
        ended.add(session)
        after = snapshot(ended, [])
        assert f"0 sessions (1 so far), 0 channels, {found[1]}MB sent, {found[2]}MB" in after
    assert "tasks" in line


def test_figures_of_several_processes_add_up() -> None:
    one = Figures(sessions=1, ended=2, channels=3, bytes_out=4000, tasks=5, memory=6_000_000)
    two = Figures(sessions=1, bytes_in=7000, tasks=1, descriptors=8, memory=1_000_000)
    assert (one + two).show(90) == (
        "up 1m30s, 2 sessions (4 so far), 3 channels, 4kB sent, 7kB received, "
        "0 datagrams dropped, 6 tasks, 8 descriptors, 7MB of memory"
    )
    assert "memory" not in Figures().show(0)  # where the system does not say


def test_of_several_processes_the_limit_is_one_and_the_first_end_counts() -> None:
    one = Figures(max_connections=9, started=5.0, certificate_expires=30.0, max_descriptors=10)
    two = Figures(max_connections=9, started=4.0, max_descriptors=10, draining=1)
    both = one + two
    assert (both.max_connections, both.started, both.certificate_expires) == (9, 4.0, 30.0)
    assert (both.max_descriptors, both.draining) == (20, 1)
    assert (two + two).certificate_expires is None


def test_users_of_several_processes_add_up_by_name_and_their_number_has_a_bound() -> None:
    def some(*names: str) -> Figures:
        return Figures(users={name: UserTraffic(1, 2, 3) for name in names})

    assert (some("a", "b") + some("b", OTHERS)).users == {
        "a": UserTraffic(1, 2, 3),
        "b": UserTraffic(2, 4, 6),
        OTHERS: UserTraffic(1, 2, 3),
    }
    full = some(*map(str, range(MAX_USERS - 1)), OTHERS) + some("a", "b", "0")
    assert len(full.users) == MAX_USERS + 1
    assert full.users["a"] == UserTraffic(1, 2, 3)
    assert full.users["0"] == full.users[OTHERS] == UserTraffic(2, 4, 6)


class Session:
    """As much of a session as is counted."""

    was_open = True

    def __init__(self, user: str | None, count: int) -> None:
        self.user = user
        self.wire = SimpleNamespace(
            bytes_in=count, bytes_out=2 * count, carrier=SimpleNamespace(backlog=0)
        )
        self.connection = SimpleNamespace(channels={})


async def test_no_counter_of_a_user_goes_back_however_sessions_come_and_go() -> None:
    ended = EndedTotals(user_of=lambda session: session.user)
    present: list[Any] = []
    before: dict[str, int] = {}
    chance = random.Random(7)
    for turn in range(300):
        for _ in range(chance.randrange(4)):
            name = chance.choice([None, *map(str, range(2 * MAX_USERS))])
            present.insert(chance.randrange(len(present) + 1), Session(name, chance.randrange(99)))
        while len(present) > 50 or (present and not chance.randrange(3)):
            ended.add(present.pop(chance.randrange(len(present))))
        if turn % 3:
            continue
        found = figures(ended, present)
        now = {name: traffic.bytes_in for name, traffic in found.users.items()}
        assert all(now[name] >= count for name, count in before.items())
        assert sum(now.values()) == found.bytes_in
        assert sum(traffic.sessions for traffic in found.users.values()) == len(present)
        before = now
    assert len(before) == MAX_USERS + 1


# ---- the turns of others


async def steps_of(function: Callable[[], Awaitable[object]]) -> int:
    """Return in how many turns of this task something is done."""

    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += task is own

    own, steps = trio.lowlevel.current_task(), Steps()
    trio.lowlevel.add_instrument(steps)
    await function()
    trio.lowlevel.remove_instrument(steps)
    return steps.count


async def test_a_crowd_of_sessions_is_counted_in_turns() -> None:
    """A thousand sessions are work for milliseconds: others wait for a tenth of that."""
    ended = EndedTotals()
    async with echo_tunnel() as both:
        sessions = both.server.sessions * 1000
        assert await steps_of(lambda: figures_in_turns(ended, sessions)) == 11
        assert await steps_of(lambda: session_figures_in_turns(sessions)) == 10
        assert (await figures_in_turns(ended, sessions)).sessions == 1000
        assert len(await session_figures_in_turns(sessions)) == 1000
        items = [{"a": 1}] * 1000
        assert await steps_of(lambda: list_as_json(items)) == 10
        assert json.loads((await list_as_json(items)).body) == items
        assert (await list_as_json([])).body == b"[]\n"


async def test_a_session_that_ends_between_two_turns_is_counted_once() -> None:
    ended = EndedTotals()
    present: list[Any] = [Session(None, 1) for _ in range(1000)]

    async def end_some() -> None:
        for session in list(present[500:]):
            ended.add(session)
            present.remove(session)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_some)
        found = await figures_in_turns(ended, list(present))
    assert (found.bytes_in, found.sessions + found.ended) == (1000, 1000)
    assert (await figures_in_turns(ended, present)).bytes_in == 1000
