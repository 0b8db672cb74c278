"""The line that says what a process is doing."""

from __future__ import annotations

import re

from cotun_trio.snapshot import EndedTotals, Figures, snapshot
from tests.support.targets import MiB, exchange
from tests.support.tunnel import echo_tunnel


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
