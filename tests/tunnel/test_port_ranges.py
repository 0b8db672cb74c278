"""Ranges of ports through a tunnel, over real sockets: all of them, or none."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from cotun_trio.errors import UsageError
from tests.support.ends import ask, is_free, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    as_text,
    free_range,
    range_of_targets,
    what_answers,
)
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS = pytest.mark.parametrize("mark", ["", "R:"], ids=["out", "reverse"])


@WAYS
@pytest.mark.parametrize("options", ["", f",allow={LOOPBACK}"])
async def test_each_port_leads_to_its_own(mark: str, options: str) -> None:
    local, far = free_range(4), free_range(4)
    remote = f"{mark}{LOOPBACK}:{as_text(local)}:localhost:{as_text(far)}{options}"
    async with (
        range_of_targets(far),
        running_server(reverse=True) as server,
        running_client(server.addresses[0], remote) as client,
    ):
        await client.opened()
        assert [await what_answers(port) for port in local] == list(far)
    assert all(map(is_free, local))


@WAYS
async def test_each_udp_port_leads_to_its_own(mark: str) -> None:
    local, far = free_range(3), free_range(3)
    remote = f"{mark}{LOOPBACK}:{as_text(local)}:{LOOPBACK}:{as_text(far)}/udp"
    async with contextlib.AsyncExitStack() as stack:
        for port in far:
            await stack.enter_async_context(udp_echo(port=port))
        server = await stack.enter_async_context(running_server(reverse=True))
        client = await stack.enter_async_context(running_client(server.addresses[0], remote))
        await client.opened()
        source, _ = await stack.enter_async_context(udp_socket())
        for port in local:
            data = str(port).encode()
            assert await ask(source, f"{LOOPBACK}:{port}", data) == data


@pytest.fixture
def taken() -> Iterator[tuple[range, range]]:
    """Ports of which the last is taken, and those that are left."""
    ports = free_range(4)
    with socket.create_server((LOOPBACK, ports[-1])):
        yield ports, ports[:-1]


async def test_a_client_that_cannot_have_one_port_ends_and_leaves_none_open(
    taken: tuple[range, range],
) -> None:
    ports, others = taken
    why = f"cannot listen on {LOOPBACK}:{ports[-1]}: Address already in use"
    with pytest.raises(UsageError, match=why):
        async with running_client("127.0.0.1:1", f"{LOOPBACK}:{as_text(ports)}:db:1-4"):
            raise AssertionError("it listens")
    assert all(map(is_free, others))


async def test_a_server_that_cannot_have_one_port_opens_none(taken: tuple[range, range]) -> None:
    ports, others = taken
    remote = f"R:{LOOPBACK}:{as_text(ports)}:db:1-4"
    async with (
        watch_logs() as log,
        running_server(reverse=True) as server,
        running_client(server.addresses[0], remote),
    ):
        why = f"Server cannot listen on {LOOPBACK}:{ports[-1]}: Address already in use"
        await log.wait_for(f"Connection error: the server refused: {why}", "client")
        assert all(map(is_free, others))
