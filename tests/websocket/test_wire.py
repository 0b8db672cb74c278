"""The wire: one socket, a peer that sends raw bytes, and nobody else in between."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, ProtocolError, UpgradeRefused
from cotun_trio.net.sockets import set_nonblocking_and_nodelay
from cotun_trio.websocket.wire import MAX_HEAD
from tests.support.frames import BINARY, CLOSE, PING, PONG, frame, payload_of, read_by_wsproto
from tests.support.sockets import receive, receive_rest, send_all, tcp_pair, unix_pair, waiting
from tests.support.wires import ACCEPTED, Collector, key_for, shrink_buffers, wire_and_peer, wire_on

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


def messages(data: bytes, *, from_client: bool) -> bytes:
    """Return the payload of the binary messages that `data` is."""
    return payload_of(read_by_wsproto(data, from_client=from_client))


# ---- reading


@any_socket
async def test_data_goes_to_the_receiver_and_control_frames_come_back(pair: Pair) -> None:
    receiver = Collector()
    with wire_and_peer(pair=pair) as (wire, peer):
        wire.attach(receiver)
        key = key_for(client=False)
        ping, pong = frame(PING, b"?", key=key), frame(PONG, key=key)
        await send_all(peer, frame(BINARY, b"one", key=key) + ping + frame(BINARY, b"two", key=key))
        assert await wire.receive_some() == ping
        assert receiver.data == b"onetwo"
        await send_all(peer, pong + frame(BINARY, b"three", key=key) + ping)
        assert await wire.receive_some() == ping  # a pong is of no use to anybody
        assert receiver.data == b"onetwothree"
        assert receiver.batches == [6, 5]
        assert wire.bytes_in == 2 * len(ping) + len(pong) + 11 + 3 * 6


async def test_the_head_is_shown_first_and_what_came_with_it_counts_before_what_is_read() -> None:
    key = key_for(client=False)
    receiver = Collector()
    early = frame(BINARY, b"early ", key=key)
    with wire_and_peer(head=b"GET / ...", early=early) as (wire, peer):
        await send_all(peer, frame(BINARY, b"late", key=key) + frame(PING, key=key))
        assert await wire.receive_some() == b"GET / ..."
        wire.attach(receiver)
        assert await wire.receive_some() == frame(PING, key=key)
        assert receiver.data == b"early late"
        assert receiver.batches == [6, 4]


async def test_a_control_frame_that_came_with_the_head_is_not_lost() -> None:
    early = frame(PING, b"impatient", key=key_for(client=False))
    with wire_and_peer(head=b"head", early=early) as (wire, _):
        wire.attach(Collector())
        assert await wire.receive_some() == b"head"
        assert await wire.receive_some() == early


async def test_a_frame_cut_in_two_between_the_head_and_the_rest_is_put_together() -> None:
    key = key_for(client=False)
    whole = frame(BINARY, b"x" * 300, key=key)
    for at in range(len(whole)):
        receiver = Collector()
        with wire_and_peer(early=whole[:at]) as (wire, peer):
            wire.attach(receiver)
            await send_all(peer, whole[at:] + frame(PING, key=key))
            await wire.receive_some()
            assert receiver.data == b"x" * 300


async def test_nothing_is_read_before_there_is_a_receiver(autojump: object) -> None:
    data = frame(BINARY, b"data", key=key_for(client=False)) + frame(CLOSE, key=b"abcd")
    with wire_and_peer() as (wire, peer):
        peer.send(data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            assert wire.bytes_in == 0
            wire.attach(Collector())
        assert wire.bytes_in == len(data)


async def test_a_receiver_that_pauses_stops_the_reading(autojump: object) -> None:
    key = key_for(client=False)
    with server() as (wire, peer, receiver):
        receiver.pause()
        peer.send(frame(BINARY, b"patience", key=key) + frame(PING, key=key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            assert not receiver.data
            assert waiting(wire._sock)  # it is left in the kernel
            receiver.resume()
        assert receiver.data == b"patience"


# ---- reading, as a client: the response to the upgrade


async def test_a_response_cut_at_any_byte_is_split_from_the_frames_behind_it() -> None:
    behind = frame(BINARY, b"SSH-chisel-v3-server\r\n\r\n") + frame(PING)
    stream = HEAD + behind
    for at in range(1, len(stream)):
        receiver = Collector()
        with wire_and_peer(client=True) as (wire, peer):
            peer.send(stream[:at])
            head = await wire.receive_some()
            peer.send(stream[at:])
            if len(head) < len(HEAD):
                head += await wire.receive_some()
            assert head == HEAD, at
            wire.attach(receiver)
            assert await wire.receive_some() == frame(PING), at
            assert receiver.data == b"SSH-chisel-v3-server\r\n\r\n", at


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"101 Switching Protocols", b"101"),
        HEAD.replace(b"101 Switching Protocols", b"101 "),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["bare line feeds", "no reason", "an empty reason", "HTTP/1.0"],
)
async def test_what_h11_takes_for_a_101_is_one_to_the_wire_too(head: bytes) -> None:
    # Else trio-websocket would see frames which are not for it.
    receiver = Collector()
    with wire_and_peer(client=True) as (wire, peer):
        wire.attach(receiver)
        await send_all(peer, head + frame(BINARY, b"data") + frame(PING))
        assert await wire.receive_some() == head
        assert await wire.receive_some() == frame(PING)
        assert receiver.data == b"data"


@pytest.mark.parametrize("status", [100, 200, 302, 404, 503])
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: 5\r\n\r\n",
        b"\r\n",
        b"Content-Length: 1000000000\r\n\r\n" + b"x" * 50_000,
        b"Transfer-Encoding: chunked\r\n\r\nnonsense",
    ],
    ids=["with body", "body to come", "body until the end", "large body", "bad body"],
)
async def test_any_other_answer_ends_the_wire_at_its_head(status: int, rest: bytes) -> None:
    with wire_and_peer(client=True) as (wire, peer):
        await send_all(peer, b"HTTP/1.1 %d Whatever\r\nServer: x\r\n" % status + rest)
        with pytest.raises(trio.BrokenResourceError):
            await wire.receive_some()
        assert wire.ended.is_set()
        assert isinstance(wire.failure, UpgradeRefused)
        assert wire.failure.status == status


async def test_a_refusal_with_a_very_long_head_is_one() -> None:
    with wire_and_peer(client=True) as (wire, peer):
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nPolicy: " + b"x" * MAX_HEAD)
        with pytest.raises(trio.BrokenResourceError):
            await wire.receive_some()
        assert isinstance(wire.failure, UpgradeRefused)
        assert "points to /login" in str(wire.failure)


async def test_a_response_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    filler = MAX_HEAD - len(HEAD) - len(b"X: \r\n")
    for more in (0, 1):
        head = HEAD[:-2] + b"X: " + b"x" * (filler + more) + b"\r\n\r\n"
        assert len(head) == MAX_HEAD + more
        for pieces in ([head], [head[:-1], head[-1:]], [head[:5000], head[5000:]]):
            with wire_and_peer(client=True) as (wire, peer):
                got = b""
                try:
                    for piece in pieces:
                        peer.send(piece)
                        got += await wire.receive_some()
                except trio.BrokenResourceError:
                    assert more
                    assert isinstance(wire.failure, ProtocolError)
                else:
                    assert not more
                    assert got == head


async def test_a_response_head_without_an_end_ends_the_wire() -> None:
    with wire_and_peer(client=True) as (wire, peer):
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(MAX_HEAD // 1000 + 1):
                peer.send(b"HTTP/1.1 101 x\r\n".ljust(1000, b"x"))
                await wire.receive_some()
        assert isinstance(wire.failure, ProtocolError)
        assert wire.bytes_in <= MAX_HEAD + 1000


async def test_a_server_that_closes_in_the_middle_of_its_response_is_lost() -> None:
    with wire_and_peer(client=True) as (wire, peer):
        peer.send(HEAD[:20])
        peer.close()
        assert await wire.receive_some() == HEAD[:20]
        assert await wire.receive_some() == b""
        assert isinstance(wire.failure, ConnectionLost)


# ---- sending


@both_roles
async def test_what_is_sent_arrives_as_binary_messages(client: bool) -> None:
    with wire_and_peer(client=client) as (wire, peer):
        wire.carrier.send(bytearray(b"small"))
        wire.carrier.send(memoryview(b"x" * 10_000))
        wire.close()
        data = await receive_rest(peer)
        assert messages(data, from_client=client) == b"small" + b"x" * 10_000
        assert wire.bytes_out == len(data)


@any_socket
@both_roles
async def test_everything_arrives_in_order_once_a_slow_peer_reads(pair: Pair, client: bool) -> None:
    sent = b"".join(bytes((number,)) * 40_000 for number in range(100))
    with wire_and_peer(client=client, pair=pair) as (wire, peer):
        shrink_buffers(wire)
        for start in range(0, len(sent), 40_000):
            wire.carrier.send(bytearray(sent[start : start + 40_000]))
        assert wire.carrier.busy
        got = bytearray()

        async def read() -> None:
            got.extend(await receive_rest(peer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(read)
            await wire.carrier.wait_idle()
            wire.close()
        assert messages(bytes(got), from_client=client) == sent
        assert wire.bytes_out == len(got)


class Stingy(socket.socket):
    """Takes of each write as much as a script says, then all."""

    takes: list[int]

    def sendmsg(self, buffers: Any, *_: Any) -> int:
        """See `socket.socket.sendmsg`."""
        return self.send(b"".join(buffers))

    def send(self, data: Any, *_: Any) -> int:
        """See `socket.socket.send`."""
        if not self.takes:
            return super().send(data)
        if not (size := self.takes.pop(0)):
            raise BlockingIOError
        return super().send(bytes(data)[:size])


@contextlib.contextmanager
def stingy_wire(*takes: int) -> Iterator[tuple[Wire, Stingy, socket.socket]]:
    """Give a wire whose kernel takes little at a time, its socket, and that of its peer."""
    with unix_pair() as (ours, peer), Stingy(fileno=ours.detach()) as sock:
        sock.takes = list(takes)
        with wire_on(sock) as wire:
            yield wire, sock, peer


@pytest.mark.parametrize("size", [10, 5000])
async def test_whatever_part_the_kernel_takes_the_rest_follows_in_order(size: int) -> None:
    frame_size = size + (2 if size < 126 else 4)
    for taken in {0, 1, 2, 3, frame_size // 2, frame_size - 2, frame_size - 1}:
        with stingy_wire(taken) as (wire, sock, peer):
            wire.carrier.send(bytearray(b"a" * size))
            assert wire.carrier.busy
            # From here on the kernel would take everything, but it is not their turn.
            wire.carrier.send(bytearray(b"b" * size))
            wire.say_goodbye()  # has no place in the middle of a frame
            sock.takes = [0, 1, 2, 0, 3]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wire.run_writer)
                await wire.carrier.wait_idle()
                wire.close()
            data = await receive_rest(peer)
            assert messages(data, from_client=False) == b"a" * size + b"b" * size


async def test_a_control_frame_waits_its_turn_behind_the_backlog() -> None:
    with wire_and_peer() as (wire, peer):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(200_000))
        await wire.send_all(frame(PONG, b"last"))  # does not wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            data = b""
            while not data.endswith(frame(PONG, b"last")):
                data += await receive(peer)
            wire.close()
        events = read_by_wsproto(data, from_client=False)
        assert payload_of(events[:-1]) == bytes(200_000)


async def test_the_end_of_a_backlog_wakes_all_who_wait_for_it() -> None:
    # One of them may go and wait for its own socket: 208 of 3000 connections hung of that.
    with wire_and_peer() as (wire, peer):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(500_000))
        woken = []

        async def producer(number: int) -> None:
            await wire.carrier.wait_idle()
            woken.append(number)
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(producer, number)
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(receive_rest, peer)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(woken) == [0, 1, 2, 3, 4]
            nursery.cancel_scope.cancel()


async def test_the_writer_goes_on_with_the_next_backlog() -> None:
    with wire_and_peer() as (wire, peer):
        shrink_buffers(wire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(receive_rest, peer)
            for _ in range(3):
                wire.carrier.send(bytearray(300_000))
                assert wire.carrier.busy
                await wire.carrier.wait_idle()
            nursery.cancel_scope.cancel()


async def test_nobody_waits_while_there_is_no_backlog(autojump: object) -> None:
    with wire_and_peer() as (wire, _):
        wire.carrier.send(bytearray(b"taken at once"))
        assert not wire.carrier.busy
        await wire.carrier.wait_idle()
        await wire.wait_send_all_might_not_block()


async def test_waiting_for_the_end_of_a_backlog_fails_when_it_never_comes() -> None:
    with wire_and_peer() as (wire, _):
        shrink_buffers(wire)
        wire.carrier.send(bytearray(500_000))
        wire.fail(ConnectionLost("over"))
        with pytest.raises(trio.BrokenResourceError):
            await wire.carrier.wait_idle()


def test_the_wire_makes_a_tcp_socket_nonblocking_and_sends_at_once() -> None:
    with tcp_pair() as (sock, _):
        sock.setblocking(True)
        set_nonblocking_and_nodelay(sock)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
