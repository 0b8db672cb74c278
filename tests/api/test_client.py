"""The embedded client, in memory: forwards, streams, listeners, events."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio import (
    Connected,
    ConnectionLost,
    ForwardFailed,
    Lost,
    Refused,
    ServerSettings,
    UsageError,
)
from cotun_trio.api.events import BUFFER
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import Timings
from cotun_trio.testing import tunnel_pair
from tests.support.leaks import nothing_left
from tests.support.targets import echoes, receive_all


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)
    await stream.send_eof()


async def test_a_stream_reaches_a_target_without_a_port_and_without_a_descriptor(
    autojump: trio.testing.MockClock,
) -> None:
    async with nothing_left(), tunnel_pair() as (server, client):
        server.handle("db.internal", 5432, echo)
        async with await client.open_tcp_stream("db.internal", 5432) as stream:
            assert await echoes(stream, b"x" * 3_000_000)


async def test_closing_a_stream_ends_what_was_sent_and_loses_none_of_it(
    autojump: trio.testing.MockClock,
) -> None:
    received: list[bytes] = []

    async def collect(stream: trio.abc.HalfCloseableStream) -> None:
        received.append(await receive_all(stream))

    async with tunnel_pair() as (server, client):
        server.handle("sink", 1, collect)
        async with await client.open_tcp_stream("sink", 1) as stream:
            await stream.send_all(b"to the last byte")
        await trio.testing.wait_all_tasks_blocked()
        assert received == [b"to the last byte"]


async def test_a_stream_closed_by_force_breaks_off_at_the_other_end(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp()
        theirs = await server.connect(listener.address)
        ours = await listener.accept()
        await ours.send_all(b"half")
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(ours)
        with pytest.raises(trio.BrokenResourceError):
            await receive_all(theirs)


async def test_a_stream_is_a_half_closeable_one_as_trio_has_it(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp()

        async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
            return await server.connect(listener.address), await listener.accept()

        await trio.testing.check_half_closeable_stream(make, None)


async def test_a_refusal_has_the_reason_of_the_other_end(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (_, client):
        with pytest.raises(Refused, match="nobody accepts it"):
            await client.open_tcp_stream("nowhere", 1)
        for host, port in (("", 1), ("host", 0), ("host", 65536), ("a b", 1)):
            with pytest.raises(UsageError):
                await client.open_tcp_stream(host, port)


async def test_a_forward_has_an_address_counts_and_can_be_closed(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        server.handle("db.internal", 5432, echo)
        forward = await client.forward("0:db.internal:5432")
        same = await client.forward("0:db.internal:5432")
        assert forward.remote == same.remote == "0.0.0.0:0:db.internal:5432"
        assert forward.address != same.address
        assert client.forwards == (forward, same)
        stream, other = await client.connect(forward.address), await client.connect(same.address)
        assert await echoes(stream, b"12345")
        stats = forward.stats()
        assert (stats.open, stats.total, stats.bytes_in, stats.bytes_out) == (1, 1, 5, 5)
        await forward.aclose()
        await forward.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(OSError, match="nobody listens"):
            await client.connect(forward.address)
        assert await echoes(other)  # of the same words, and another
        stats = forward.stats()
        assert (stats.open, stats.total, stats.bytes_in, stats.bytes_out) == (0, 1, 5, 5)
        assert client.forwards == (same,)


async def test_a_reverse_forward_comes_and_goes_at_run_time(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair(remotes=["R:0:base:1"]) as (server, client):
        client.handle("base", 1, echo)
        client.handle("web", 80, echo)
        (base,) = client.forwards
        forward = await client.forward("R:0:web:80")
        assert len(server.sessions()[0].remotes) == 2
        stream, kept = await server.connect(forward.address), await server.connect(base.address)
        assert await echoes(stream)
        assert forward.stats().open == 1
        await forward.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(OSError, match="nobody listens"):
            await server.connect(forward.address)
        assert await echoes(kept)
        await base.aclose()
        assert server.sessions()[0].remotes == ()


async def test_a_range_is_forwards_of_a_client_from_its_beginning(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair(remotes=["7000-7002:web:80-82", "R:7000-7001:db:1-2"]) as (
        server,
        client,
    ):
        for port in (80, 81, 82):
            server.handle("web", port, echo)
        for port in (1, 2):
            client.handle("db", port, echo)
        out, reverse = client.forwards[:3], client.forwards[3:]
        assert [each.remote for each in out] == [
            f"0.0.0.0:{7000 + n}:web:{80 + n}" for n in range(3)
        ]
        for ends, forwards in ((client, out), (server, reverse)):
            for forward in forwards:
                assert await echoes(await ends.connect(forward.address))
                assert forward.stats().total == 1
        assert len(server.sessions()[0].remotes) == 5


async def test_a_forward_at_run_time_is_no_range(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (_, client):
        for remote in ("7000-7002:web:80-82", "R:7000-7002"):
            with pytest.raises(UsageError, match="a range of 3 ports is as many remotes"):
                await client.forward(remote)
        assert client.forwards == ()


async def test_a_reverse_forward_that_the_server_refuses_is_raised_and_the_rest_goes_on(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (_, client):
        first = await client.forward("R:7000:web:80")
        with pytest.raises(Refused, match="Address already in use"):
            await client.forward("R:7000:web:81")
        assert client.forwards == (first,)
        await first.aclose()
        again = await client.forward("R:7000:web:81")
        assert again.address == "0.0.0.0:7000"
    async with tunnel_pair(ServerSettings()) as (_, client):
        with pytest.raises(Refused, match="not enabled"):
            await client.listen_tcp()


async def test_a_listener_accepts_and_listens_again_after_a_reconnect(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp()
        theirs = await server.connect(listener.address)
        async with await listener.accept() as ours:
            await ours.send_all(b"hello")
            await ours.send_eof()
            assert await receive_all(theirs) == b"hello"
            server.cut()
            with pytest.raises(trio.BrokenResourceError):
                await ours.receive_some()
        events = client.events()
        async for event in events:
            if isinstance(event, Connected):
                break
        await trio.testing.wait_all_tasks_blocked()
        await server.connect(listener.address)
        async with await listener.accept() as ours:
            pass
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        assert server.sessions()[0].remotes == ()


async def test_who_waits_to_be_accepted_is_cut_when_the_listener_closes(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        listener = await client.listen_tcp()
        accepted, waiting = [await server.connect(listener.address) for _ in range(2)]
        ours = await listener.accept()
        await listener.aclose()
        for stream in (ours, accepted, waiting):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        with pytest.raises(OSError, match="nobody listens"):
            await server.connect(listener.address)


async def test_events_say_what_happens(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (server, client):
        events = client.events()
        first = await anext(events)
        assert isinstance(first, Connected)
        assert first.server == "http://memory"
        forward = await client.forward("0:nowhere:1")
        with pytest.raises(trio.BrokenResourceError):
            await client.connect(forward.address)
        assert await anext(events) == ForwardFailed(forward, "nobody accepts it")
        server.cut()
        lost = await anext(events)
        assert isinstance(lost, Lost)
        assert "cut" in lost.reason
        assert 0 <= lost.retry_in <= 3
        assert isinstance(await anext(events), Connected)
    assert [event async for event in events] == []
    assert [type(event) async for event in client.events()] == [Connected]


async def test_a_slow_subscriber_loses_the_oldest_events(autojump: trio.testing.MockClock) -> None:
    async with tunnel_pair() as (_, client):
        events = client.events()
        forward = await client.forward("0:nowhere:1")
        for _ in range(BUFFER):
            with pytest.raises(trio.BrokenResourceError):
                await client.connect(forward.address)
    left = [event async for event in events]
    assert left == [ForwardFailed(forward, "nobody accepts it")] * BUFFER


async def test_a_reverse_port_that_another_has_taken_meanwhile_is_an_event_and_no_end(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair() as (server, client):
        forward = await client.forward("R:7000:web:80")
        other = await client.forward("R:7001:web:80")
        events = client.events()
        await anext(events)
        server.cut()
        await trio.testing.wait_all_tasks_blocked()
        await server._places.open_listener(Remote.parse("R:7000:other:1"))  # somebody else's
        assert isinstance(await anext(events), Lost)
        assert isinstance(await anext(events), Connected)
        failed = await anext(events)
        assert isinstance(failed, ForwardFailed)
        assert failed.forward is forward
        assert "7000" in failed.reason
        assert other.address == "0.0.0.0:7001"
        assert client.connected


async def test_without_a_tunnel_a_stream_is_waited_for_and_then_given_up(
    autojump: trio.testing.MockClock,
) -> None:
    async with tunnel_pair(timings=Timings(ssh_wait=10)) as (server, client):
        await server.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert not client.connected
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="no tunnel"):
            await client.open_tcp_stream("db", 1)
        assert trio.current_time() - began == pytest.approx(10)
        with pytest.raises(ConnectionLost, match="no tunnel"):
            await client.listen_tcp()


async def test_what_the_block_raises_comes_out_as_it_is(autojump: trio.testing.MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with tunnel_pair():
            raise KeyError("mine")


async def test_an_outer_cancellation_passes(autojump: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with tunnel_pair():
            await trio.sleep_forever()
    assert scope.cancelled_caught
