"""The stdio remote, as ``ssh -o ProxyCommand`` runs it: a process, its streams and its status."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.ends import listening_unix
from tests.support.faults import fault_proxy
from tests.support.programs import PATIENCE, ended_in_trio
from tests.support.sshd import SSH_MISSING, running_sshd
from tests.support.targets import (
    MiB,
    answer_after_eof,
    connect,
    echo,
    free_port,
    listening,
    pour,
    random_bytes,
    receive_all,
    receive_exactly,
    refused_address,
    reset,
    sha256,
)
from tests.support.tunnel import running_server, switchable_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.ends import Handler

pytestmark = pytest.mark.slow

CLIENT = (sys.executable, "-m", "cotun_trio", "client")


async def run(
    server: str, target: str, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a client with a stdio remote to its end; `stdin` is its input."""
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            [*CLIENT, "-v", server, f"stdio:{target}"],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **environment},
        )


@contextlib.asynccontextmanager
async def client(server: str, target: str) -> AsyncIterator[trio.Process]:
    """Run a client with a stdio remote, with pipes."""
    process = await trio.lowlevel.open_process(
        [*CLIENT, server, f"stdio:{target}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            await stream.aclose()


async def test_what_goes_in_comes_back_byte_for_byte_and_nothing_else_does() -> None:
    data = bytes(range(256)) + random_bytes(4 * MiB)
    async with listening(echo) as target, running_server() as server:
        done = await run(server.addresses[0], target, data)
    assert (done.returncode, len(done.stdout), sha256(done.stdout)) == (0, len(data), sha256(data))
    assert b"Connected" in done.stderr  # what it has to say, it says there


async def test_files_in_place_of_pipes_are_carried_whole(tmp_path: Path) -> None:
    data = random_bytes(4 * MiB)
    source, drain = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    async with listening(echo) as target, running_server() as server:
        with source.open("rb") as stdin, drain.open("wb") as stdout, trio.fail_after(PATIENCE):
            done = await trio.run_process(
                [*CLIENT, server.addresses[0], f"stdio:{target}"], stdin=stdin, stdout=stdout
            )
    assert done.returncode == 0
    assert sha256(drain.read_bytes()) == sha256(data)


async def test_a_reply_after_our_end_arrives_whole() -> None:
    question, reply = random_bytes(100_000), random_bytes(2 * MiB)
    async with listening(answer_after_eof(reply)) as target, running_server() as server:
        done = await run(server.addresses[0], target, question)
    assert done.returncode == 0
    assert done.stdout == sha256(question).encode() + reply


async def test_what_is_sent_after_the_targets_end_arrives_whole() -> None:
    arrived: list[bytes] = []

    async def target(stream: trio.SocketStream) -> None:
        await stream.send_eof()
        arrived.append(await receive_all(stream))

    data = random_bytes(2 * MiB)
    async with (
        listening(target) as address,
        running_server() as server,
        client(server.addresses[0], address) as process,
    ):
        assert process.stdin
        assert process.stdout
        assert await receive_all(process.stdout) == b""  # the end is told at once
        await process.stdin.send_all(data)
        await process.stdin.aclose()
        assert await process.wait() == 0
    assert arrived == [data]


async def test_it_ends_with_the_target_though_nobody_ends_the_input() -> None:
    async def target(stream: trio.SocketStream) -> None:
        await stream.send_all(await receive_exactly(stream, 5))

    async with (
        listening(target) as address,
        running_server() as server,
        client(server.addresses[0], address) as process,
    ):
        assert process.stdin
        assert process.stdout
        await process.stdin.send_all(b"hello")
        assert await receive_all(process.stdout) == b"hello"
        # A target that is gone takes nothing more, and the first writes find that out.
        with contextlib.suppress(trio.BrokenResourceError):
            await process.stdin.send_all(bytes(8 * MiB))
        assert await process.wait() == 0


async def test_a_unix_socket_can_be_the_target(tmp_path: Path) -> None:
    async with listening_unix(echo, tmp_path / "s") as target, running_server(unix=True) as server:
        done = await run(server.addresses[0], target, b"hello")
    assert (done.returncode, done.stdout) == (0, b"hello")


# ---- what goes wrong


async def test_a_target_that_refuses_is_a_failure_with_its_reason() -> None:
    address = refused_address()
    async with running_server() as server:
        done = await run(server.addresses[0], address)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Connection refused" in done.stderr


async def test_a_server_that_refuses_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    async with running_server() as server:
        done = await run(server.addresses[0], f"unix:{tmp_path}/s")
    assert (done.returncode, done.stdout) == (5, b"")
    assert b"Unix sockets are not enabled" in done.stderr


async def test_without_a_server_it_fails_after_the_time_to_wait() -> None:
    done = await run(refused_address(), "127.0.0.1:1", COTUN_SSH_WAIT="300ms")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no tunnel" in done.stderr


async def begin(stream: trio.SocketStream) -> None:
    await stream.send_all(b"begun")
    await trio.sleep_forever()


async def begin_and_end(stream: trio.SocketStream) -> None:
    await stream.send_all(b"begun")
    await stream.send_eof()
    await trio.sleep_forever()


@pytest.mark.parametrize("target", [begin, begin_and_end])
async def test_a_tunnel_that_is_lost_in_the_middle_is_a_failure(target: Handler) -> None:
    async with (
        listening(target) as address,
        running_server() as server,
        fault_proxy(server.addresses[0]) as proxy,
        client(proxy.address, address) as process,
    ):
        assert process.stdout
        assert await receive_exactly(process.stdout, 5) == b"begun"
        if target is begin_and_end:
            assert await receive_all(process.stdout) == b""
        proxy.cut()
        with trio.fail_after(PATIENCE):
            assert await receive_all(process.stdout) == b""
            assert await process.wait() == 1


async def test_a_target_that_resets_in_the_middle_is_a_failure() -> None:
    async def target(stream: trio.SocketStream) -> None:
        await stream.send_all(b"begun")
        await receive_exactly(stream, 1)
        reset(stream)

    async with (
        listening(target) as address,
        running_server() as server,
        client(server.addresses[0], address) as process,
    ):
        assert process.stdin
        assert process.stdout
        assert await receive_exactly(process.stdout, 5) == b"begun"
        await process.stdin.send_all(b"!")
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 1


async def test_a_server_that_is_stopped_in_the_middle_is_a_failure() -> None:
    async with (
        listening(begin) as address,
        switchable_server() as server,
        client(server.address, address) as process,
    ):
        assert process.stdout
        assert await receive_exactly(process.stdout, 5) == b"begun"
        await server.stop()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 1


async def test_it_is_over_when_a_signal_says_so_though_its_streams_are_open() -> None:
    async with (
        listening(pour(b"hello")) as address,
        running_server() as server,
        client(server.addresses[0], address) as process,
    ):
        assert process.stdout
        assert await receive_all(process.stdout) == b"hello"
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0


async def test_a_terminal_that_takes_nothing_does_not_hold_the_end_up() -> None:
    async def flood(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(64 * 1024))

    ours, terminal = os.openpty()
    try:
        async with listening(flood) as address, running_server() as server:
            process = await trio.lowlevel.open_process(
                [*CLIENT, server.addresses[0], f"stdio:{address}"],
                stdin=terminal,
                stdout=terminal,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "COTUN_SHUTDOWN_GRACE": "100ms"},
            )
            try:
                with trio.fail_after(PATIENCE):
                    await trio.lowlevel.wait_readable(ours)  # and nobody reads
                    process.send_signal(signal.SIGTERM)
                    assert await process.wait() == 0
            finally:
                process.kill()
                await process.wait()
    finally:
        os.close(ours)
        os.close(terminal)


# ---- ssh


@pytest.mark.interop
@pytest.mark.skipif(SSH_MISSING is not None, reason=str(SSH_MISSING))
async def test_ssh_reaches_a_real_sshd_by_proxycommand(tmp_path: Path) -> None:
    data = random_bytes(MiB)
    async with running_sshd(tmp_path) as (port, options), running_server() as server:
        proxy = " ".join([*CLIENT, server.addresses[0], "stdio:%h:%p"])
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                [
                    "ssh",
                    "-F/dev/null",
                    *options,
                    f"-oProxyCommand={proxy}",
                    f"-p{port}",
                    f"{getpass.getuser()}@127.0.0.1",
                    "sha256sum",
                ],
                stdin=data,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    assert done.stdout.decode() == f"{sha256(data)}  -\n", done.stderr.decode()
    assert done.returncode == 0


async def test_a_client_with_a_stdio_remote_has_its_other_remotes_meanwhile() -> None:
    port = free_port()
    async with listening(echo) as target, running_server() as server:
        process = await trio.lowlevel.open_process(
            [*CLIENT, server.addresses[0], f"stdio:{target}", f"127.0.0.1:{port}:{target}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin
        assert process.stdout
        async with ended_in_trio(process):
            await process.stdin.send_all(b"hello")
            assert await receive_exactly(process.stdout, 5) == b"hello"
            async with await connect(f"127.0.0.1:{port}") as stream:
                await stream.send_all(b"there")
                assert await receive_exactly(stream, 5) == b"there"
            await process.stdin.aclose()
            assert await process.wait() == 0
