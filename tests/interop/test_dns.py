"""DNS, the datagrams that people tunnel: ``dig`` asks ``dnsmasq``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio

from scripts.peers import find
from tests.support.peers import needs
from tests.support.programs import running
from tests.support.targets import LOOPBACK, free_port
from tests.support.tunnel import tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DNSMASQ = find("dnsmasq")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    needs("dig", "dnsmasq"),
]


@contextlib.asynccontextmanager
async def dns_server() -> AsyncIterator[int]:
    """Run a server that knows one name; give its port."""
    assert DNSMASQ
    port = free_port()
    options = [f"--port={port}", "--address=/tunnel.test/192.0.2.7", "--log-facility=-"]
    options += ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
    options += ["--listen-address=127.0.0.1", "--bind-interfaces", "--user=", "--pid-file="]
    async with running(DNSMASQ, *options) as program:
        await program.wait_for("started, version")
        yield port


@pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])
async def test_dig_gets_its_answer_through_a_udp_remote(reverse: bool) -> None:
    async with (
        dns_server() as port,
        tunnel(
            remotes=(f"{'R:' * reverse}127.0.0.1:0:127.0.0.1:{port}/udp",), server={"reverse": True}
        ) as both,
    ):
        session = both.client.sessions[0]
        (address,) = session.reverse_addresses if reverse else both.client.addresses
        local = address.rpartition(":")[2]
        command = ["dig", f"@{LOOPBACK}", "-p", local, "+short", "+tries=1", "tunnel.test"]
        done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"192.0.2.7\n"
