"""``cotun-trio events`` against a running server."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.cli.admin_client import AdminClient
from cotun_trio.cli.events import _line
from cotun_trio.errors import UsageError
from tests.support.programs import our_server, ours
from tests.support.targets import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
async def test_events_are_printed_and_followed(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    env = {"COTUN_ADMIN": place}
    remote = f"{LOOPBACK}:0:db:5432"
    async with our_server("--admin-listen", place) as (server, url):
        async with ours("client", url, remote) as client:
            await client.wait_for("Connected")
        async with (
            ours("events", "--follow", env=env) as followed,
            ours("events", "--follow", "--json", "--last", "0", env=env) as as_json,
        ):
            await followed.wait_for(rf"^\d+-\d+-\d+ \S+ closed peer={LOOPBACK}:\d+ session=1 ")
            async with ours("client", url, remote) as client:
                await followed.wait_for(r" opened .*session=2 .*remotes=127.0.0.1:0=>db:5432")
                await as_json.wait_for('"kind": "opened"')
            await followed.wait_for(" closed .*session=2 ")
            assert json.loads(as_json.lines[0])["facts"]["session"] == "2"
            assert await as_json.stop(signal.SIGINT) == 0
            assert as_json.lines[-1].startswith("{")
            async with ours("events", "--last", "3", env=env) as latest:
                assert await latest.wait() == 0
                assert [line.split()[2] for line in latest.lines] == ["closed", "opened", "closed"]
            words = [sys.executable, "-m", "cotun_trio", "events"]
            piped = await trio.run_process(
                ["sh", "-c", '"$@" | head -n 1', "sh", *words],
                capture_stdout=True,
                capture_stderr=True,
                env={**os.environ, **env},
            )
            assert piped.stdout.count(b"\n") == 1
            assert piped.stderr == b""
            await server.stop()
            assert await followed.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--follow", "--json"])
async def test_where_nobody_listens_it_is_said(tmp_path: Path, option: str) -> None:
    async with ours("events", option, "--admin", f"unix:{tmp_path}/none") as events:
        assert await events.wait() == 2
        assert events.find(r"^cotun-trio: cannot ask unix:.*/none: No such file or directory: ")


def test_followers_learn_of_a_missing_interface_as_well(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        next(AdminClient(f"unix:{tmp_path}/none", None).follow("/api/v1/events"))


def test_a_line_is_one_line_whatever_the_server_says() -> None:
    event = {"at": 0.0, "kind": "refused\n", "facts": {"reason": "a\nb\x1b[2J"}}
    assert _line(event).endswith(r" refused\n reason=a\nb\x1b[2J")
