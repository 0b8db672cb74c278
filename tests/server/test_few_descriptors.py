"""A server with few descriptors, and one client with datagrams from very many sources."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest
import trio

from tests.support.ends import ask, udp_echo, udp_socket
from tests.support.gateway import GET
from tests.support.programs import running, url_of
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, split_address
from tests.support.tunnel import running_client

LIMIT = 256
SOURCES = 500


@pytest.mark.slow
async def test_more_udp_sources_than_descriptors_keep_nobody_out() -> None:
    command = ("-m", "cotun_trio", "server", "--host", LOOPBACK, "--port", "0")
    async with (
        udp_echo() as far,
        listening(echo) as target,
        running("prlimit", f"--nofile={LIMIT}", sys.executable, *command) as server,
        running_client(await url_of(server), f"{LOOPBACK}:0:{far}/udp") as client,
        udp_socket() as (last, _),
    ):
        await client.opened()
        near = client.addresses[0]
        with contextlib.ExitStack() as stack:
            for number in range(SOURCES):
                sock = stack.enter_context(trio.socket.socket(type=socket.SOCK_DGRAM))
                await sock.sendto(b"%d" % number, split_address(near))
                with trio.fail_after(10):
                    assert await sock.recv(9) == b"%d" % number
        # Others come in, ask for their health and open connections, and the sources go on.
        async with await connect((await url_of(server)).removeprefix("http://")) as stream:
            await stream.send_all(GET.replace(b" / ", b" /health "))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        async with running_client(await url_of(server), f"{LOOPBACK}:0:{target}") as other:
            await other.opened()
            async with await connect(other.addresses[0]) as stream:
                assert await echoes(stream)
        assert await ask(last, near, b"last") == b"last"
        assert not server.find("internal error|cannot accept")
