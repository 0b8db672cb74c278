"""Started with standard input, output or error closed: ``/dev/null`` is in their places."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.programs import PATIENCE
from tests.support.targets import connect, echo, echoes, free_port, listening
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

REPORT = """
import os, sys
from cotun_trio.system.standard_descriptors import open_missing
open_missing()
null = os.stat(os.devnull).st_rdev
report = [str(os.fstat(number).st_rdev == null) for number in range(3)]
report += [str(os.get_inheritable(number)) for number in range(3)]
print("to nobody", file=sys.stderr)
open(sys.argv[1], "w").write(" ".join(report))
"""


def without(closed: Sequence[int], *command: str) -> list[str]:
    """Return a command that runs another one with these descriptors closed."""
    close = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    return ["/bin/sh", "-c", f'exec "$@" {close}', "sh", *command]


@pytest.mark.parametrize(
    "closed", [each for n in (1, 2, 3) for each in itertools.combinations(range(3), n)]
)
def test_the_places_that_are_free_lead_nowhere_and_the_others_stay(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "report"
    command = without(closed, sys.executable, "-c", REPORT, str(path))
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, check=True)
    *leads_nowhere, zero, one, two = path.read_text().split()
    assert leads_nowhere == [str(number in closed) for number in range(3)]
    assert [zero, one, two] == ["True"] * 3
    assert not done.stdout  # what is for standard error goes nowhere else


def descriptors(pid: int) -> dict[int, str]:
    """Return the descriptors of a process, and where each leads."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    return {int(link.name): str(link.readlink()) for link in links}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it takes Linux's /proc")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_server_works_and_its_sockets_have_other_numbers(workers: str) -> None:
    port = free_port()
    server = [sys.executable, "-m", "cotun_trio", "server", "--host", "127.0.0.1"]
    command = without((0, 1, 2), *server, "--port", str(port), "--workers", workers)
    process = await trio.lowlevel.open_process(command)
    try:
        async with listening(echo) as target:
            await client_works(f"127.0.0.1:{port}", target)
        leads = descriptors(process.pid)
        assert [leads[number] for number in range(3)] == ["/dev/null"] * 3
        process.terminate()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    finally:
        process.kill()
        await process.wait()


async def client_works(server: str, target: str) -> None:
    """Have a client without standard descriptors carry a connection to `target`."""
    port = free_port()
    client = [sys.executable, "-m", "cotun_trio", "client", server]
    command = without((0, 1, 2), *client, f"127.0.0.1:{port}:{target}")
    process = await trio.lowlevel.open_process(command)
    try:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    async with await connect(f"127.0.0.1:{port}") as stream:
                        assert await echoes(stream)
                        break
                except OSError:
                    await trio.sleep(0.05)
        leads = descriptors(process.pid)
        assert [leads[number] for number in range(3)] == ["/dev/null"] * 3
    finally:
        process.kill()
        await process.wait()


async def test_a_stdio_client_without_standard_error_puts_no_message_into_the_stream() -> None:
    async with running_server() as server:
        client = [sys.executable, "-m", "cotun_trio", "client", "--fingerprint", "A" * 43 + "="]
        command = without((2,), *client, server.addresses[0], "stdio:127.0.0.1:1")
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(command, stdin=b"", capture_stdout=True, check=False)
    assert done.returncode == 3
    assert done.stdout == b""
    assert not re.search(b"cotun", done.stdout)
