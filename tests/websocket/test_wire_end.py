"""How a wire ends: by the peer, by the network, by a broken rule, by us; and what that wakes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.websocket import writer as writer_module
from cotun_trio.websocket.frames import PROTOCOL_ERROR, TOO_BIG, FrameError
from tests.support.frames import BINARY, PONG, frame, payload_of, read_by_wsproto
from tests.support.sockets import receive, receive_rest, tcp_pair, unix_pair, waiting
from tests.support.wires import ACCEPTED, Collector, key_for, shrink_buffers, wire_and_peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.websocket.wire import Wire
    from tests.support.wires import Pair

pytestmark = pytest.mark.usefixtures("each_way_to_wait")

HEAD = ACCEPTED % b"anything: somebody else checks it"

any_socket = pytest.mark.parametrize("pair", [unix_pair, tcp_pair], ids=["unix", "tcp"])
both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


@contextlib.contextmanager
def server() -> Iterator[tuple[Wire, socket.socket, Collector]]:
    """Give the wire of a server, its client's socket, and what the wire gives data to."""
    receiver = Collector()
    with wire_and_peer() as (wire, peer):
        wire.attach(receiver)
        yield wire, peer, receiver


@any_socket
async def test_a_peer_that_closes_its_end_ends_the_wire(pair: Pair) -> None:
    with wire_and_peer(pair=pair) as (wire, peer):
        wire.attach(Collector())
        peer.close()
        assert await wire.receive_some() == b""
        assert wire.ended.is_set()
        assert isinstance(wire.failure, ConnectionLost)


async def test_a_peer_that_vanishes_ends_the_wire() -> None:
    with wire_and_peer(pair=tcp_pair) as (wire, peer):
        wire.attach(Collector())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(trio.BrokenResourceError):
            await wire.receive_some()
        assert wire.ended.is_set()
        assert isinstance(wire.failure, ConnectionLost)
        assert "reset" in str(wire.failure)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_sending_to_a_peer_that_has_gone_ends_the_wire(size: int) -> None:
    with wire_and_peer() as (wire, peer):
        peer.close()
        wire.carrier.send(bytearray(size))
        assert wire.ended.is_set()
        assert isinstance(wire.failure, ConnectionLost)


async def test_the_first_failure_is_the_one_that_counts() -> None:
    with wire_and_peer() as (wire, _):
        first = ProtocolError("first")
        wire.fail(first)
        wire.fail(ProtocolError("second"))
        wire.close()
        assert wire.failure is first


@both_roles
async def test_a_broken_frame_is_answered_by_a_close_frame_with_its_code(client: bool) -> None:
    with wire_and_peer(client=client) as (wire, peer):
        wire.attach(Collector())
        if client:
            peer.send(HEAD)
            await wire.receive_some()
        peer.send(frame(3, key=key_for(client=client)))
        with pytest.raises(trio.BrokenResourceError):
            await wire.receive_some()
        assert wire.ended.is_set()
        failure = wire.failure
        assert isinstance(failure, FrameError)
        (event,) = read_by_wsproto(await receive(peer), from_client=client)
        assert (event.code, event.reason) == (PROTOCOL_ERROR, failure.reason)  # type: ignore[attr-defined]


async def test_a_failure_that_is_not_about_frames_says_no_goodbye() -> None:
    with wire_and_peer() as (wire, peer):
        wire.fail(ConnectionLost("whatever"))
        wire.close()
        assert await receive_rest(peer) == b""


async def test_what_a_receiver_raises_ends_the_wire() -> None:
    with server() as (wire, peer, receiver):
        receiver.refusal = ProtocolError("not SSH at all")
        peer.send(frame(BINARY, b"GET /", key=key_for(client=False)))
        with pytest.raises(trio.BrokenResourceError):
            await wire.receive_some()
        assert wire.failure is receiver.refusal


async def test_nothing_is_received_any_more_once_the_wire_has_ended() -> None:
    with server() as (wire, peer, receiver):
        raised = []

        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await wire.receive_some()
            raised.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            wire.fail(FrameError(TOO_BIG, "too big"))
            peer.send(frame(BINARY, b"late", key=key_for(client=False)))
        assert raised
        assert not receiver.data


async def test_once_the_wire_has_ended_nothing_is_sent() -> None:
    with wire_and_peer() as (wire, peer):
        wire.fail(ConnectionLost("over"))
        wire.carrier.send(bytearray(b"too late"))
        await wire.send_all(b"too late")
        wire.say_goodbye()
        assert not wire.carrier.busy
        wire.close()
        assert await receive_rest(peer) == b""


@any_socket
async def test_closing_wakes_every_task_and_can_be_done_again(pair: Pair) -> None:
    woken = []
    with wire_and_peer(pair=pair) as (wire, _):
        wire.attach(Collector())

        async def reader() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await wire.receive_some()
            woken.append("reader")

        async def writer() -> None:
            await wire.run_writer()
            woken.append("writer")

        async def producer() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await wire.carrier.wait_idle()
            woken.append("producer")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            nursery.start_soon(writer)
            wire.carrier.send(
                bytearray(3 << 20)
            )  # more than the kernel takes of somebody who does not read
            nursery.start_soon(producer)
            await trio.testing.wait_all_tasks_blocked()
            await wire.aclose()
        assert sorted(woken) == ["producer", "reader", "writer"]
        assert isinstance(wire.failure, ConnectionLost)
        await wire.aclose()
        wire.close()
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive_some()


async def test_the_writer_is_woken_by_the_end_of_an_idle_wire() -> None:
    with wire_and_peer() as (wire, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            await trio.testing.wait_all_tasks_blocked()
            wire.fail(ConnectionLost("over"))


async def test_the_writer_sees_a_peer_that_goes_while_it_waits() -> None:
    with wire_and_peer() as (wire, peer):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(1 << 20))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            await trio.testing.wait_all_tasks_blocked()
            peer.close()
        assert isinstance(wire.failure, ConnectionLost)
        assert not wire.carrier.busy


async def test_a_peer_that_never_reads_what_it_asks_for_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "MAX_BACKLOG", 100_000)
    with wire_and_peer() as (wire, _):
        shrink_buffers(wire)
        pong = frame(PONG, b"x" * 125)
        for _ in range(100_000 // len(pong)):
            await wire.send_all(pong)
        assert not wire.ended.is_set()
        for _ in range(10_000):
            await wire.send_all(pong)
        assert isinstance(wire.failure, ProtocolError)
        assert not wire.carrier.busy  # nothing of it is kept


async def test_a_goodbye_never_lands_in_the_middle_of_a_frame() -> None:
    with wire_and_peer() as (wire, peer):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(500_000))
        wire.say_goodbye()
        wire.close()
        events = read_by_wsproto(await receive_rest(peer), from_client=False)
        assert set(payload_of(events)) == {0}  # nothing but the beginning of the message


async def test_a_goodbye_is_a_close_frame() -> None:
    with wire_and_peer() as (wire, peer):
        wire.say_goodbye()
        (event,) = read_by_wsproto(await receive(peer), from_client=False)
        assert event.code == 1000  # type: ignore[attr-defined]


async def test_a_client_says_no_goodbye_to_what_is_no_websocket_yet() -> None:
    with wire_and_peer(client=True) as (wire, peer):
        wire.say_goodbye()
        wire.fail(FrameError(PROTOCOL_ERROR, "cannot be"))
        assert waiting(peer) == b""


async def test_a_reset_while_sending_ends_the_wire() -> None:
    with wire_and_peer(pair=tcp_pair) as (wire, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        await trio.lowlevel.wait_readable(wire._sock)
        wire.carrier.send(bytearray(b"x"))
        assert isinstance(wire.failure, ConnectionLost)
