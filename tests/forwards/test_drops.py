"""Datagrams that had to be dropped: counted, and told once a minute for each remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from cotun_trio.forwards.drops import Drops, dropped_so_far
from cotun_trio.forwards.per_minute import BURST, INTERVAL
from cotun_trio.logs import get_logger
from tests.support.ends import udp_socket
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.sockets import until
from tests.support.targets import LOOPBACK, refused_address, split_address
from tests.support.tunnel import running_client, tunnel

if TYPE_CHECKING:
    import pytest

LINE = r"dropped (\d+) datagrams: (.*)"


async def test_the_first_line_has_the_burst_and_then_there_is_one_a_minute(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, trio.open_nursery() as nursery:
        drops = Drops(get_logger("test"), nursery.start_soon)
        for _ in range(5):
            drops.add("a")
        drops.add("b", 2)
        await trio.sleep(BURST * 2)
        assert log.lines() == ["dropped 7 datagrams: a (5), b (2)"]
        for _ in range(10):
            drops.add("a")
            await trio.sleep(INTERVAL / 20)
        assert len(log.lines()) == 1
        await trio.sleep(INTERVAL)
        assert log.lines()[1:] == ["dropped 10 datagrams: a (10)"]
        await trio.sleep(3 * INTERVAL)
        assert len(log.lines()) == 2
        drops.add("c")
        await trio.sleep(BURST * 2)
        assert log.lines()[2:] == ["dropped 1 datagrams: c (1)"]
        assert dropped_so_far() == 18


async def test_the_last_ones_are_told_at_the_end() -> None:
    async with watch_logs() as log:
        async with trio.open_nursery() as nursery:
            drops = Drops(get_logger("test"), nursery.start_soon)
            drops.add("a")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert log.lines() == ["dropped 1 datagrams: a (1)"]
        drops.add("b")  # when the nursery is closed
        assert dropped_so_far() == 2


async def test_what_comes_while_there_is_no_tunnel_is_counted_and_told() -> None:
    async with (
        watch_logs() as log,
        running_client(refused_address(), f"{LOOPBACK}:0:192.0.2.1:53/udp") as client,
        udp_socket() as (source, _),
    ):
        for _ in range(3):
            await source.sendto(b"x", split_address(client.addresses[0]))
        await until(lambda: dropped_so_far() == 3)
        found = await log.wait_for(LINE, "client")
        assert found.groups() == ("3", "there is no tunnel (3)")
        assert "remote=" in found.string
        client.log_snapshot()
        assert log.find("3 datagrams dropped", "client")


async def test_an_exit_that_cannot_reach_its_target_counts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch)  # nothing
    async with (
        watch_logs() as log,
        tunnel(remotes=(f"{LOOPBACK}:0:no-such:53/udp",)) as both,
        udp_socket() as (source, _),
    ):
        await source.sendto(b"x", split_address(both.client.addresses[0]))
        found = await log.wait_for(LINE, "server")
        assert found.groups() == ("1", "their target cannot be reached (1)")
