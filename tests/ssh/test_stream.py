"""A channel as a stream: what Trio says of a half-closeable one holds, and nothing gets lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost
from cotun_trio.ssh.stream import DEFAULT_RECEIVE, ChannelStream
from cotun_trio.ssh.window import STEPS, WINDOW
from tests.support.ssh_connection import ConnectionPair, Dialogue, send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def joined(nursery: trio.Nursery) -> tuple[ConnectionPair, ChannelStream, ChannelStream]:
    """Return both ends of a channel, whose bytes are carried in the background."""
    pair = ConnectionPair()
    asked, given = await pair.open()
    nursery.start_soon(pair.pump_forever)
    return pair, ChannelStream(asked), ChannelStream(given)


@pytest.mark.slow
async def test_it_is_a_half_closeable_stream_as_trio_has_it() -> None:
    async with trio.open_nursery() as nursery:

        async def make() -> tuple[ChannelStream, ChannelStream]:
            return (await joined(nursery))[1:]

        async def make_clogged() -> tuple[ChannelStream, ChannelStream]:
            _, ours, theirs = await joined(nursery)
            for stream in (ours, theirs):
                assert send(stream._channel, bytes(WINDOW)) == WINDOW
            await trio.testing.wait_all_tasks_blocked()
            return ours, theirs

        await trio.testing.check_half_closeable_stream(make, make_clogged)
        nursery.cancel_scope.cancel()


async def test_what_was_sent_arrives_whole_and_in_order() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        data = bytes(range(256)) * 20_000
        received = bytearray()

        async def receive() -> None:
            async for chunk in theirs:
                assert len(chunk) <= DEFAULT_RECEIVE
                received.extend(chunk)

        async with trio.open_nursery() as work:
            work.start_soon(receive)
            await ours.send_all(memoryview(data))
            await ours.send_eof()
        assert received == data
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_tiny_packets_does_not_make_others_wait() -> None:
    stream = ChannelStream(Dialogue().accept(max_packet=1))
    turns = 0

    async def bystander() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        await stream.send_all(bytes(100))
        nursery.cancel_scope.cancel()
    assert turns > 90  # one for each packet, except at the beginning and the end


async def test_a_sender_that_nobody_receives_from_stops_at_the_window() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        done = []

        async def sender() -> None:
            await ours.send_all(bytes(WINDOW + 1))
            done.append(True)

        nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        assert ours._channel.bytes_out == WINDOW
        assert not done
        received = 0
        while received < WINDOW // STEPS:
            received += len(await theirs.receive_some())
        await trio.testing.wait_all_tasks_blocked()
        assert done
        nursery.cancel_scope.cancel()


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        received = bytearray()

        async def receive() -> None:
            received.extend(await theirs.receive_some())

        for i in range(20):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(receive)
                    for _ in range(i % 5):
                        await trio.lowlevel.checkpoint()
                    send(ours._channel, b"%d " % i)
                    for _ in range(i // 5):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        await ours.send_eof()
        async for chunk in theirs:
            received += chunk
        assert received.split() == [b"%d" % i for i in range(20)]
        nursery.cancel_scope.cancel()


async def test_a_cancelled_send_leaves_the_stream_usable() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(ours.send_all, b"a" * (WINDOW + 100))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        sent = ours._channel.bytes_out
        received = bytearray()
        while len(received) < sent:
            received += await theirs.receive_some()
        await ours.send_all(b"next")
        assert await theirs.receive_some() == b"next"
        assert received == b"a" * sent
        nursery.cancel_scope.cancel()


async def test_when_the_connection_is_lost_what_had_arrived_is_still_to_be_had() -> None:
    pair = ConnectionPair()
    asked, given = await pair.open()
    ours, theirs = ChannelStream(asked), ChannelStream(given)
    send(asked, b"the last bytes")
    pair.pump()
    pair.lose(ConnectionLost("cut"))
    assert await theirs.receive_some(8) == b"the last"
    assert await theirs.receive_some() == b" bytes"
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()
    for stream in (ours, theirs):
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.wait_send_all_might_not_block()
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


@pytest.mark.parametrize("ended", [True, False])
async def test_an_end_that_had_arrived_is_an_end_even_when_the_connection_is_lost(
    ended: bool,
) -> None:
    pair = ConnectionPair()
    asked, given = await pair.open()
    theirs = ChannelStream(given)
    send(asked, b"all")
    if ended:
        asked.send_eof()
    pair.pump()
    pair.lose(ConnectionLost("cut"))
    assert await theirs.receive_some() == b"all"
    if ended:
        assert await theirs.receive_some() == b""
    else:
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()


WAITS: list[Callable[[ChannelStream], Awaitable[object]]] = [
    lambda stream: stream.receive_some(),
    lambda stream: stream.send_all(bytes(WINDOW + 1)),
]


@pytest.mark.parametrize("wait", WAITS, ids=["receiving", "sending"])
async def test_whoever_waits_learns_that_the_connection_is_lost(
    wait: Callable[[ChannelStream], Awaitable[object]],
) -> None:
    async with trio.open_nursery() as nursery:
        pair, ours, _ = await joined(nursery)

        async def waiter() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await wait(ours)

        async with trio.open_nursery() as work:
            work.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            pair.lose(ConnectionLost("cut"))
        nursery.cancel_scope.cancel()


async def test_sending_to_a_peer_that_has_closed_is_broken_and_receiving_ends() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        await theirs.aclose()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")
        assert await ours.receive_some() == b""
        await ours.send_eof()  # there is nobody to tell, and nothing wrong with it
        nursery.cancel_scope.cancel()


async def test_closing_wakes_the_receiver_without_waiting_for_the_peer() -> None:
    pair = ConnectionPair()
    ours = ChannelStream((await pair.open())[0])  # and nobody carries anything any more

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()


async def test_closing_both_ends_leaves_no_channel() -> None:
    async with trio.open_nursery() as nursery:
        pair, ours, theirs = await joined(nursery)
        await ours.send_all(b"never received")
        await ours.aclose()
        await theirs.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert pair.client.channels == pair.server.channels == {}
        nursery.cancel_scope.cancel()


async def test_views_of_any_shape_can_be_sent() -> None:
    async with trio.open_nursery() as nursery:
        _, ours, theirs = await joined(nursery)
        numbers = memoryview(b"\1\0\0\0\2\0\0\0").cast("I")
        await ours.send_all(numbers)
        assert await theirs.receive_some() == numbers.tobytes()
        nursery.cancel_scope.cancel()
