"""Servers that a client meets again: the same key, another one, with known hosts and without."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio.access.known_hosts import KnownHosts
from cotun_trio.cli.app import parse
from cotun_trio.cli.plan import Plan
from cotun_trio.client.client import Client
from cotun_trio.errors import FingerprintMismatch, UsageError
from tests.support.log_watch import watch_logs
from tests.support.tunnel import (
    client_settings,
    running_client,
    running_server,
    switchable_server,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_server_is_remembered_at_the_first_meeting_and_known_at_the_next(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "known")
    async with running_server() as server:
        address = server.addresses[0]
        for new in (True, False):
            async with watch_logs() as log, running_client(address, known_hosts=path) as client:
                await client.opened()
                assert len(log.find(f"the key of {address} is new here.* {path}$")) == new
        assert KnownHosts(path).find(address) == server.fingerprint


async def test_another_key_ends_the_client_before_it_logs_in(tmp_path: Path) -> None:
    path = str(tmp_path / "known")
    async with running_server() as server:
        KnownHosts(path).meet(server.addresses[0], "1" * 43 + "=")
        settings = client_settings(server.addresses[0], known_hosts=path, max_retry_count=None)
        with pytest.raises(FingerprintMismatch) as caught:
            await Client(settings).run()
        assert server.fingerprint in str(caught.value)
        assert "1" * 43 in str(caught.value)
        assert not server.sessions


async def test_a_fingerprint_decides_without_the_known_hosts(tmp_path: Path) -> None:
    path = str(tmp_path / "known")
    async with running_server() as server:
        KnownHosts(path).meet(server.addresses[0], "1" * 43 + "=")
        async with running_client(
            server.addresses[0], known_hosts=path, fingerprint=server.fingerprint
        ) as client:
            await client.opened()


async def test_without_both_another_key_at_a_reconnect_is_a_warning_with_both() -> None:
    async with watch_logs() as log, switchable_server() as switch:
        first = switch.server.fingerprint
        async with running_client(switch.address, max_retry_count=-1) as client:
            await client.opened()
            await switch.stop()
            second = (await switch.start()).fingerprint
            client.retry_now()
            await client.opened(2)
        lines = log.lines("client", level=logging.WARNING)
        (line,) = [line for line in lines if "another key" in line]
        said = f"the server {switch.address} has another key than before, {second} in place of"
        assert line.startswith(f"{said} {first}: ")


def test_a_file_with_a_mistake_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text("rubbish\n")
    with pytest.raises(UsageError, match="line 1"):
        Client(client_settings("127.0.0.1:1", known_hosts=str(path)))


# ---- the command line


def known_hosts_of(*words: str) -> str | None:
    plan = parse(["client", *words])
    assert isinstance(plan, Plan)
    settings: Any = plan.settings
    assert [remote.local_port for remote in settings.remotes] == [3000]
    path: str | None = settings.known_hosts
    return path


def test_the_option_may_have_a_path_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    default = "/s/cotun-trio/known_hosts"
    assert known_hosts_of("http://a", "3000") is None
    assert known_hosts_of("--known-hosts", "http://a", "3000") == default
    assert known_hosts_of("http://a", "3000", "--known-hosts") == default
    assert known_hosts_of("-known-hosts", "a.example/path", "3000") == default
    assert known_hosts_of("--known-hosts=hosts", "http://a", "3000") == "hosts"
    assert known_hosts_of("--known-hosts", "/x/hosts", "http://a", "3000") == "/x/hosts"
    assert known_hosts_of("--known-hosts", "./hosts", "http://a", "3000") == "./hosts"


def test_a_server_is_forgotten_by_its_url_or_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "cotun-trio" / "known_hosts"
    for server in ("a.example:443", "b.example:8080"):
        KnownHosts(str(path)).meet(server, "1" * 43 + "=")
    assert parse(["forget", "https://a.example/path"]) == 0
    assert parse(["forget", "b.example:8080", "--known-hosts", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: forgot a.example:443",
        f"{path}: forgot b.example:8080",
    ]
    assert parse(["forget", "b.example:8080"]) == 1
    assert "does not know b.example:8080" in capsys.readouterr().err
    assert not path.read_text()
