"""A server of several processes, as people run it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.programs import (
    PATIENCE,
    READY,
    WITH_CHISEL,
    chisel_client,
    our_client,
    our_server,
    ours,
)
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    pour,
    random_bytes,
    receive_all,
    receive_exactly,
    sha256,
    turned_away,
)
from tests.support.tunnel import running_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.programs import Program

pytestmark = pytest.mark.slow

TWO = ("--workers", "2")
SNAPSHOT = r" sessions .*, workers (.*)$"
OPEN = r"worker=(\d+) .*: open, client"


async def pids(server: Program) -> dict[int, int]:
    """Return the process of each worker, by its number."""
    before = len(server.find(SNAPSHOT))
    server.send_signal(signal.SIGUSR2)
    line = await server.wait_for(SNAPSHOT, times=before + 1)
    return {int(n): int(p) for n, p in re.findall(r"(\d+) \(process (\d+),", line[1])}


@contextlib.asynccontextmanager
async def two_clients(url: str, target: str) -> AsyncIterator[list[str]]:
    """Run two clients of ours; give where they listen."""
    async with (
        our_client(url, target=target) as (one, at_one),
        our_client(url, target=target) as (two, at_two),
    ):
        for client in (one, two):
            await client.wait_for("Connected")
        yield [at_one, at_two]


async def test_clients_are_shared_out_and_the_numbers_are_added_up() -> None:
    async with listening(echo) as target, our_server(*TWO) as (server, url):
        async with two_clients(url, target) as addresses:
            workers = {(await server.wait_for(OPEN, times=n))[1] for n in (1, 2)}
            assert workers == {"1", "2"}
            for address in addresses:
                async with await connect(address) as stream:
                    assert await echoes(stream)
            server.send_signal(signal.SIGUSR2)
            await server.wait_for(
                r"2 sessions \(2 so far\), .* of memory, "
                r"workers 1 \(process \d+, 1 sessions\), 2 \(process \d+, 1 sessions\)$"
            )
        assert await server.stop() == 0
        assert len(server.find("server: worker [12] has ended")) == 2
        assert not server.find("Traceback|WARNING")


async def test_a_worker_that_is_killed_is_replaced_while_another_stream_goes_on() -> None:
    async with (
        listening(echo) as target,
        our_server(*TWO) as (server, url),
        two_clients(url, target) as addresses,
        await connect(addresses[0]) as one,
        await connect(addresses[1]) as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
        first = int((await server.wait_for(OPEN))[1])
        victim = (await pids(server))[3 - first]
        os.kill(victim, signal.SIGKILL)
        await server.wait_for(rf"worker {3 - first} \(process {victim}\): was killed by SIGKILL")
        assert await echoes(one)
        # Its client has lost its connections, and gets to a worker that lives.
        await server.wait_for(OPEN, times=3)
        async with await connect(addresses[1]) as again:
            assert await echoes(again)
        assert set(await pids(server)) == {first, 3}
        assert await echoes(one)


@contextlib.asynccontextmanager
async def asked(url: str) -> AsyncIterator[trio.SocketStream]:
    """Ask for /health."""
    async with await connect(url.removeprefix("http://")) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        yield stream


async def answered(stream: trio.SocketStream) -> bool:
    """Return whether that is answered."""
    return (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")


async def answers(url: str, times: int) -> None:
    """Ask so often, one after the other, and see each answered."""
    for _ in range(times):
        async with asked(url) as stream:
            assert await answered(stream)


async def test_while_a_worker_is_stopped_each_connection_is_answered_by_the_other() -> None:
    async with (
        listening(echo) as target,
        our_server(*TWO) as (server, url),
        two_clients(url, target) as addresses,
        await connect(addresses[0]) as one,
        await connect(addresses[1]) as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
        stopped = (await pids(server))[1]
        os.kill(stopped, signal.SIGSTOP)
        await answers(url, 10)
        async with (
            our_client(url, target=target) as (client, local),
            await connect(local) as stream,
        ):
            await client.wait_for("Connected")
            assert await echoes(stream)
        os.kill(stopped, signal.SIGCONT)
        # Its streams go on, and it has missed nothing that was for it.
        assert await echoes(one)
        assert await echoes(two)
        await answers(url, 20)
        assert (await pids(server))[1] == stopped
        assert await server.stop() == 0
        assert not server.find("Traceback|WARNING")


async def test_while_all_workers_are_stopped_connections_wait_for_the_first_that_goes_on() -> None:
    async with our_server(*TWO) as (server, url), contextlib.AsyncExitStack() as stack:
        workers = await pids(server)
        for pid in workers.values():
            os.kill(pid, signal.SIGSTOP)
        waiting = [await stack.enter_async_context(asked(url)) for _ in range(10)]
        os.kill(workers[2], signal.SIGCONT)
        for stream in waiting:
            assert await answered(stream)
        os.kill(workers[1], signal.SIGCONT)
        await answers(url, 10)
        assert await pids(server) == workers


async def test_a_worker_that_is_killed_again_and_again_costs_no_other_connection() -> None:
    async with our_server(*TWO) as (server, url):
        victim = 1
        for times in range(1, 5):
            before = victim
            while (victim := max(processes := await pids(server))) <= before:
                pass  # its successor is not there yet
            os.kill(processes[victim], signal.SIGKILL)
            await server.wait_for("was killed by SIGKILL", times=times)
            await answers(url, 10)
        assert 1 in await pids(server)


async def test_a_reverse_port_comes_back_in_the_other_worker() -> None:
    remote = f"R:{LOOPBACK}:{(port := free_port())}"
    async with (
        listening(echo) as target,
        our_server(*TWO, "--reverse") as (server, url),
        ours("client", url, f"{remote}:{target}") as client,
    ):
        worker = (await server.wait_for(OPEN))[1]
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            assert await echoes(stream)
        os.kill((await pids(server))[int(worker)], signal.SIGKILL)
        other = await server.wait_for(OPEN, times=2)
        assert other[1] != worker
        await client.wait_for("Connected", times=2)
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            assert await echoes(stream)


async def test_to_clients_all_workers_are_one_server() -> None:
    async with (
        our_server(*TWO) as (server, url),
        running_client(url) as one,
        running_client(url) as two,
    ):
        nodes = {(await one.opened()).node, (await two.opened()).node}
        assert {(await server.wait_for(OPEN, times=n))[1] for n in (1, 2)} == {"1", "2"}
        assert len(nodes) == 1
        assert nodes != {""}


async def test_the_limit_on_connections_is_for_all_workers_together() -> None:
    async with (
        listening(echo) as target,
        our_server(*TWO, "--max-connections", "2") as (_, url),
        two_clients(url, target) as addresses,
        await connect(addresses[0]) as one,
        await connect(addresses[1]) as two,
    ):
        assert await echoes(one)
        assert await echoes(two)
        for address in addresses:
            assert await turned_away(address)
        assert await echoes(one)


async def test_a_transfer_in_flight_in_each_worker_is_finished_at_the_end() -> None:
    content = random_bytes(30 * MiB)
    async with (
        listening(pour(content)) as target,
        our_server(*TWO, env={"COTUN_SHUTDOWN_GRACE": "30s"}) as (server, url),
        two_clients(url, target) as addresses,
        await connect(addresses[0]) as one,
        await connect(addresses[1]) as two,
    ):
        begun = [await receive_exactly(stream, 1000) for stream in (one, two)]
        server.send_signal(signal.SIGTERM)
        await server.wait_for("worker=[12]: Shutting down", times=2)
        for beginning, stream in zip(begun, (one, two), strict=True):
            assert sha256(beginning + await receive_all(stream)) == sha256(content)
            await stream.send_eof()
        assert await server.wait() == 0


async def test_a_second_signal_does_not_wait() -> None:
    async with (
        listening(echo) as target,
        our_server(*TWO, env={"COTUN_SHUTDOWN_GRACE": "1h"}) as (server, url),
        our_client(url, target=target) as (_, local),
        await connect(local) as stream,
    ):
        assert await echoes(stream)
        processes = await pids(server)
        server.send_signal(signal.SIGINT)
        await server.wait_for("worker=1: Shutting down")
        assert await echoes(stream)
        assert await server.stop(signal.SIGINT) == 0
        assert not any(lives(pid) for pid in processes.values())


async def test_nothing_is_left_of_a_server_whose_first_process_is_killed() -> None:
    async with (
        listening(echo) as target,
        our_server(*TWO, env={"COTUN_SHUTDOWN_GRACE": "100ms"}) as (server, url),
        our_client(url, target=target) as (_, local),
        await connect(local) as stream,
    ):
        assert await echoes(stream)
        processes = [os.pidfd_open(pid) for pid in (await pids(server)).values()]
        server.send_signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            for process in processes:
                await trio.lowlevel.wait_readable(process)  # it has ended (pidfd_open(2))
                os.close(process)
        await server.wait_for("worker=[12]: Shutting down", times=2)


def lives(pid: int) -> bool:
    """Return whether a process still runs; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_all_workers_are_replaced_one_after_the_other() -> None:
    async with listening(echo) as target, our_server(*TWO) as (server, url):
        before = await pids(server)
        async with our_client(url, target=target) as (client, local):
            await client.wait_for("Connected")
            server.send_signal(signal.SIGUSR1)
            await server.wait_for("all workers are replaced")
            after = await pids(server)
            assert set(before) == {1, 2}
            assert set(after) == {3, 4}
            assert not any(lives(pid) for pid in before.values())
            async with await connect(local) as stream:
                assert await echoes(stream)
        assert await server.stop() == 0


async def test_a_worker_that_is_told_to_end_by_another_program_is_replaced_first() -> None:
    async with our_server(*TWO) as (server, _):
        os.kill((await pids(server))[1], signal.SIGTERM)
        await server.wait_for("worker 1 has ended")
        assert set(await pids(server)) == {2, 3}


async def test_users_are_read_again_in_all_workers(tmp_path: pytest.TempPathFactory) -> None:
    users = tmp_path / "users.json"  # type: ignore[operator]
    users.write_text(json.dumps({"alice:secret": [""]}))
    users.chmod(0o600)
    async with (
        listening(echo) as target,
        our_server(*TWO, "--authfile", str(users)) as (server, url),
        our_client(url, "--auth", "alice:secret", target=target),
        our_client(url, "--auth", "alice:secret", target=target),
    ):
        await server.wait_for(OPEN, times=2)
        users.write_text(json.dumps({"bob:hunter2": [""]}))
        server.send_signal(signal.SIGHUP)
        for number in (1, 2):
            await server.wait_for(rf"worker={number} .*the user 'alice' has been removed")
        assert not server.find("the user 'bob'")


@pytest.mark.parametrize("prefix", ["COTUN", "CHISEL"])
async def test_secrets_are_neither_arguments_nor_variables_of_a_worker(prefix: str) -> None:
    secrets = {"AUTH": "alice:wonderland", prefix + "_KEY": "looking-glass"}
    async with our_server(*TWO, env=secrets) as (server, _):
        for pid in (await pids(server)).values():
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
                    content = file.read()
                assert content
                assert b"wonderland" not in content
                assert b"looking-glass" not in content


async def test_a_worker_that_cannot_serve_ends_the_start() -> None:
    async with our_server() as (_, url):
        port = url.rpartition(":")[2]
        async with ours("server", "--host", LOOPBACK, "--port", port, *TWO) as second:
            assert await second.wait() == 1
            assert second.find("cotun-trio: cannot listen on")


@pytest.mark.parametrize("number", ["0", "-1", "257"])
async def test_there_is_at_least_one_worker_and_not_too_many(number: str) -> None:
    async with ours("server", "--workers", number) as server:
        assert await server.wait() == 2
        assert server.find("--workers is a number between 1 and 256")


async def test_certificates_from_an_authority_are_for_one_process() -> None:
    async with ours("server", "--tls-domain", "a.example.com", *TWO) as server:
        assert await server.wait() == 2
        assert server.find("--tls-domain answers .*leave out --workers")


async def test_health_is_answered_by_the_workers() -> None:
    async with our_server(*TWO, "--health-listen", "0") as (server, _):
        address = (await server.wait_for(r"Answering /health on http://(\S+)"))[1]
        for _ in range(4):
            async with await connect(address) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")


class TestWithChisel:
    pytestmark = WITH_CHISEL

    async def test_its_clients_are_served_by_both_workers(self) -> None:
        async with (
            listening(echo) as target,
            our_server(*TWO) as (server, url),
            chisel_client(url, target=target) as (one, at_one),
            chisel_client(url, target=target) as (two, at_two),
        ):
            for client in (one, two):
                await client.wait_for(READY[chisel_client])
            workers = {(await server.wait_for(OPEN, times=n))[1] for n in (1, 2)}
            assert workers == {"1", "2"}
            for address in (at_one, at_two):
                async with await connect(address) as stream:
                    assert await echoes(stream)
