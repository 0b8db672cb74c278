"""The program as the first process of a container: signals, and children that are not its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.first_process import children_of, first_process, needs_namespaces
from tests.support.programs import PATIENCE, ended_in_trio, url_of
from tests.support.sockets import until
from tests.support.targets import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, needs_namespaces()]

SERVER = (sys.executable, "-m", "cotun_trio", "server", "--host", LOOPBACK, "--port", "0")
ORPHAN = """
import os
if not os.fork():
    if os.fork():
        os._exit(0)  # and its child has another parent from now on
    os.read(0, 1)
    os._exit(0)
os.wait()
"""


async def end_an_orphan(first: int) -> None:
    """End a process whose parent has ended, in the namespace of its first process; return when
    nothing is left of it."""
    enter = ["nsenter", "--user", "--preserve-credentials", "--pid", f"--target={first}"]
    before = set(children_of(first))
    process = await trio.lowlevel.open_process(
        [*enter, sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE
    )
    async with ended_in_trio(process):
        assert process.stdin is not None
        with trio.fail_after(PATIENCE):
            await process.wait()
            await until(lambda: set(children_of(first)) > before)
            await process.stdin.aclose()
            await until(lambda: set(children_of(first)) == before)


async def test_orphans_are_reaped() -> None:
    async with first_process(*SERVER) as (server, number):
        await url_of(server)
        for _ in range(3):
            await end_an_orphan(number)
        os.kill(number, signal.SIGTERM)
        assert await server.wait() == 0


async def test_workers_are_told_from_orphans() -> None:
    async with first_process(*SERVER, "--workers", "2") as (server, number):
        await url_of(server)
        await end_an_orphan(number)
        os.kill(children_of(number)[0], signal.SIGKILL)
        await server.wait_for("was killed by SIGKILL")
        await until(lambda: len(children_of(number)) == 2)
        await end_an_orphan(number)
        os.kill(number, signal.SIGTERM)
        assert await server.wait() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_signals_end_it_while_it_still_imports(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    (tmp_path / "cyclopts.py").write_text(
        "import signal; print('importing', flush=True); signal.pause()"
    )
    command = (sys.executable, "-m", "cotun_trio", "server")
    async with first_process(*command, env={"PYTHONPATH": str(tmp_path)}) as (program, first):
        await program.wait_for("^importing$")
        os.kill(first, number)
        assert await program.wait() == status
