"""Sources that are barred for failed logins, and the administrator who lifts that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.access.credentials import Credentials
from cotun_trio.admin import bars
from cotun_trio.errors import AuthenticationFailed
from cotun_trio.logs.events import record_events
from cotun_trio.settings import AdminAddress
from tests.support.admin import ask
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK
from tests.support.tunnel import running_client, running_server
from tests.support.users import ALICE, peer_as

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.server.server import Server

BARS = "/api/v1/bars"
NETWORK = "2001:db8::/64"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


async def bar(server: Server, *hosts: str) -> None:
    """Fail at `server` once from each of these hosts."""
    async with watch_logs() as log:
        for host in hosts:
            assert await server.logins.judge(host, "alice", "wrong", server.log) is None
        assert len(log.find("is barred for 1m")) == len(hosts)


def settings(place: str) -> dict[str, Any]:
    return {"auth": ALICE, "max_auth_failures": 1, "admin_listen": place}


async def test_who_is_barred_may_log_in_again_at_once(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with running_server(**settings(place)) as server, watch_logs() as log:
        address = server.addresses[0]
        with pytest.raises(AuthenticationFailed):
            async with peer_as(Credentials("alice", "wrong"), address):
                pass
        found = (await ask(place, BARS)).json
        assert found["count"] == 1
        (shown,) = found["bars"]
        assert (shown["source"], shown["bars"]) == (LOOPBACK, 1)
        assert 55 < shown["seconds"] <= 60
        answer = await ask(place, f"{BARS}/{LOOPBACK}", method="DELETE")
        assert (answer.status, answer.json) == (200, {"count": 1})
        async with peer_as(ALICE, address):
            pass
        assert (await ask(place, BARS)).json == {"count": 0, "bars": []}
        assert log.find(f"^{LOOPBACK} may log in again")
        (event,) = [each for each in record_events().after(0) if each.kind == "lifted"]
        assert event.facts == {"source": LOOPBACK}


@pytest.mark.parametrize(
    "named", [NETWORK, NETWORK.replace("/", "%2F"), "2001%3adb8%3a%3A%2f64", "2001:db8::17"]
)
async def test_a_network_can_be_named_in_several_ways(
    place: str, named: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with running_server(**settings(place)) as server:
        await bar(server, "2001:db8::1", "2001:db8:0:1::1")
        assert (await ask(place, f"{BARS}/{named}", method="DELETE")).status == 200
        (left,) = (await ask(place, BARS)).json["bars"]
        assert left["source"] == "2001:db8:0:1::/64"


async def test_all_bars_can_be_lifted(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with running_server(**settings(place)) as server, watch_logs() as log:
        await bar(server, "192.0.2.1", "192.0.2.2", "2001:db8::1")
        assert (await ask(place, BARS, method="DELETE")).json == {"count": 3}
        assert (await ask(place, BARS)).json["count"] == 0
        assert log.find("has lifted 3 bars")
        assert (await ask(place, BARS, method="DELETE")).json == {"count": 0}
        assert len(log.find("has lifted")) == 1


async def test_a_long_list_has_those_that_are_barred_longest(
    place: str, monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(bars, "MAX_BARS", 2)
    async with running_server(**settings(place)) as server:
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            await bar(server, host)
            await trio.sleep(1)
        found = (await ask(place, BARS)).json
        assert found["count"] == 3
        assert [each["source"] for each in found["bars"]] == ["192.0.2.3", "192.0.2.2"]


@pytest.mark.parametrize("source", ["192.0.2.9", "%0a%1b", "%ff", "x" * 300])
async def test_a_source_that_is_not_barred_is_not_found(place: str, source: str) -> None:
    async with running_server(**settings(place)):
        answer = await ask(place, f"{BARS}/{source}", method="DELETE")
        assert answer.status == 404
        assert answer.json["detail"].endswith(" is not barred")
        assert answer.json["detail"].isprintable()


async def test_a_client_bars_nobody(place: str) -> None:
    async with (
        running_server() as server,
        running_client(server.addresses[0], admin_listen=AdminAddress.parse(place)) as client,
    ):
        await client.opened()
        assert (await ask(place, BARS)).json == {"count": 0, "bars": []}
        assert (await ask(place, BARS, method="DELETE")).json == {"count": 0}
        assert (await ask(place, f"{BARS}/{LOOPBACK}", method="DELETE")).status == 404
