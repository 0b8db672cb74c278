"""Processes, our own children and the programs at a tunnel's ends: how they start and end, and
what they take."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

LOOPBACK = "127.0.0.1"
PATIENCE = 20.0
"""Seconds for a program to start, or for a byte to come through a tunnel: many times the usual."""
PAUSE = 0.001
"""Seconds between two looks whether a program is there."""
PAGE = os.sysconf("SC_PAGE_SIZE")
_OURS = re.compile("HOST|PORT|AUTH|COTUN_.*|CHISEL_.*")


class BenchError(Exception):
    """Something cannot be measured; the text says why."""


class Program:
    """A running program, with all that it starts.

    What it says goes to the file `log`; where it is `unread`, to a pipe that nobody reads.
    """

    def __init__(self, command: Sequence[str], log: Path, *, unread: bool = False) -> None:
        self.command = command
        self._log = log
        self._unread: int | None = None
        with contextlib.ExitStack() as stack:
            output: int | IO[bytes]
            if unread:
                log.touch()
                self._unread, output = os.pipe()
                stack.callback(os.close, output)
            else:
                output = stack.enter_context(log.open("wb"))
            # Of the terminal's Ctrl-C it hears nothing: it ends when we end it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={k: v for k, v in os.environ.items() if not _OURS.fullmatch(k)},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise `BenchError` where it has ended."""
        if (status := self._process.poll()) is not None:
            said = self._log.read_text(errors="backslashreplace")[-2000:].strip()
            raise BenchError(f"{self.command[0]} has ended with status {status}: {said}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Have it end by itself.  Raises `BenchError` where that takes over `PATIENCE`."""
        self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.command[0]} does not end after {PATIENCE:.0f} s") from None

    def kill(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._unread is not None:
            os.close(self._unread)
            self._unread = None

    def family(self) -> list[int]:
        """Return its process id, and those of its descendants: sshd has one for each session."""
        parents = {int(path.name): parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        family = [self.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, *, unread: bool = False) -> Iterator[Program]:
    """Run a program, and end it afterwards.  Raises `BenchError` where it cannot be started."""
    try:
        program = Program(command, log, unread=unread)
    except OSError as error:
        raise BenchError(f"{command[0]}: {error.strerror}") from None
    try:
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def child(function: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run a function in a process, until left; it gets the pipe's other end, and `arguments`."""
    context = multiprocessing.get_context("fork")  # there are no threads here
    here, there = context.Pipe()
    process = context.Process(target=be_child, args=(function, there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.kill()
        process.join()


def be_child(function: Callable[..., None], *arguments: object) -> None:
    """Run `function`, and leave Ctrl-C and termination to the parent, which ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function(*arguments)


def parent_of(process: Path) -> int:
    """Return the parent's id of a process, 0 where it has gone."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have taken, all threads, in user and kernel mode.

    By each process's own clock (clock_getcpuclockid(3), whose numbers Linux makes like this):
    /proc/PID/stat has the same, rounded to 10 ms.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory (RSS) of processes; what two of them share counts twice."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and below those that the kernel gives to outgoing connections."""
    ports: list[int] = []
    for port in random.sample(range(12_000, 32_000), 20_000):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind((LOOPBACK, port))
                datagrams.bind((LOOPBACK, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise BenchError("there are no free ports")


def wait_until_listening(port: int, program: Program) -> None:
    """Wait until `program` accepts connections on `port`.  Raises `BenchError`."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), timeout=PATIENCE).close()
            return
        program.check()
        time.sleep(PAUSE)
    raise BenchError(f"{program.command[0]} does not listen after {PATIENCE:.0f} s")


def wait_for_first_byte(port: int, program: Program) -> None:
    """Wait until a byte comes back through the tunnel to the echo.  Raises `BenchError`."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        with (
            contextlib.suppress(OSError),  # nobody listens yet, or there is no tunnel behind it
            socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as sock,
        ):
            sock.sendall(b"!")
            if sock.recv(1):
                return
        program.check()
        time.sleep(PAUSE)
    raise BenchError(f"nothing comes through {program.command[0]} after {PATIENCE:.0f} s")
