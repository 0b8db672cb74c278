"""Programs as users run them: ours by its command line, and the Go original ``chisel``."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, AnyStr

import pytest
import trio

from scripts.peers import DAEMONS
from tests.support.peers import CHISEL_MISSING
from tests.support.targets import LOOPBACK, background, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

PATIENCE = 20.0
"""Seconds for a program to say what is waited for: many times what it takes, on a busy machine."""
_OURS = re.compile("HOST|PORT|AUTH|COTUN_.*|CHISEL_.*")


_OFTEN_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def unignore_signals() -> None:
    """Have programs that are started from here on not ignore a signal that this process ignores.

    A shell starts a program in the background of a script with SIGINT and SIGQUIT ignored, nohup
    with SIGHUP, and a child inherits that.  A handler is not inherited: the child has the default.
    So this process goes on taking no notice of them, by a handler that does nothing.
    """
    for number in _OFTEN_IGNORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _take_no_notice)


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """Handle a signal."""


@contextlib.contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Give a process; when left, also by a failure, it is killed if it lives, and its pipes closed.

    It is for tests without Trio.
    """
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def ended_in_trio(process: trio.Process) -> AsyncIterator[trio.Process]:
    """Do the same for a process of Trio's."""
    try:
        yield process
    finally:
        process.kill()  # before anything that a cancelled test cannot wait for
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


@functools.cache
def find_chisel() -> str | None:
    """Return the path of the Go original: ``$CHISEL``, or what PATH has."""
    return os.environ.get("CHISEL") or shutil.which("chisel")


WITH_CHISEL = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.skipif(find_chisel() is None, reason=CHISEL_MISSING),
]
"""Marks of a test that talks to the Go original."""


class Program:
    """A process and what it says, on both of its streams, line by line."""

    def __init__(self, command: Sequence[str], process: trio.Process) -> None:
        self.command = command
        self.lines: list[str] = []
        self._process = process
        self._news = trio.Event()
        self._ended = False

    async def listen(self) -> None:
        """Collect what it says, up to the end."""
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            self._add(*lines)
        self._ended = True
        self._add(*([rest] if rest else []))

    def _add(self, *lines: bytes) -> None:
        self.lines += [line.decode(errors="backslashreplace").rstrip("\r") for line in lines]
        news, self._news = self._news, trio.Event()
        news.set()

    def find(self, pattern: str, *, skip: int = 0) -> list[re.Match[str]]:
        """Return the matches of `pattern` in all lines but the first `skip`."""
        return [found for line in self.lines[skip:] if (found := re.search(pattern, line))]

    async def wait_for(self, pattern: str, *, times: int = 1, skip: int = 0) -> re.Match[str]:
        """Return the match of the `times`-th line with `pattern`, now or when it comes.

        Fails where the program ends before, or takes longer than `PATIENCE`.
        """
        with trio.move_on_after(PATIENCE):
            while True:
                if len(found := self.find(pattern, skip=skip)) >= times:
                    return found[times - 1]
                if self._ended:
                    break
                await self._news.wait()
        said = "\n".join(self.lines)
        raise AssertionError(f"{pattern!r} did not come {times} times from {self.command}:\n{said}")

    async def wait(self, patience: float = PATIENCE) -> int:
        """Return the exit status when it has ended and all that it said has been read."""
        with trio.fail_after(patience):
            while not self._ended:
                await self._news.wait()
            return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, and return its exit status."""
        self.send_signal(number)
        return await self.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and all that it said has been read."""
        return self._ended

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid


@contextlib.asynccontextmanager
async def running(
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Program]:
    """Run a program; it is killed at the end if it still lives.

    Its environment has none of the variables that change what it does, but those in `env`.
    """
    environment = {k: v for k, v in os.environ.items() if not _OURS.fullmatch(k)}
    path = f"{os.environ.get('PATH', os.defpath)}:{DAEMONS}"
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment, "PATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
        cwd=cwd,
        pass_fds=pass_fds,
    )
    program = Program(command, process)
    async with ended_in_trio(process), background() as nursery:
        nursery.start_soon(program.listen)
        yield program


def ours(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> contextlib.AbstractAsyncContextManager[Program]:
    """Run ``cotun-trio`` with `arguments`."""
    return running(sys.executable, "-m", "cotun_trio", *arguments, env=env, cwd=cwd)


def chisel(
    *arguments: str, env: Mapping[str, str] | None = None
) -> contextlib.AbstractAsyncContextManager[Program]:
    """Run ``chisel`` with `arguments`."""
    program = find_chisel()
    assert program is not None
    return running(program, *arguments, env=env)


async def url_of(server: Program) -> str:
    """Return where a server of ours listens, when it does."""
    return (await server.wait_for(r"Listening on (https?://\S+)"))[1]


@contextlib.asynccontextmanager
async def our_server(
    *arguments: str, port: int = 0, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Program, str]]:
    """Run a server of ours on the loopback interface; give it and its URL."""
    async with ours(
        "server", "--host", LOOPBACK, "--port", str(port), *arguments, env=env
    ) as program:
        yield program, await url_of(program)


@contextlib.asynccontextmanager
async def our_client(
    url: str, *arguments: str, target: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Program, str]]:
    """Run a client of ours with a remote to `target`; give it and where it listens."""
    remote = f"{LOOPBACK}:0:{target}"
    async with ours("client", *arguments, url, remote, env=env) as program:
        yield program, (await program.wait_for(r"Listening on (\S+) for"))[1]


@contextlib.asynccontextmanager
async def chisel_server(
    *arguments: str, port: int | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Program, str]]:
    """Run a chisel server on the loopback interface; give it and its URL."""
    port = port or free_port()
    async with chisel(
        "server", "--host", LOOPBACK, "--port", str(port), *arguments, env=env
    ) as program:
        await program.wait_for("Listening on")
        yield program, f"http://{LOOPBACK}:{port}"


@contextlib.asynccontextmanager
async def chisel_client(
    url: str, *arguments: str, target: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Program, str]]:
    """Run a chisel client with a remote to `target`; give it and where it listens.

    It is told to be verbose: what it calls ``Connected`` is not yet ready for a connection, and
    ``SSH connected`` is.
    """
    local = f"{LOOPBACK}:{free_port()}"
    async with chisel("client", "-v", *arguments, url, f"{local}:{target}", env=env) as program:
        yield program, local


READY = {chisel_client: "client: tun: SSH connected", our_client: r"Connected \(Latency "}
"""What a client says when a connection can go through."""
