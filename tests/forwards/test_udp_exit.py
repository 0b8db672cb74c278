"""The dialling end of a UDP channel, in memory: what it does in one read."""

from __future__ import annotations

import contextlib
import functools
import logging
import types
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.forwards import udp_exit
from cotun_trio.forwards.datagrams import BATCH, TURN
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.forwards.segments import Segments
from cotun_trio.forwards.udp_exit import FLOW_COST
from cotun_trio.logs import Context
from cotun_trio.protocol.datagram_runs import RunDecoder, RunEncoder
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from tests.support.datagrams import Datagram, batch, datagrams_in
from tests.support.ends import udp_socket
from tests.support.sockets import until
from tests.support.ssh_connection import ConnectionPair, RecordingSink, send
from tests.support.targets import split_address
from tests.support.udp_link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.errors import CotunError
    from cotun_trio.protocol.datagram_codec import DatagramDecoder, DatagramEncoder, Run
    from cotun_trio.ssh.channel import Channel

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


# ---- what is done at once


class Exit:
    """A UDP channel of which this end is `far`, and whose exit sends to a target."""

    def __init__(self, pair: ConnectionPair, far: Channel, *, in_runs: bool) -> None:
        self.pair = pair
        self.far = far
        self.sink = RecordingSink()
        far.attach(self.sink)
        self._encoder: DatagramEncoder = RunEncoder() if in_runs else Encoder()
        self._decoder: DatagramDecoder = RunDecoder() if in_runs else Decoder()

    def send(self, *datagrams: Datagram) -> None:
        """Send datagrams in one read."""
        send(self.far, batch(self._encoder, datagrams))
        self.pair.pump()

    def take(self) -> list[Datagram]:
        """Return the answers that have come."""
        self.pair.pump()
        data = bytes(self.sink.data)
        self.sink.data.clear()
        return list(datagrams_in(self._decoder, data))

    @property
    def sent(self) -> int:
        """How many pieces the exit has given to its carrier."""
        return len(self.pair.carriers["server"].sizes)


@contextlib.asynccontextmanager
async def leading_to(far: str, *, in_runs: bool) -> AsyncIterator[tuple[Exit, Flows]]:
    """Run an exit to a target."""
    pair = ConnectionPair()
    async with trio.open_nursery() as nursery:
        link: Any = Link(pair.server, nursery, in_runs=in_runs)
        pending = pair.client.ask(b"target")
        pair.pump()
        (opening,) = pair.handlers["server"].openings
        run = functools.partial(udp_exit.serve_channel, idle=15.0, max_size=65_507, log=LOG)
        nursery.start_soon(run, link, opening, *split_address(far))
        await trio.testing.wait_all_tasks_blocked()
        pair.pump()
        yield Exit(pair, pending.channel, in_runs=in_runs), link.flows
        assert link.failures == []
        nursery.cancel_scope.cancel()


FORMS = pytest.mark.parametrize("in_runs", [False, True], ids=["gob", "runs"])


@FORMS
async def test_datagrams_of_one_read_reach_the_target_in_their_order(in_runs: bool) -> None:
    async with udp_socket() as (target, far), leading_to(far, in_runs=in_runs) as (exit_, _):
        sizes = [3, 3, 3, 1, 0, 0, 1200, 1200, 1199, 9000, 9000, 3]
        datagrams = [
            Datagram(source, bytes([number]) * size)
            for number, size in enumerate(sizes)
            for source in ("a:1", "b:2")
        ]
        datagrams.sort(key=lambda datagram: datagram.source)
        exit_.send(*datagrams)
        got: dict[Any, list[bytes]] = {}
        for _ in datagrams:
            data, source = await target.recvfrom(70_000)
            got.setdefault(source, []).append(data)
        expected = [datagram.payload for datagram in datagrams[: len(sizes)]]
        assert list(got.values()) == [expected, expected]


@FORMS
async def test_a_run_is_given_to_the_system_at_once(
    in_runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def send_run(_self: object, _sock: object, run: Run) -> int:
        given.append(run.count)
        return run.count

    monkeypatch.setattr(Segments, "send", send_run)
    async with udp_socket() as (target, far), leading_to(far, in_runs=in_runs) as (exit_, _):
        exit_.send(Datagram("a:1", b"first"))
        assert await target.recv(10) == b"first"
        exit_.send(*[Datagram("a:1", bytes(500))] * 60)
        assert given == [60]


@FORMS
async def test_answers_that_wait_go_back_as_one_message(in_runs: bool) -> None:
    async with udp_socket() as (target, far), leading_to(far, in_runs=in_runs) as (exit_, _):
        exit_.send(Datagram("a:1", b"first"))
        _, flow = await target.recvfrom(10)
        await trio.testing.wait_all_tasks_blocked()
        before = exit_.sent
        raw = target._sock  # type: ignore[attr-defined]
        for number in range(BATCH):
            raw.sendto(b"%02d" % number, flow)
        await until(lambda: exit_.sent > before)
        assert exit_.sent == before + 1
        assert exit_.take() == [Datagram("a:1", b"%02d" % number) for number in range(BATCH)]


@FORMS
async def test_the_rest_of_a_run_to_a_target_that_refuses_costs_no_more_than_one_flow(
    in_runs: bool,
) -> None:
    async with udp_socket() as (_, far):
        pass
    async with leading_to(far, in_runs=in_runs) as (exit_, flows):
        for _ in range(5):
            exit_.send(*[Datagram("a:1", b"x")] * 50)
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert len(flows.udp) <= 1
