"""``cotun-trio log-level`` against a running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.programs import our_server, ours

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
async def test_a_running_program_logs_more(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    env = {"COTUN_ADMIN": place}
    async with our_server("--admin-listen", place) as (server, _):
        for words, level in ((), "info"), (("debug",), "debug"), ((), "debug"):
            async with ours("log-level", *words, env=env) as command:
                assert await command.wait() == 0
                assert command.lines == [level]
        await server.wait_for("WARNING .*has set the log's level to debug, from info")
        async with ours("log-level", "loud", env=env) as command:
            assert await command.wait() == 2
