"""Without --admin-listen, the interface costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import json, sys, trio
from tests.support.tunnel import tunnel

async def main(place):
    async with tunnel(remotes=["0:x:1"], server={"admin_listen": place}):
        names = set(sys.modules)
        tasks = trio.lowlevel.current_statistics().tasks_living
    print(json.dumps([sorted(names), tasks]))

trio.run(main, sys.argv[1] or None)
"""


def run(place: str) -> tuple[set[str], int]:
    """Return the modules of a program with a server and a client, and its tasks."""
    command = [sys.executable, "-c", PROGRAM, place]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names, tasks = json.loads(done.stdout)
    return set(names), tasks


@pytest.mark.slow
def test_off_it_costs_no_import_and_no_task(tmp_path: Path) -> None:
    off, tasks = run("")
    of_admin = {name for name in off if name.startswith("cotun_trio.admin.")}
    assert of_admin == {"cotun_trio.admin.choice", "cotun_trio.admin.watched"}
    assert not [name for name in off if name.startswith("prometheus_client")]
    on, more_tasks = run(f"unix:{tmp_path / 'admin.sock'}")
    assert "cotun_trio.admin.interface" in on
    assert "cotun_trio.admin.metrics" not in on  # until somebody asks
    assert more_tasks > tasks
