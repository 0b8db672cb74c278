"""Limits on the log lines that a peer causes: fifty lines a second, and then a number."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio import budget
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.logs import Limits, get_logger
from cotun_trio.logs.limits import DEBUG_LINES, LINES, TRACEBACK
from cotun_trio.settings import Timings
from cotun_trio.ssh import messages
from tests.support.log_watch import restored_logging, watch_logs
from tests.support.peer import MAX_PACKET, WINDOW, peer_of, scripted_server, upgrade_request
from tests.support.sockets import until
from tests.support.targets import (
    background,
    connect,
    receive_all,
    refused_address,
    split_address,
)
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.log_watch import LogWatch
    from tests.support.peer import Peer

FLOOD = 120


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the process's logging alone."""
    with restored_logging():
        yield


def left_out(log: LogWatch, source: str) -> list[int]:
    """Return the numbers that were told of a source."""
    form = f"^([0-9]+) more lines about {source} were left out in one second$"
    return [int(match[1]) for match in log.find(form)]


# ---- by themselves


async def test_above_its_rate_a_source_is_a_number(still_clock: trio.testing.MockClock) -> None:
    log = get_logger("server")
    async with watch_logs() as watch, background() as nursery:
        limits = Limits(log)
        nursery.start_soon(limits.run)
        noisy = log.within(peer="x").limited(limits.of("192.0.2.1"))
        for number in range(FLOOD):
            noisy.within(session=number).info("hello")  # another session changes nothing
        log.limited(limits.of("192.0.2.2")).info("from elsewhere")
        for number in range(FLOOD):
            log.info("of ourselves %d", number)
        assert len(watch.find("hello$")) == LINES
        assert len(watch.find("^from elsewhere$")) == 1
        assert len(watch.find("^of ourselves")) == FLOOD
        assert left_out(watch, "192.0.2.1") == []
        await trio.testing.wait_all_tasks_blocked()
        still_clock.jump(0.999)
        await trio.testing.wait_all_tasks_blocked()
        assert left_out(watch, "192.0.2.1") == []
        still_clock.jump(0.001)  # nothing more is said, and yet
        await trio.testing.wait_all_tasks_blocked()
        assert left_out(watch, "192.0.2.1") == [FLOOD - LINES]
        noisy.info("hello again")
        assert watch.lines()[-1] == "peer=x: hello again"
        for _ in range(FLOOD):
            noisy.info("hello")
        still_clock.jump(60)
        await trio.testing.wait_all_tasks_blocked()
        assert left_out(watch, "192.0.2.1") == [FLOOD - LINES, FLOOD - LINES + 1]
    assert {record.levelno for record in watch.records if "left out" in record.getMessage()} == {
        logging.WARNING
    }


async def test_the_number_comes_before_the_next_second_where_nobody_was_awake_to_tell_it(
    still_clock: trio.testing.MockClock,
) -> None:
    async with watch_logs() as watch:
        log = get_logger("server")
        noisy = log.limited(Limits(log).of("x"))
        for _ in range(FLOOD):
            noisy.info("hello")
        still_clock.jump(1)
        noisy.info("next")
    assert watch.lines()[LINES:] == [
        f"{FLOOD - LINES} more lines about x were left out in one second",
        "next",
    ]


async def test_at_the_end_the_number_is_told_too(still_clock: trio.testing.MockClock) -> None:
    async with watch_logs() as watch:
        log = get_logger("server")
        limits = Limits(log)
        async with background() as nursery:
            nursery.start_soon(limits.run)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(FLOOD):
                log.limited(limits.of("x")).info("hello")
        assert left_out(watch, "x") == [FLOOD - LINES]


async def test_debug_lines_have_an_allowance_of_their_own(
    still_clock: trio.testing.MockClock,
) -> None:
    async with watch_logs() as watch:
        log = get_logger("server")
        limits = Limits(log)
        noisy = log.limited(limits.of("x"))
        for _ in range(DEBUG_LINES + 7):
            noisy.debug("detail")
        for _ in range(LINES + 5):
            noisy.warning("warning")  # not what is grave, or a peer would choose what is grave
        async with background() as nursery:
            nursery.start_soon(limits.run)
        assert watch.lines(level=logging.DEBUG) == [
            *["detail"] * DEBUG_LINES,
            *["warning"] * LINES,
            "5 more lines about x were left out in one second",
            "7 more lines about x were left out in one second",
        ]


async def test_what_is_not_shown_counts_for_nothing(still_clock: trio.testing.MockClock) -> None:
    class Untouched(Limits):
        def admits(self, source: str, level: int, lines: int) -> bool:
            raise AssertionError

    log = get_logger("server")
    async with watch_logs() as watch:
        logging.getLogger("cotun").setLevel(logging.INFO)
        log.limited(Untouched(log).of("x")).debug("detail")
    assert not watch.records


async def test_a_traceback_is_many_lines(still_clock: trio.testing.MockClock) -> None:
    async with watch_logs() as watch:
        log = get_logger("server")
        noisy = log.limited(Limits(log).of("x"))
        for _ in range(100):
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                noisy.debug("what happened", exc_info=True)
    assert len(watch.records) == DEBUG_LINES // TRACEBACK


async def test_a_subject_can_have_a_limit_of_its_own(still_clock: trio.testing.MockClock) -> None:
    async with watch_logs() as watch:
        log = get_logger("server")
        assert log.apart("logins") is log  # it has no limit at all
        limits = Limits(log)
        noisy = log.limited(limits.of("x"))
        for _ in range(FLOOD):
            noisy.info("hello")
        for _ in range(FLOOD):
            noisy.apart("logins").info("login")
        async with background() as nursery:
            nursery.start_soon(limits.run)
        assert len(watch.find("^login$")) == LINES
        assert left_out(watch, "logins of x") == [FLOOD - LINES]


# ---- at a server


@pytest.fixture
def endless_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers waste as much as they like: it is the log that is to be flooded here."""
    monkeypatch.setattr(budget, "BURST", 2**60)


async def refused_often(peer: Peer) -> None:
    """Ask for channels that are refused, with a line each."""
    for number in range(FLOOD):
        await peer.send(messages.channel_open(b"chisel", number, WINDOW, MAX_PACKET, b"socks"))
    for _ in range(FLOOD):
        await peer.receive_type(messages.CHANNEL_OPEN_FAILURE)


async def test_a_client_that_provokes_lines_is_a_number_in_the_servers_log(
    still_clock: trio.testing.MockClock,
    endless_allowance: None,
) -> None:
    async with running_server() as server, watch_logs() as log:
        address = server.addresses[0]
        for _ in range(3):  # to come back does not help
            async with peer_of(address, "open") as peer:
                await refused_often(peer)
        await until(lambda: not server.reception.sessions)
        assert len(log.find("peer=127.0.0.1:", "server")) == LINES
        await stranger(address, "127.0.0.2")
        await log.wait_for("peer=127.0.0.2:.* ignored an upgrade", "server")
        still_clock.jump(1)
        await log.wait_for("about 127.0.0.1 were left out", "server")
        # Of each session, one line that it is open, and one that it is closed.
        assert left_out(log, "127.0.0.1") == [3 * (FLOOD + 2) - LINES]


async def stranger(address: str, source: str) -> None:
    """Ask a server from `source` for something that it has a line for."""
    host, port = split_address(address)
    async with await trio.open_tcp_stream(host, port, local_address=source) as stream:
        await stream.send_all(upgrade_request(sec_websocket_protocol="other"))
        await receive_all(stream)


async def test_clients_of_a_trusted_proxy_have_a_limit_each(
    still_clock: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        running_server(trusted_proxies=(ip_network("127.0.0.0/8"),)) as server,
    ):

        async def come_and_go(client: str) -> None:
            async with await connect(server.addresses[0]) as stream:
                await stream.send_all(upgrade_request(**{"X-Forwarded-For": client}))
                await stream.receive_some()

        for _ in range(LINES + 10):
            await come_and_go("192.0.2.1")
        await come_and_go("192.0.2.2")
        await until(lambda: not server.reception.sessions)
        assert len(log.find("client=192.0.2.1 .*closed", "server")) == LINES
        assert len(log.find("client=192.0.2.2 .*closed", "server")) == 1
    assert left_out(log, "192.0.2.1") == [10]


# ---- at a client


async def test_a_server_that_provokes_lines_is_a_number_in_the_clients_log(
    still_clock: trio.testing.MockClock,
    endless_allowance: None,
) -> None:
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        await refused_often(peer)
        done.set()
        await peer.gone()

    async with watch_logs() as log, scripted_server(script, generate_host_key()) as address:
        async with running_client(address, protocol="chisel") as client:
            await client.opened()
            await done.wait()
            # "Fingerprint" and "Connected" are the first two.
            assert len(log.find("refused: ", "client")) == LINES - 2
        assert left_out(log, f"http://{address}") == [FLOOD - LINES + 2]


async def test_who_comes_to_a_client_without_a_tunnel_is_a_number_in_its_log(
    still_clock: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        running_client(
            refused_address(), "127.0.0.1:0:127.0.0.1:9", timings=Timings(ssh_wait=0.0)
        ) as client,
    ):
        for _ in range(LINES + 10):
            async with await connect(client.addresses[0]) as stream:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
        assert len(log.find("no tunnel for ", "client")) == LINES
    assert left_out(log, "local connections") == [10]
