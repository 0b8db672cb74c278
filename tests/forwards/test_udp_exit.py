"""The dialling end of a UDP channel, in memory: what it does in one read."""

from __future__ import annotations

import logging
import types
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from cotun_trio.forwards import udp_exit
from cotun_trio.forwards.datagrams import TURN
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.forwards.udp_exit import FLOW_COST
from cotun_trio.logs import Context
from cotun_trio.protocol.gob import Encoder
from tests.support.ends import udp_socket
from tests.support.sockets import until
from tests.support.ssh_connection import ConnectionPair, send
from tests.support.targets import split_address

if TYPE_CHECKING:
    from cotun_trio.errors import CotunError

LOG = Context(logging.getLogger("cotun.test"))


async def test_new_sources_count_more_in_a_turn_than_known_ones() -> None:
    pair, flows = ConnectionPair(), Flows(Quota(0))
    failures: list[CotunError] = []
    link: Any = types.SimpleNamespace(flows=flows, share=None, fail=failures.append)
    async with udp_socket() as (_, far), trio.open_nursery() as nursery:
        pending = pair.client.ask(b"target")
        pair.pump()
        (opening,) = pair.handlers["server"].openings

        async def run() -> None:
            await udp_exit.serve_channel(
                link, opening, *split_address(far), idle=15.0, max_size=100, log=LOG
            )

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        pair.pump()
        encoder = Encoder()
        send(pending.channel, b"".join(encoder.encode(f"10.0.0.{n}:5", b"!") for n in range(100)))
        pair.pump()
        assert 0 < len(flows.udp) <= TURN // FLOW_COST
        await until(lambda: len(flows.udp) == 100)
        nursery.cancel_scope.cancel()
    assert len(flows.udp) == 0
    assert not failures
