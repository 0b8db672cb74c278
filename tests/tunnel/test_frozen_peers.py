"""A peer that is frozen, by SIGSTOP, anywhere: the other side gives up in time, and cleans up."""

from __future__ import annotations

import signal

import pytest
import trio

from cotun_trio.settings import Timings
from tests.support.ends import is_free
from tests.support.faults import fault_proxy
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.programs import our_client, our_server
from tests.support.targets import LOOPBACK, connect, echo, echoes, free_port, listening
from tests.support.tunnel import running_client, running_server

pytestmark = pytest.mark.slow

TIMINGS = Timings(
    ws_timeout=0.5, ssh_timeout=0.5, config_timeout=0.3, dial_timeout=0.5, ping_timeout=0.3
)
KEEPALIVE = 0.3
GIVES_UP = 5.0
"""Seconds: far above what the times above make, and far below those that there are by default."""

# Bytes that have gone up when the client freezes, and down when the server does: at the connection,
# behind the HTTP head, in the key exchange, and before the answer to the config request.
STAGES = [0, 300, 1200, 2300]


@pytest.mark.parametrize("stage", [*STAGES, None])
async def test_a_server_gives_a_frozen_client_up(stage: int | None) -> None:
    port = free_port()
    async with (
        watch_logs() as log,
        listening(echo) as target,
        running_server(timings=TIMINGS, keepalive=KEEPALIVE, reverse=True) as server,
        fault_proxy(server.addresses[0]) as proxy,
        nothing_left(),
    ):
        remote = f"R:{LOOPBACK}:{port}:{target}"
        async with our_client(f"http://{proxy.address}", f"--remote={remote}", target=target) as (
            client,
            _,
        ):
            frozen = trio.Event()

            def freeze(up: int, _down: int) -> None:
                if stage is not None and up >= stage and not frozen.is_set():
                    client.send_signal(signal.SIGSTOP)
                    frozen.set()

            proxy.watch = freeze
            with trio.fail_after(GIVES_UP):
                if stage is None:
                    await client.wait_for("Connected")
                    client.send_signal(signal.SIGSTOP)
                else:
                    await frozen.wait()
                await log.wait_for(
                    "closed after|closed before it was open|no HTTP request|no SSH|took too long",
                    "server",
                )
                assert is_free(port)
            client.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("stage", [*STAGES, None])
async def test_a_client_gives_a_frozen_server_up_and_comes_back(stage: int | None) -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        our_server() as (frozen, url),
        our_server() as (_, good_url),
        fault_proxy(url.removeprefix("http://")) as proxy,
    ):

        def freeze(_up: int, down: int) -> None:
            if stage is not None and down >= stage:
                frozen.send_signal(signal.SIGSTOP)

        proxy.watch = freeze
        if stage == 0:
            frozen.send_signal(signal.SIGSTOP)
        async with (
            nothing_left(),
            running_client(
                proxy.address,
                f"{LOOPBACK}:0:{target}",
                timings=TIMINGS,
                keepalive=KEEPALIVE,
                max_retry_interval=0.1,
            ) as client,
        ):
            with trio.fail_after(GIVES_UP):
                if stage is None:
                    await client.opened()
                    frozen.send_signal(signal.SIGSTOP)
                await log.wait_for("Connection error: |Disconnected: ", "client")
            proxy.watch = lambda up, down: None
            proxy.target = good_url.removeprefix("http://")
            with trio.fail_after(GIVES_UP):
                async with await connect(client.addresses[0]) as stream:
                    assert await echoes(stream)
            proxy.cut()
