"""A client ends with the program or the terminal that it works for."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.system.hang_up import has_bytes, has_hung_up, wait_hung_up
from tests.support.programs import PATIENCE
from tests.support.sshd import SSH_MISSING, running_sshd
from tests.support.targets import echo, listening, refused_address
from tests.support.tunnel import running_server, switchable_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

CLIENT = (sys.executable, "-m", "cotun_trio", "client")


# ---- descriptors


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe; what is left of them is closed."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


async def notices(descriptor: int, hang_up: Callable[[], object]) -> None:
    """Assert that a hang-up of `descriptor` is noticed, and nothing before it."""
    woken = trio.Event()

    async def wait() -> None:
        await wait_hung_up(descriptor)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not woken.is_set()
        assert not has_hung_up(descriptor)
        hang_up()
        await woken.wait()
    assert has_hung_up(descriptor)


async def test_the_writing_end_of_a_pipe_hangs_up_with_its_reader() -> None:
    with pipe() as (reading, writing):
        os.write(writing, b"unread")
        await notices(writing, lambda: os.close(reading))


async def test_the_reading_end_of_a_pipe_hangs_up_with_its_writer_though_there_are_bytes() -> None:
    with pipe() as (reading, writing):
        assert not has_bytes(reading)
        os.write(writing, b"unread")
        await notices(reading, lambda: os.close(writing))
        assert has_bytes(reading)


async def test_a_socket_hangs_up_when_both_directions_have_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)  # it may still read
        await notices(ours.fileno(), theirs.close)


async def test_a_terminal_hangs_up() -> None:
    ours, terminal = os.openpty()
    try:
        await notices(terminal, lambda: os.close(ours))
    finally:
        os.close(terminal)


@pytest.mark.parametrize("what", ["a file", "/dev/null"])
async def test_a_file_never_hangs_up(what: str, tmp_path: Path) -> None:
    path = tmp_path / "file" if what == "a file" else what
    with open(path, "wb") as file:  # noqa: PTH123
        assert not has_hung_up(file.fileno())
        assert not has_bytes(file.fileno())
        with trio.move_on_after(0.01) as waiting:
            await wait_hung_up(file.fileno())
    assert waiting.cancelled_caught


async def test_a_descriptor_that_was_replaced_meanwhile_does_not_count() -> None:
    with pipe() as (reading, writing), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        kept = os.dup(writing)  # so that the pipe is still there
        try:
            with trio.move_on_after(0.05) as waiting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait_hung_up, writing)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    os.dup2(nowhere.fileno(), writing)
                    os.close(reading)
            assert waiting.cancelled_caught
        finally:
            os.close(kept)


# ---- stdio clients


class Stdio:
    """A stdio client with pipes, and its words."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said = b""

    async def wait_said(self, words: bytes) -> None:
        """Wait until it has said these words."""
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE):
            while words not in self.said:
                more = await self.process.stderr.receive_some()
                assert more, self.said
                self.said += more

    async def close(self, *names: str) -> None:
        """Close our ends of these streams."""
        for name in names:
            await getattr(self.process, name).aclose()

    async def status(self) -> int:
        """Return its exit status when it has ended."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def stdio_client(server: str, target: str, *options: str) -> AsyncIterator[Stdio]:
    """Run one that says all that it does."""
    process = await trio.lowlevel.open_process(
        [*CLIENT, "-v", *options, server, f"stdio:{target}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Stdio(process)
    finally:
        process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            await stream.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("closed", [("stdin", "stdout"), ("stdout",)], ids=str)
async def test_without_a_tunnel_it_ends_when_nobody_is_there_any_more(
    closed: tuple[str, ...],
) -> None:
    async with stdio_client(refused_address(), "127.0.0.1:22") as client:
        await client.wait_said(b"Retrying in ")
        await client.close(*closed)
        assert await client.status() == 0


@pytest.mark.slow
async def test_without_a_tunnel_and_with_nothing_to_send_it_does_not_wait_for_one() -> None:
    async with stdio_client(refused_address(), "127.0.0.1:22") as client:
        await client.wait_said(b"Retrying in ")
        await client.close("stdin")
        await client.wait_said(b"no tunnel for stdio=>22: standard input has ended")
        assert await client.status() == 1


@pytest.mark.slow
async def test_without_a_tunnel_it_waits_for_one_as_long_as_there_is_something_to_send() -> None:
    async with listening(echo) as target, switchable_server() as server:
        await server.stop()
        async with stdio_client(server.address, target, "--max-retry-interval", "100ms") as client:
            assert client.process.stdin
            assert client.process.stdout
            await client.process.stdin.send_all(b"question")
            await client.close("stdin")
            await client.wait_said(b"Attempt: 3")
            await server.start()
            with trio.fail_after(PATIENCE):
                answer = b""
                while data := await client.process.stdout.receive_some():
                    answer += data
            assert answer == b"question"
            assert await client.status() == 0


@pytest.mark.slow
async def test_with_a_silent_tunnel_it_ends_when_its_reader_has_gone() -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        stdio_client(server.addresses[0], target) as client,
    ):
        await client.wait_said(b"Connected")
        await client.close("stdout")
        assert await client.status() == 0


@pytest.mark.slow
@pytest.mark.parametrize("tunnel", [True, False])
async def test_a_hangup_signal_is_its_end(tunnel: bool) -> None:
    async with listening(echo) as target, running_server() as server:
        address = server.addresses[0] if tunnel else refused_address()
        async with stdio_client(address, target) as client:
            await client.wait_said(b"Connected" if tunnel else b"Retrying in ")
            client.process.send_signal(signal.SIGHUP)
            assert await client.status() == 0


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.skipif(SSH_MISSING is not None, reason=str(SSH_MISSING))
@pytest.mark.parametrize("tunnel", [True, False])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_does_not_outlive_its_ssh(
    tunnel: bool, number: signal.Signals, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    async with running_sshd(tmp_path) as (port, options), running_server() as server:
        address = server.addresses[0] if tunnel else refused_address()
        command = " ".join([*CLIENT, f"--pid={pid_file}", address, "stdio:%h:%p"])
        ssh = await trio.lowlevel.open_process(
            [
                *("ssh", "-F/dev/null", *options, f"-oProxyCommand={command}", f"-p{port}"),
                *(f"{getpass.getuser()}@127.0.0.1", "echo there; sleep 1000"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            with trio.fail_after(PATIENCE):
                if tunnel:
                    assert ssh.stdout is not None
                    assert await ssh.stdout.receive_some() == b"there\n"
                while not (pid_file.exists() and pid_file.read_text()):
                    await trio.sleep(0.02)
                helper = int(pid_file.read_text())
                ssh.send_signal(number)
                await ssh.wait()
                while is_running(helper):
                    await trio.sleep(0.02)
        finally:
            ssh.kill()
            await ssh.wait()
    assert not pid_file.exists()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- a terminal

LAUNCH = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@contextlib.asynccontextmanager
async def client_in_a_terminal(how: str) -> AsyncIterator[tuple[trio.Process, int]]:
    """Run a client of no server as the leader of a session; give our end of its terminal, too."""
    ours, terminal = os.openpty()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", LAUNCH, how, *CLIENT[1:], refused_address(), "127.0.0.1:0:a:1"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        said = b""
        with trio.fail_after(PATIENCE):
            while b"Retrying in " not in said:
                await trio.lowlevel.wait_readable(ours)
                said += os.read(ours, 4096)
        yield process, ours
    finally:
        process.kill()
        await process.wait()
        with contextlib.suppress(OSError):
            os.close(ours)


@pytest.mark.slow
async def test_a_client_ends_with_its_terminal() -> None:
    async with client_in_a_terminal("foreground") as (process, ours):
        process.send_signal(signal.SIGHUP)  # the terminal is there: it tries again, and goes on
        with trio.fail_after(PATIENCE):
            said = b""
            while b"Retrying in " not in said:
                await trio.lowlevel.wait_readable(ours)
                said += os.read(ours, 4096)
        os.close(ours)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0


@pytest.mark.slow
async def test_a_client_under_nohup_outlives_its_terminal() -> None:
    async with client_in_a_terminal("nohup") as (process, ours):
        os.close(ours)
        with trio.move_on_after(0.5):
            await process.wait()
        assert process.poll() is None
