"""A client with connections to several servers: one of them in Go, or all behind HAProxy."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.peers import needs
from tests.support.programs import WITH_CHISEL, chisel_server, our_server, ours, running
from tests.support.targets import LOOPBACK, connect, echo, echoes, free_port, listening

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.interop]

BALANCER = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    option redispatch
listen tunnel
    bind {front}
    balance roundrobin
    server one {one}
    server two {two}
"""


def connections(count: int, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a client with so many connections."""
    return "client", "--connections", str(count), *arguments


@pytest.mark.parametrize("killed", ["theirs", "ours"])
@WITH_CHISEL[-1]
async def test_one_of_two_servers_may_be_in_go(killed: str) -> None:
    async with (
        listening(echo) as target,
        chisel_server("--reverse") as (theirs, at_theirs),
        our_server("--reverse") as (ours_, at_ours),
        ours(
            *connections(2, "--server", at_ours, at_theirs, f"{LOOPBACK}:0:{target}"),
            f"R:{LOOPBACK}:0:{target}",
        ) as client,
    ):
        address = (await client.wait_for(r"Listening on (\S+) for"))[1]
        reverse_address = (await client.wait_for(r"The server listens on (\S+) for"))[1]
        await client.wait_for("Connected", times=2)
        for _ in range(2):
            async with await connect(address) as stream:
                assert await echoes(stream)
        (theirs if killed == "theirs" else ours_).send_signal(signal.SIGKILL)
        await client.wait_for("Disconnected")
        for _ in range(5):
            async with await connect(address) as stream:
                assert await echoes(stream)
        if killed == "theirs":
            async with await connect(reverse_address) as stream:
                assert await echoes(stream)


@WITH_CHISEL[-1]
async def test_a_single_server_in_go_has_one_session() -> None:
    async with (
        listening(echo) as target,
        chisel_server() as (_, url),
        ours(*connections(3, "-v", url, f"{LOOPBACK}:0:{target}")) as client,
    ):
        address = (await client.wait_for(r"Listening on (\S+) for"))[1]
        await client.wait_for("no use: another connection is there")
        async with await connect(address) as stream:
            assert await echoes(stream)
        assert len(client.find("Connected")) == 1


@needs("haproxy")
async def test_two_servers_behind_haproxy_have_a_session_each(tmp_path: Path) -> None:
    front = f"{LOOPBACK}:{free_port()}"
    async with (
        listening(echo) as target,
        our_server() as (one, at_one),
        our_server() as (two, at_two),
    ):
        config = tmp_path / "haproxy.cfg"
        addresses = {"one": at_one.removeprefix("http://"), "two": at_two.removeprefix("http://")}
        config.write_text(BALANCER.format(front=front, **addresses))
        async with (
            running("haproxy", "-db", "-f", str(config)),
            ours(*connections(2, f"http://{front}", f"{LOOPBACK}:0:{target}")) as client,
        ):
            address = (await client.wait_for(r"Listening on (\S+) for"))[1]
            await client.wait_for("Connected", times=2)
            for server in (one, two):
                assert len(server.find("open, client")) == 1
            two.send_signal(signal.SIGKILL)
            await client.wait_for("Disconnected")
            with trio.fail_after(10):
                for _ in range(20):
                    async with await connect(address) as stream:
                        assert await echoes(stream)
