"""A server's users: what it says about the cost of their hashes, and when that is measured."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access import hash_costs
from cotun_trio.access.credentials import Credentials
from cotun_trio.logs import get_logger
from cotun_trio.server import accounts as accounts_module
from cotun_trio.server.accounts import Accounts
from tests.support.log_watch import watch_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cotun_trio.access.passwords import Cost

ONE = "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR."
TWO = ONE.replace("$04$", "$05$")
SLOW = ": a check of this password takes some [0-9.]+ s of a processor"
LOG = get_logger("server")


class Measured:
    """What has been measured, and whether in the main thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[tuple[str, bool]] = []
        monkeypatch.setattr(accounts_module, "measure", self._measure)
        monkeypatch.setattr(hash_costs, "SLOW", 0.0)

    def _measure(
        self, costs: Mapping[Cost, str], known: Mapping[Cost, float], _clock: Callable[[], float]
    ) -> dict[Cost, float]:
        here = threading.current_thread() is threading.main_thread()
        self.costs += [(cost[1], here) for cost in costs if cost not in known]
        return dict.fromkeys(costs, 1.0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    return Measured(monkeypatch)


def write(path: Path, **users: str) -> None:
    path.write_text(
        json.dumps({f"{user}:{secret}": [] for user, secret in users.items()}, indent=0)
    )
    path.chmod(0o600)


async def test_a_slow_hash_is_a_warning_with_its_line(measured: Measured, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write(path, alice="secret", bob=ONE, carol=ONE)
    async with watch_logs() as log:
        Accounts(Credentials("dave", TWO), str(path), LOG).announce()
    (warning, of_auth) = log.find(SLOW, "server")
    assert f"the users file {path}: line 3 and 1 more{SLOW[:2]}" in warning.string
    assert "--auth: a check" in of_auth.string
    assert measured.costs == [("04", True), ("05", True)]


async def test_after_a_change_new_costs_are_measured_in_a_thread_and_told_once(
    measured: Measured, tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    write(path, alice=ONE)
    accounts = Accounts(None, str(path), LOG)
    changes: list[int] = []

    def changed() -> None:
        changes.append(len(measured.costs))

    async with watch_logs() as log:
        accounts.announce()
        write(path, bob="secret", alice=ONE)
        await accounts.reload(changed)
        assert measured.costs == [("04", True)]
        write(path, alice=ONE, bob=TWO)
        await accounts.reload(changed)
        await accounts.reload(changed)
        assert measured.costs == [("04", True), ("05", False)]
        assert changes == [1, 1]  # before that
        write(path, bob=TWO, alice=ONE)
        await accounts.reload(changed)
    assert len(log.find(SLOW, "server")) == 2
    assert len(measured.costs) == 2


async def test_without_hashes_nothing_is_measured(measured: Measured) -> None:
    async with watch_logs() as log:
        Accounts(Credentials("alice", "secret"), None, LOG).announce()
    assert not log.find(SLOW)
    assert not measured.costs
