"""The listening end of a UDP remote, in memory but for its socket: what it does in one wake-up."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.forwards.datagrams import BATCH
from cotun_trio.forwards.drops import NO_ROOM, NO_TUNNEL, NO_WAY_BACK
from cotun_trio.protocol.datagram_runs import RunDecoder, RunEncoder
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from tests.support.datagrams import Datagram, batch, datagrams_in
from tests.support.ssh_connection import RecordingSink, send
from tests.support.targets import LOOPBACK
from tests.support.udp_link import listening_in_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.protocol.datagram_codec import DatagramDecoder
    from cotun_trio.ssh.channel import Channel
    from tests.support.udp_link import Entry

FORMS = pytest.mark.parametrize("in_runs", [False, True], ids=["gob", "runs"])
HOSTS = pytest.mark.parametrize("host", [LOOPBACK, "0.0.0.0"], ids=["one address", "all addresses"])


class Stage:
    """A listener with an open channel, whose other end records what comes."""

    def __init__(self, entry: Entry, far: Channel, *, in_runs: bool) -> None:
        self.entry = entry
        self.far = far
        self.sink = RecordingSink()
        self.decoder: DatagramDecoder = RunDecoder() if in_runs else Decoder()
        self.encoder = RunEncoder() if in_runs else Encoder()
        far.attach(self.sink)
        self.take()

    def take(self) -> list[Datagram]:
        """Return what has come."""
        self.entry.pair.pump()
        data = bytes(self.sink.data)
        self.sink.data.clear()
        return list(datagrams_in(self.decoder, data))

    @property
    def sent(self) -> int:
        """How many pieces the near end has given to its carrier."""
        return len(self.entry.pair.carriers["client"].sizes)


def udp() -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setblocking(False)
    return sock


def name_of(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


@contextlib.asynccontextmanager
async def opened(
    in_runs: bool, host: str = LOOPBACK
) -> AsyncIterator[tuple[Stage, socket.socket, socket.socket]]:
    """Give a listener with an open channel, and two sources that send to it."""
    with udp() as sock, udp() as one, udp() as two:
        sock.bind((host, 0))
        for source in (one, two):
            source.connect((LOOPBACK, sock.getsockname()[1]))
        async with listening_in_memory(sock, in_runs=in_runs) as entry:
            one.send(b"first")
            await trio.testing.wait_all_tasks_blocked(0.001)
            entry.pair.pump()
            (opening,) = entry.pair.handlers["server"].openings
            far = opening.confirm()
            entry.pair.pump()
            await trio.testing.wait_all_tasks_blocked()
            yield Stage(entry, far, in_runs=in_runs), one, two


@FORMS
@HOSTS
async def test_all_that_waits_on_the_socket_goes_out_as_one_message(
    in_runs: bool, host: str
) -> None:
    async with opened(in_runs, host) as (stage, one, _):
        before = stage.sent
        for number in range(BATCH):
            one.send(b"%02d" % number)
        stage.entry.listener._step()
        assert stage.sent == before + 1
        assert stage.take() == [Datagram(name_of(one), b"%02d" % n) for n in range(BATCH)]


@FORMS
@HOSTS
async def test_sources_are_told_apart_and_each_gets_its_answers(in_runs: bool, host: str) -> None:
    async with opened(in_runs, host) as (stage, one, two):
        expected = []
        for number in range(10):
            for source in (one, two) if number % 3 else (two,):
                data = bytes([number] * number)
                source.send(data)
                expected.append(Datagram(name_of(source), data))
        stage.entry.listener._step()
        assert stage.take() == expected
        send(stage.far, batch(stage.encoder, expected))
        stage.entry.pair.pump()
        for source in (one, two):
            mine = [d.payload for d in expected if d.source == name_of(source)]
            assert [source.recv(100) for _ in mine] == mine


@FORMS
@HOSTS
async def test_answers_in_a_run_come_from_the_address_that_was_asked(
    in_runs: bool, host: str
) -> None:
    async with opened(in_runs, host) as (stage, one, _):
        datagrams = [Datagram(name_of(one), b"%02d" % number) for number in range(20)]
        send(stage.far, batch(stage.encoder, datagrams))
        stage.entry.pair.pump()  # the source is connected: it hears nobody else
        assert [one.recv(100) for _ in datagrams] == [d.payload for d in datagrams]
        assert stage.entry.drops.reasons == {}


@FORMS
async def test_a_batch_that_is_larger_than_a_message_goes_out_as_several(in_runs: bool) -> None:
    async with opened(in_runs) as (stage, one, _):
        for number in range(40):  # 1.2 MB
            one.send(bytes([number]) * 30_000)
        before = stage.sent
        stage.entry.listener._step()
        got = stage.take()
        assert [datagram.payload for datagram in got] == [bytes([n]) * 30_000 for n in range(40)]
        assert stage.sent == before + 3  # of up to 512 KiB


@FORMS
async def test_what_does_not_fit_the_window_is_dropped_and_counted_and_never_half_of_it(
    in_runs: bool,
) -> None:
    async with opened(in_runs) as (stage, one, _):
        channel = stage.entry.pair.client.channels[0]
        channel.out_window = 5100
        for number in range(10):
            one.send(b"%d" % number + bytes(999))
        one.send(b"small")
        stage.entry.listener._step()
        got = [datagram.payload[:5] for datagram in stage.take()]
        assert got == [b"%d" % number + bytes(4) for number in range(len(got) - 1)] + [b"small"]
        assert stage.entry.drops.reasons == {NO_ROOM: 11 - len(got)}
        assert len(got) in (5, 6)
        channel.out_window = 10**6
        one.send(b"again")
        stage.entry.listener._step()
        assert [datagram.payload for datagram in stage.take()] == [b"again"]


@FORMS
async def test_a_peer_with_small_packets_gets_whole_datagrams_that_fit_one(in_runs: bool) -> None:
    async with opened(in_runs) as (stage, one, _):
        stage.entry.pair.client.channels[0].out_max = 1000
        for size in (300, 300, 300, 300, 2000, 300):
            one.send(bytes(size))
        before = stage.sent
        stage.entry.listener._step()
        assert [len(datagram.payload) for datagram in stage.take()] == [300] * 5
        assert stage.entry.drops.reasons == {NO_ROOM: 1}
        assert stage.sent == before + 3  # three of them; the fourth; the last


async def test_a_step_without_a_session_drops_what_waits() -> None:
    async with opened(in_runs=False) as (stage, one, _):
        stage.entry.session = None
        for _ in range(3):
            one.send(b"lost")
        stage.entry.listener._step()
        assert stage.entry.drops.reasons == {NO_TUNNEL: 3}
        stage.entry.session = stage.entry.link
        one.send(b"not lost")
        stage.entry.listener._step()
        assert [datagram.payload for datagram in stage.take()] == [b"not lost"]


async def test_a_step_leaves_what_is_beyond_a_batch_for_the_next_one() -> None:
    async with opened(in_runs=True) as (stage, one, _):
        for _ in range(BATCH + 1):
            one.send(b"x")
        stage.entry.listener._step()
        assert len(stage.take()) == BATCH
        stage.entry.listener._step()
        assert len(stage.take()) == 1


@FORMS
async def test_answers_to_nobody_are_counted_one_by_one(in_runs: bool) -> None:
    async with opened(in_runs) as (stage, _, _two):
        send(stage.far, batch(stage.encoder, [Datagram("192.0.2.1:9", b"x")] * 5))
        stage.entry.pair.pump()
        assert stage.entry.drops.reasons == {NO_WAY_BACK: 5}
