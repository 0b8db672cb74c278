"""Without the folder ``cotun_trio/workers``, everything except ``--workers`` works."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cotun_trio
from tests.support.programs import running, url_of
from tests.support.targets import LOOPBACK

if TYPE_CHECKING:
    import contextlib

    from tests.support.programs import Program

pytestmark = pytest.mark.slow

IMPORT_ALL = """
import importlib, pkgutil, cotun_trio
for module in pkgutil.walk_packages(cotun_trio.__path__, "cotun_trio."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with a copy of the package that has no workers."""
    result = tmp_path_factory.mktemp("without")
    ignored = shutil.ignore_patterns("workers", "__pycache__")
    shutil.copytree(Path(cotun_trio.__file__).parent, result / "cotun_trio", ignore=ignored)
    return result


def program(without: Path, *arguments: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """Run Python with that copy."""
    return running(sys.executable, *arguments, env={"PYTHONPATH": str(without)}, cwd=without)


async def test_every_other_module_can_be_imported(without: Path) -> None:
    async with program(without, "-c", IMPORT_ALL) as done:
        assert await done.wait() == 0
        assert done.find("^cotun_trio.server.server$")
        assert not done.find("workers|Traceback|Warning")


async def test_the_help_is_there(without: Path) -> None:
    async with program(without, "-m", "cotun_trio", "server", "--help") as done:
        assert await done.wait() == 0
        assert done.find("Usage: cotun-trio server")


async def test_one_process_is_a_server(without: Path) -> None:
    serve = ("-m", "cotun_trio", "server", "--host", LOOPBACK, "--port", "0")
    async with program(without, *serve) as server:
        assert await url_of(server)
        assert await server.stop() == 0
        assert not server.find("Traceback")


async def test_several_processes_are_refused_with_the_reason(without: Path) -> None:
    async with program(without, "-m", "cotun_trio", "server", "--workers", "2") as refused:
        assert await refused.wait() == 2
        assert refused.lines == [
            "cotun-trio: this installation has no workers: leave out --workers"
        ]
