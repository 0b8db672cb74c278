"""Addresses that lead to no session: a crowd there has few places, and takes none from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio.testing

from cotun_trio.server.reception import SIDE_DOOR, SIDE_DOOR_PER_SOURCE
from cotun_trio.settings import ServerAcme
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, connect, free_port, receive_all
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cotun_trio.server.server import Server

GET = b"GET /health HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n"


@pytest.fixture
def http_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Give the port that stands for port 80, which only root could have."""
    port = free_port()
    monkeypatch.setattr("cotun_trio.server.listening.HTTP_PORT", port)
    return port


@pytest.mark.parametrize(("door", "answer"), [("--health-listen", b"200"), ("port 80", b"404")])
async def test_a_source_has_few_places_there_and_none_of_the_others(
    door: str, answer: bytes, http_port: int
) -> None:
    server_with: AbstractAsyncContextManager[Server]
    if door == "port 80":  # without an authority, there is no certificate, but there is the page
        acme = ServerAcme(domains=("y.example",), directory=f"https://{LOOPBACK}:1/")
        server_with = running_server(tls=acme)
    else:
        server_with = running_server(health_listen=(LOOPBACK, 0))
    async with watch_logs() as log, server_with as server:
        address = (server.health_addresses or [f"{LOOPBACK}:{http_port}"])[0]
        crowd = [await connect(address) for _ in range(SIDE_DOOR_PER_SOURCE)]
        for _ in range(2):
            async with await connect(address) as refused:
                assert await receive_all(refused) == b""
        full = f"{door}: too many connections of {LOOPBACK} have not logged in"
        assert len(log.find(full, "server")) == 1
        if server.health_addresses:
            async with running_client(server.addresses[0]) as client:
                await client.opened()
        for one in crowd:
            await one.send_all(GET)
            assert (await receive_all(one)).startswith(b"HTTP/1.1 " + answer)
            await one.aclose()
        async with await connect(address) as late:
            await late.send_all(GET)
            assert (await receive_all(late)).startswith(b"HTTP/1.1 " + answer)


def test_all_places_together_leave_some_of_the_descriptors_that_are_kept_back() -> None:
    assert 2 * SIDE_DOOR < 256


async def test_a_balancer_is_told_when_the_server_is_about_to_end() -> None:
    ready = GET.replace(b"/health", b"/ready")
    async with running_server(health_listen=(LOOPBACK, 0)) as server:
        async with await connect(server.health_addresses[0]) as stream:
            await stream.send_all(ready)
            assert (await receive_all(stream)).startswith(b"HTTP/1.1 200")
        async with await connect(server.health_addresses[0]) as stream:
            await trio.testing.wait_all_tasks_blocked()
            server.reception.close_soon("the server is shutting down")
            await stream.send_all(ready)
            answer = await receive_all(stream)
            assert answer.startswith(b"HTTP/1.1 503")
            assert answer.endswith(b"the server is shutting down\n")
