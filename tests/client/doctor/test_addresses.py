"""The name, and each of its addresses."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.client.doctor import addresses
from cotun_trio.client.doctor.addresses import ADDRESS_TIMEOUT, NAME_TIMEOUT
from cotun_trio.client.doctor.steps import Steps
from cotun_trio.errors import DialFailed
from tests.support.names import know, silence

if TYPE_CHECKING:
    from cotun_trio.client.doctor.steps import Step


class Network:
    """Addresses that answer, and others that fail by their number or are silent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **failing: int) -> None:
        self.failing = failing
        self.steps: list[Step] = []
        monkeypatch.setattr(addresses, "dial_tcp", self.dial)

    async def dial(self, host: str, port: int, *, timeout: float) -> socket.socket:
        await trio.lowlevel.checkpoint()
        number = self.failing.get(host, 0)
        if number == errno.ETIMEDOUT:
            await trio.sleep(timeout)
        if number:
            raise DialFailed(f"{host}: {errno.errorcode[number]}", number)
        return socket.socket()

    async def try_all(self, *hosts: str) -> list[str]:
        found = [(socket.AF_INET6 if ":" in host else socket.AF_INET, host) for host in hosts]
        await addresses.try_addresses(Steps([], self.steps.append), found, 443)
        return self.outcomes

    @property
    def outcomes(self) -> list[str]:
        return [str(step.outcome) for step in self.steps]


async def test_ipv6_that_leads_nowhere_is_a_warning_where_ipv4_works(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(monkeypatch, **{"2001:db8::1": errno.ETIMEDOUT})
    assert await network.try_all("2001:db8::1", "192.0.2.1") == ["warning", "ok"]
    bad, good = network.steps
    assert bad.facts["address"] == "[2001:db8::1]:443"
    assert bad.seconds == ADDRESS_TIMEOUT
    assert "goes on to another address after 250ms" in bad.meaning
    assert "IPv6" in bad.advice
    assert (good.seconds, good.meaning) == (0.0, "")


async def test_a_machine_without_ipv6_has_nothing_to_repair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(monkeypatch, **{"2001:db8::1": errno.ENETUNREACH})
    assert await network.try_all("2001:db8::1", "192.0.2.1") == ["skipped", "ok"]
    assert network.steps[0].meaning == "this machine has no network for this kind of address"
    assert not network.steps[0].advice


async def test_the_addresses_are_tried_at_the_same_time_and_all_may_fail(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {f"192.0.2.{n}": errno.ETIMEDOUT for n in range(16)}
    network = Network(monkeypatch, **hosts, **{"192.0.2.99": errno.ECONNREFUSED})
    with pytest.raises(DialFailed, match=r"^192\.0\.2\.0: ETIMEDOUT"):
        await network.try_all(*hosts, "192.0.2.99")
    assert network.outcomes == ["failed"] * 17
    assert trio.current_time() == ADDRESS_TIMEOUT
    assert "filtered" in network.steps[0].meaning
    assert "nothing listens" in network.steps[16].meaning


async def test_a_name_is_looked_up_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, **{"a.example": ["192.0.2.1", "2001:db8::1"]})
    steps: list[Step] = []
    found = await addresses.find_addresses(Steps([], steps.append), "a.example")
    assert [host for _, host in found] == ["192.0.2.1", "2001:db8::1"]
    assert steps[0].facts == {"host": "a.example", "addresses": ["192.0.2.1", "2001:db8::1"]}


async def test_a_name_that_does_not_exist_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch)
    steps: list[Step] = []
    with pytest.raises(DialFailed, match=r"^b\.example: Name or service not known"):
        await addresses.find_addresses(Steps([], steps.append), "b.example")
    assert "no such name" in steps[0].meaning


async def test_a_name_server_that_does_not_answer_is_not_waited_for_for_ever(
    autojump: trio.testing.MockClock,
) -> None:
    steps: list[Step] = []
    with silence(), pytest.raises(DialFailed, match="no answer in 12s"):
        await addresses.find_addresses(Steps([], steps.append), "b.example")
    assert trio.current_time() == NAME_TIMEOUT
    assert "no name server has answered" in steps[0].meaning
