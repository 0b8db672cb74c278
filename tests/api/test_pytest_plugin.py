"""The fixture, in a test run of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import trio

async def upper(stream):
    async for data in stream:
        await stream.send_all(data.upper())

def test_good(tunnel_pair):
    async def main():
        async with tunnel_pair(auth=("a", "b")) as (server, client):
            server.handle("db", 1, upper)
            async with await client.open_tcp_stream("db", 1) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"X"
    trio.run(main)

def test_handler_that_fails(tunnel_pair):
    async def broken(stream):
        raise ZeroDivisionError
    async def main():
        async with tunnel_pair() as (server, client):
            server.handle("db", 1, broken)
            await client.open_tcp_stream("db", 1)
            await trio.sleep_forever()
    trio.run(main)
"""


@pytest.mark.slow
def test_it_gives_pairs_and_what_a_handler_raises_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cotun_trio.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PASSED test_it.py::test_good" in done.stdout
    assert "FAILED test_it.py::test_handler_that_fails - ZeroDivisionError" in done.stdout
