"""What a peer sends is processed in turns: counted in the steps of the task that reads."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from cotun_trio.budget import BEFORE_LOGIN, BURST, FRAME, TURN, Budget
from cotun_trio.errors import ProtocolError
from cotun_trio.net.tls import MAX_RECORDS, Tls
from cotun_trio.ssh.scratch import READ
from cotun_trio.websocket import wire as wire_module
from cotun_trio.websocket import writer as writer_module
from cotun_trio.websocket.turns import MAX_BYTES_BEFORE_LOGIN, SMALL_READ, Turns
from cotun_trio.websocket.writer import MAX_BACKLOG_BEFORE_LOGIN
from tests.support.frames import BINARY, CONTINUATION, KEY, PING, PONG, frame, read_by_wsproto
from tests.support.sockets import unix_pair
from tests.support.steps import counted_steps, counting
from tests.support.wires import Collector, key_for, shrink_buffers, wire_and_peer

if TYPE_CHECKING:
    import socket

    from cotun_trio.websocket.wire import Wire

COUNT = 1000
"""Frames of each flood: four turns, and about what a peer has saved up."""

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


def crumbs(kind: str, key: bytes | None) -> bytes:
    """Return a few frames of one kind, with next to nothing in them."""
    return {
        "pongs": frame(PONG, key=key),
        "pings": frame(PING, key=key),
        "empty messages": frame(BINARY, key=key),
        "bytes": frame(BINARY, b"x", key=key),
        "fragments": frame(BINARY, fin=False, key=key) + frame(CONTINUATION, key=key),
    }[kind]


KINDS = ("pongs", "pings", "empty messages", "bytes", "fragments")


async def send(peer: socket.socket, data: bytes) -> None:
    """Send everything; whoever receives it may go before."""
    left = memoryview(data)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while left:
            await trio.lowlevel.wait_writable(peer)
            left = left[peer.send(left) :]


async def read_on(wire: Wire) -> None:
    """Do what trio-websocket's reader does, until the wire ends."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await wire.receive_some():
            pass


@both_roles
@pytest.mark.parametrize("kind", KINDS)
async def test_a_step_has_as_many_frames_as_a_turn_and_others_run_between(
    client: bool, kind: str
) -> None:
    flood = crumbs(kind, key_for(client=client))
    flood *= COUNT // flood.count(flood[:2])
    steps_of_others = 0
    with wire_and_peer(client=client) as (wire, peer), counted_steps() as steps:
        wire._upgraded = True
        wire.frames._read_head = counting(steps, wire.frames._read_head)  # type: ignore[method-assign]
        wire.attach(Collector())

        async def bystander() -> None:
            nonlocal steps_of_others
            while steps.total < COUNT:
                steps_of_others += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on, wire)
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(send, peer, flood)
            await bystander()
            nursery.cancel_scope.cancel()
        assert steps.most <= TURN // FRAME
        assert steps_of_others >= COUNT // (TURN // FRAME)


@both_roles
async def test_bulk_never_has_to_wait_for_a_turn(client: bool) -> None:
    with wire_and_peer(client=client) as (wire, peer):
        wire._upgraded = True
        collector = Collector()
        wire.attach(collector)
        slow = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on, wire)
            nursery.start_soon(send, peer, frame(BINARY, bytes(2**19), key=key_for(client=client)))
            while len(collector.data) < 2**19:
                slow.append(wire._turns.slow)
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not any(slow)


@both_roles
async def test_what_a_turn_leaves_over_is_processed_in_order(client: bool) -> None:
    key = key_for(client=client)
    numbers = [number.to_bytes(2) for number in range(3000)]
    with wire_and_peer(client=client) as (wire, peer):
        wire._upgraded = True
        collector = Collector()
        wire.attach(collector)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on, wire)
            await send(peer, b"".join(frame(BINARY, number, key=key) for number in numbers))
            while len(collector.data) < 6000:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert collector.data == b"".join(numbers)


async def test_of_several_pings_in_a_turn_the_last_is_answered() -> None:
    pings = b"".join(frame(PING, bytes((n,)), key=KEY) for n in range(100))
    with wire_and_peer() as (wire, peer):
        wire.attach(Collector())
        peer.send(pings)
        assert await wire.receive_some() == frame(PING, bytes((99,)), key=KEY)


# ---- before the login


async def refused(flood: bytes) -> tuple[ProtocolError, bytes]:
    """Be flooded by a stranger; return how that ended here, and what the stranger was told."""
    with wire_and_peer(trusted=False) as (wire, peer):
        wire.attach(Collector())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(send, peer, flood)
            await read_on(wire)
            nursery.cancel_scope.cancel()
        assert isinstance(wire.failure, ProtocolError)
        wire.close()
        told = b""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := peer.recv(4096):
                told += data
        return wire.failure, told


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stranger_has_a_few_hundred_frames_and_is_told(kind: str) -> None:
    flood = crumbs(kind, KEY)
    failure, told = await refused(flood * 2000)
    assert "more than a login takes" in str(failure)
    (goodbye,) = [e for e in read_by_wsproto(told, from_client=False) if hasattr(e, "code")]
    assert (goodbye.code, goodbye.reason) == (1008, "more than a login takes")


async def test_a_stranger_has_so_many_bytes() -> None:
    failure, _ = await refused(frame(BINARY, bytes(MAX_BYTES_BEFORE_LOGIN + SMALL_READ), key=KEY))
    assert "more than a login takes" in str(failure)


@pytest.mark.parametrize(("units", "bytes_in", "much"), [(0, 0, False), (1, 0, True), (0, 1, True)])
async def test_the_limits_of_a_stranger_at_their_edge(
    units: int, bytes_in: int, much: bool
) -> None:
    budget = Budget()
    turns = Turns(budget)
    budget.spend(BEFORE_LOGIN + units)
    assert turns.too_much(MAX_BYTES_BEFORE_LOGIN + bytes_in) is much
    turns.logged_in()
    assert not turns.too_much(2**40)


async def test_a_stranger_is_read_in_small_pieces_and_in_the_slow_lane() -> None:
    with wire_and_peer(trusted=False) as (wire, peer):
        collector = Collector()
        wire.attach(collector)
        peer.send(frame(BINARY, bytes(60_000), key=KEY))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on, wire)
            while len(collector.data) < 60_000:
                await trio.lowlevel.checkpoint()
            assert wire._turns.slow
            nursery.cancel_scope.cancel()
    assert max(collector.batches) <= SMALL_READ


async def test_a_stranger_who_does_not_read_has_64_kib_of_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with wire_and_peer(trusted=False) as (wire, _):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(2 * MAX_BACKLOG_BEFORE_LOGIN + 1024 * 1024))
        assert isinstance(wire.failure, ProtocolError)
    monkeypatch.setattr(writer_module, "MAX_BACKLOG", 2**21)
    with wire_and_peer() as (wire, _):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(2 * MAX_BACKLOG_BEFORE_LOGIN + 1024 * 1024))
        assert wire.failure is None


# ---- after it


async def test_a_peer_that_wastes_more_than_its_allowance_is_read_later(
    autojump: trio.testing.MockClock,
) -> None:
    budget = Budget()
    turns = Turns(budget)
    turns.logged_in()
    for _ in range(BURST // 128):
        budget.begin()
        budget.waste(128)
        turns.done(unfinished=False)
        assert not turns.slow
    budget.begin()
    budget.waste(240)
    turns.done(unfinished=False)
    assert turns.slow
    before = trio.current_time()
    await turns.enter()
    turns.leave()
    assert trio.current_time() - before == pytest.approx(0.001)
    turns.done(unfinished=False)
    assert not turns.slow


async def test_those_that_rest_share_what_there_is(autojump: trio.testing.MockClock) -> None:
    rests = []
    for _ in range(4):
        budget = Budget()
        turns = Turns(budget)
        turns.logged_in()
        budget.waste(BURST + 240)
        turns.done(unfinished=False)
        rests.append(turns._rest_until - trio.current_time())
    assert rests == pytest.approx([0.001, 0.002, 0.003, 0.004])
    await trio.sleep(1)
    budget.waste(BURST + 240)
    turns.done(unfinished=False)
    assert turns._rest_until - trio.current_time() < 0.01


async def test_a_turn_that_was_mostly_wasted_is_followed_by_a_late_one() -> None:
    budget = Budget()
    turns = Turns(budget)
    turns.logged_in()
    for wasted, late in ((TURN // 2, True), (TURN // 2 - 1, False), (0, False)):
        budget.begin()
        budget.waste(wasted)
        turns.done(unfinished=False)
        assert turns.late is late


async def test_a_peer_that_is_busier_than_its_allowance_comes_after_others_and_never_rests(
    autojump: trio.testing.MockClock,
) -> None:
    budget = Budget()
    turns = Turns(budget)
    turns.logged_in()
    budget.be_busy(2 * BURST)
    turns.done(unfinished=False)
    assert turns.slow
    assert turns.late
    before = trio.current_time()
    await turns.enter()
    turns.leave()
    assert trio.current_time() == before
    await trio.sleep(60)
    turns.done(unfinished=False)
    assert not turns.slow


async def test_reads_grow_with_what_comes_and_are_small_again_after_crumbs() -> None:
    turns = Turns(Budget())
    turns.read(SMALL_READ, READ)
    assert turns.read_size == SMALL_READ  # a stranger's stay small
    turns.logged_in()
    sizes = []
    for _ in range(6):
        turns.read(turns.read_size, READ)
        sizes.append(turns.read_size)
    assert sizes == [2**15, 2**16, 2**17, READ, READ, READ]
    turns.read(100, READ)
    assert turns.read_size == READ
    turns.done(unfinished=True)
    assert turns.read_size == SMALL_READ


# ---- TLS


def tls_pair() -> tuple[Tls, Tls]:
    """Return a client and a server after their handshake."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    client = Tls(client_context, name="localhost")
    server = Tls(server_context, server_side=True)
    done = [False, False]
    while not all(done):
        done = [client.shake_hands(), done[1]]
        server.feed(client.take_out())
        done[1] = server.shake_hands()
        client.feed(server.take_out())
    return client, server


async def test_a_step_has_so_many_records_of_tls_and_nothing_is_lost() -> None:
    client, server = tls_pair()
    message = frame(BINARY, bytes(range(256)) * 4, key=KEY)
    # A byte in each record, which is the worst that can be done.
    data = b"".join(client.encrypt(message[i : i + 1]) for i in range(len(message)))
    with unix_pair() as (ours, theirs), counted_steps() as steps:
        wire = wire_module.Wire(ours, memoryview(bytearray(READ)), client=False, tls=server)
        wire.trust_peer(is_go=False)
        server._object = Counted(server._object, steps.count)
        collector = Collector()
        wire.attach(collector)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on, wire)
            await send(theirs, data)
            while len(collector.data) < 1024:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        wire.close()
    assert collector.data == bytes(range(256)) * 4
    assert steps.total >= len(message)
    assert steps.most <= MAX_RECORDS


class Counted:
    """An `ssl.SSLObject` that counts what is read of it."""

    def __init__(self, inner: object, count: object) -> None:
        self._inner = inner
        self._count = count

    def read(self, *args: object) -> int:
        """Read a record."""
        self._count()  # type: ignore[operator]
        return self._inner.read(*args)  # type: ignore[attr-defined, no-any-return]

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)
