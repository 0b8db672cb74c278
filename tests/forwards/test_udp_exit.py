"""The dialling end of a UDP channel, in memory: what it does in one read."""

from __future__ import annotations

import functools
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
from cotun_trio.protocol.gob_encoder import Encoder
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


async def ports_of(sources: str, most: int | None, *, channels: int = 1) -> tuple[list[int], int]:
    """Send a datagram from each source, in turn, and from a channel of its own where its number is
    odd and there are two; return the ports that they come from, and how many flows are left."""
    pair, flows = ConnectionPair(), Flows(Quota(0))
    link: Any = types.SimpleNamespace(flows=flows, share=None, fail=None)
    async with udp_socket() as (target, far), trio.open_nursery() as nursery:
        ways = []
        for _ in range(channels):
            pending = pair.client.ask(b"target")
            pair.pump()
            opening = pair.handlers["server"].openings[-1]
            run = functools.partial(
                udp_exit.serve_channel, idle=15.0, max_size=100, most=most, log=LOG
            )
            nursery.start_soon(run, link, opening, *split_address(far))
            await trio.testing.wait_all_tasks_blocked()
            pair.pump()
            ways.append((pending.channel, Encoder()))
        ports = []
        for source in sources:
            channel, encoder = ways[int(source) % channels]
            send(channel, encoder.encode(f"10.0.0.{source}:5", b"!"))
            pair.pump()
            with trio.fail_after(5):
                ports.append((await target.recvfrom(100))[1][1])
        left = len(flows.udp)
        nursery.cancel_scope.cancel()
    assert len(flows.udp) == 0
    return ports, left


async def test_a_source_too_many_takes_the_place_of_the_one_that_was_silent_for_longest() -> None:
    (one, two, again, three, still, anew), left = await ports_of("121312", most=2)
    assert one == again == still
    assert len({one, two, three}) == 3
    assert anew != two  # it was the one that had to go
    assert left == 2


async def test_without_a_limit_all_sources_stay() -> None:
    ports, left = await ports_of("123123", most=None)
    assert ports[:3] == ports[3:]
    assert left == 3


async def test_each_remote_has_its_own_sources() -> None:
    ports, left = await ports_of("12341234", most=2, channels=2)
    assert ports[:4] == ports[4:]
    assert left == 4
