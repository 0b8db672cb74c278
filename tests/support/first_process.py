"""Programs as the first process of a PID namespace, as in a container."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import running
from tests.support.sockets import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.support.programs import Program

# In a user namespace, this needs no root, where the system allows it.
UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@functools.cache
def _refused() -> str | None:
    try:
        done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed: unshare"
    return f"there are no namespaces here: {done.stderr.strip()}" if done.returncode else None


def needs_namespaces() -> pytest.MarkDecorator:
    """Return the mark of a test that makes namespaces."""
    return pytest.mark.skipif(_refused() is not None, reason=str(_refused()))


def children_of(process: int) -> list[int]:
    """Return the children of a process, zombies included."""
    found: list[int] = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # one that has ended has given them to another
            found += map(int, (thread / "children").read_text().split())
    return found


@contextlib.asynccontextmanager
async def first_process(
    *command: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Program, int]]:
    """Run a program as the first process of a namespace; give it and its number outside."""
    async with running(*UNSHARE, "--kill-child", *command, env=env) as program:
        await until(lambda: children_of(program.pid))
        (number,) = children_of(program.pid)
        yield program, number
