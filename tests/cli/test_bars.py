"""``cotun-trio bars``: who is barred, and who may come in again."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.cli import bars as module
from cotun_trio.cli.bars import bars
from cotun_trio.errors import UsageError
from tests.support.tunnel import running_server
from tests.support.users import ALICE

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.server.server import Server


async def run(place: str, **options: Any) -> int:
    """Run the command beside the server; return its status."""
    return await trio.to_thread.run_sync(partial(bars, admin=place, **options))


async def bar(server: Server, *hosts: str) -> None:
    for host in hosts:
        await server.logins.judge(host, "alice", "wrong", server.log)


async def test_a_source_is_listed_until_its_bar_is_lifted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    async with running_server(auth=ALICE, max_auth_failures=1, admin_listen=place) as server:
        assert await run(place) == 0
        assert capsys.readouterr().out == "nobody is barred\n"
        await bar(server, "192.0.2.1", "2001:db8::1")
        assert await run(place, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["count"] == 2
        assert await run(place) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith("2001:db8::/64  for ")
        assert second.startswith("192.0.2.1  for ")
        assert await run(place, lift="2001:db8::/64") == 0
        assert capsys.readouterr().out == "1 may log in again\n"
        assert await run(place, lift="2001:db8::/64") == 1
        assert capsys.readouterr().err == "cotun-trio: 2001:db8::/64 is not barred\n"
        assert await run(place, lift_all=True) == 0
        assert await run(place) == 0
        assert capsys.readouterr().out.endswith("nobody is barred\n")


def test_one_or_all() -> None:
    with pytest.raises(UsageError, match="give one of the two"):
        bars(lift="192.0.2.1", lift_all=True, admin="unix:/nowhere")


def test_a_list_that_is_cut_says_so() -> None:
    shown = {"source": "192.0.2.1\x1b", "seconds": 89.7, "bars": 2}
    lines = module._lines({"count": 5, "bars": [shown]})
    assert lines == ["192.0.2.1\\x1b  for 1m30s  bar 2", "... and 4 more"]
