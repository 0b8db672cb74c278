"""Graceful shutdown: open streams have their time, peers are told why, nothing delays the end."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.client.client import Client
from cotun_trio.server.server import Server
from cotun_trio.session import PARTING
from cotun_trio.settings import ServerUrl, Timings
from tests.support.ends import ask, udp_echo, udp_socket
from tests.support.faults import fault_proxy
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    listening,
    random_bytes,
    receive_all,
    receive_exactly,
    sha256,
)
from tests.support.tunnel import (
    WatchedClient,
    client_settings,
    running_client,
    running_server,
    server_settings,
    switchable_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Started = trio.TaskStatus[None]

GRACE = 5.0


@attrs.define
class Run:
    """A server and a client that are shut down rather than cancelled."""

    server: Server
    client: WatchedClient
    server_ended: trio.Event = attrs.field(factory=trio.Event)
    client_ended: trio.Event = attrs.field(factory=trio.Event)

    def ended(self, which: Server | Client) -> trio.Event:
        """Return what is set when one of the two has ended by itself."""
        return self.server_ended if which is self.server else self.client_ended


@contextlib.asynccontextmanager
async def both(*remotes: str, grace: float = GRACE, **server: object) -> AsyncIterator[Run]:
    """Run a server, and a client with a session; `remotes` have ``TARGET`` for an echo target."""
    timings = Timings(shutdown_grace=grace)
    async with listening(echo) as target, trio.open_nursery() as nursery:
        remotes = remotes or (f"{LOOPBACK}:0:TARGET",)
        remotes = tuple(remote.replace("TARGET", target) for remote in remotes)
        the_server = Server(server_settings(timings=timings, **server))
        run = Run(the_server, None)  # type: ignore[arg-type]

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            await the_server.run(task_status=task_status)
            run.server_ended.set()

        async def be_client(task_status: trio.TaskStatus[None]) -> None:
            await run.client.run(task_status=task_status)
            run.client_ended.set()

        await nursery.start(serve)
        run.client = WatchedClient(
            client_settings(the_server.addresses[0], *remotes, timings=timings)
        )
        await nursery.start(be_client)
        await run.client.opened()
        yield run
        nursery.cancel_scope.cancel()


BOTH = pytest.mark.parametrize("which", ["server", "client"])


def side(run: Run, which: str) -> Server | Client:
    """Return one of the two."""
    return run.server if which == "server" else run.client


# ---- what is open, and what is not


@BOTH
async def test_with_nothing_open_the_end_comes_at_once(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with nothing_left(), both() as run:
        since = trio.current_time()
        side(run, which).shut_down()
        await run.ended(side(run, which)).wait()
        assert trio.current_time() - since < 0.1


@BOTH
async def test_an_open_stream_goes_on_and_the_end_waits_for_it(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    data = random_bytes(MiB)
    async with both() as run, await connect(run.client.addresses[0]) as stream:
        assert await echoes(stream)
        side(run, which).shut_down()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert sha256(await receive_exactly(stream, len(data))) == sha256(data)
        await trio.sleep(GRACE - 2)
        assert not run.ended(side(run, which)).is_set()
        await stream.send_eof()
        assert await receive_all(stream) == b""
        since = trio.current_time()
        await run.ended(side(run, which)).wait()
        assert trio.current_time() - since < 0.1


@BOTH
async def test_a_stream_that_does_not_end_is_cut_after_the_grace(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with nothing_left(), both() as run, await connect(run.client.addresses[0]) as stream:
        assert await echoes(stream)
        since = trio.current_time()
        side(run, which).shut_down()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert trio.current_time() - since == pytest.approx(GRACE, abs=0.1)
        await run.ended(side(run, which)).wait()


@BOTH
async def test_nothing_is_accepted_any_more(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with both() as run, await connect(run.client.addresses[0]) as stream:
        assert await echoes(stream)
        address = side(run, which).addresses[0]
        side(run, which).shut_down()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="all attempts to connect"):
            await connect(address)
        assert await echoes(stream)


@BOTH
async def test_a_reverse_port_is_closed_and_its_streams_go_on(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with both(f"R:{LOOPBACK}:0:TARGET", reverse=True) as run:
        (address,) = (await run.client.opened()).reverse_addresses
        async with await connect(address) as stream:
            assert await echoes(stream)
            side(run, which).shut_down()
            await trio.sleep(0.1)
            with pytest.raises(OSError, match="all attempts to connect"):
                await connect(address)
            assert await echoes(stream)
            await stream.send_eof()
            assert await receive_all(stream) == b""
        await run.ended(side(run, which)).wait()


async def test_a_server_is_not_told_of_reverse_remotes_again_in_the_end(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, both(f"R:{LOOPBACK}:0:{LOOPBACK}:1", reverse=True) as run:
        run.client.shut_down()
        await run.client_ended.wait()
    assert not log.find("other remotes", "server")
    assert len(log.find("The server listens on", "client")) == 1


@BOTH
async def test_datagrams_hold_nothing_up(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with (
        udp_echo() as target,
        both(f"{LOOPBACK}:0:{target}/udp") as run,
        udp_socket() as (sock, _),
    ):
        assert await ask(sock, run.client.addresses[0], b"hello") == b"hello"
        since = trio.current_time()
        side(run, which).shut_down()
        await run.ended(side(run, which)).wait()
        assert trio.current_time() - since < 0.1


# ---- peers


@BOTH
async def test_the_peer_is_told_why(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, both() as run:
        side(run, which).shut_down()
        if which == "server":
            await log.wait_for("Disconnected: .*the server is shutting down", "client")
        else:
            await log.wait_for("closed after .*: the client is shutting down", "server")
        assert not log.lines(level=logging.WARNING)


@BOTH
async def test_a_stuck_peer_holds_nothing_up(
    which: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with (
        listening(echo) as target,
        fault_proxy("nowhere") as proxy,
        trio.open_nursery() as nursery,
    ):
        ended = {"server": trio.Event(), "client": trio.Event()}

        async def run(program: Server | Client, name: str, task_status: Started) -> None:
            await program.run(task_status=task_status)
            ended[name].set()

        timings = Timings(shutdown_grace=GRACE)
        server = Server(server_settings(timings=timings, keepalive=0))
        await nursery.start(run, server, "server")
        proxy.target = server.addresses[0]
        remote = f"{LOOPBACK}:0:{target}"
        settings = client_settings(proxy.address, remote, timings=timings, keepalive=0)
        client = WatchedClient(settings)
        await nursery.start(run, client, "client")
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
            proxy.stall()
            since = trio.current_time()
            (server if which == "server" else client).shut_down()
            await ended[which].wait()
            # The parting takes a moment, in vain.
            assert trio.current_time() - since == pytest.approx(GRACE + PARTING, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_a_client_moves_on_while_its_streams_end_at_the_old_server(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    timings = Timings(shutdown_grace=60)
    async with (
        listening(echo) as target,
        running_server(timings=timings) as old,
        running_server(timings=timings) as new,
        fault_proxy(old.addresses[0]) as proxy,
        running_client(proxy.address, f"{LOOPBACK}:0:{target}") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
            proxy.target = new.addresses[0]
            old.shut_down()
            await client.opened(2)
            assert await echoes(stream)
            async with await connect(client.addresses[0]) as another:
                assert await echoes(another)
                assert len(client.sessions[0].connection.channels) == 1
                assert len(client.sessions[1].connection.channels) == 1
            await stream.send_eof()
            assert await receive_all(stream) == b""
        # The old one goes, and that is no news for the new one.
        await client.sessions[0].wire.ended.wait()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
        assert len(client.sessions) == 2


async def test_servers_that_are_about_to_end_for_ever_do_not_pile_up(
    autojump_with_sockets: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotun_trio.client.running_sessions.MAX_LEAVING", 2)
    timings = Timings(shutdown_grace=3600)
    async with (
        listening(echo) as target,
        running_server(timings=timings) as first,
        fault_proxy(first.addresses[0]) as proxy,
        running_client(proxy.address, f"{LOOPBACK}:0:{target}") as client,
        contextlib.AsyncExitStack() as stack,
    ):
        streams, server = [], first
        for number in range(1, 5):
            await client.opened(number)
            streams.append(await stack.enter_async_context(await connect(client.addresses[0])))
            assert await echoes(streams[-1])
            following = await stack.enter_async_context(running_server(timings=timings))
            proxy.target = following.addresses[0]
            server.shut_down()
            server = following
        await client.opened(5)
        *cut, last = streams
        for stream in cut:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert await echoes(last)
        assert len(client._running.present) == 2


async def test_a_connection_that_comes_in_between_waits_for_the_next_session(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    timings = Timings(shutdown_grace=60)
    async with (
        switchable_server(timings=timings) as switch,
        listening(echo) as target,
        running_client(switch.address, f"{LOOPBACK}:0:{target}") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
            switch.server.shut_down()
            await trio.sleep(0.1)
            async with await connect(client.addresses[0]) as early:
                await early.send_all(b"early")
                await stream.aclose()
                await switch.stopped()
                await switch.start()
                assert await receive_exactly(early, 5) == b"early"


async def test_what_has_come_whole_is_still_delivered_to_a_slow_reader(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    data = random_bytes(8 * MiB)

    async def pour_and_close(stream: trio.SocketStream) -> None:
        await stream.send_all(data)

    async with (
        listening(pour_and_close) as target,
        both(f"{LOOPBACK}:0:{target}") as run,
        await connect(run.client.addresses[0]) as stream,
    ):
        first = await receive_exactly(stream, 1)
        await stream.send_eof()
        run.server.shut_down()
        received = first + await receive_exactly(stream, 6 * MiB)
        # The rest is in windows and buffers; the server has gone, having sent it all.
        await run.server_ended.wait()
        received += await receive_all(stream)
        assert sha256(received) == sha256(data)


# ---- on the way in


async def test_who_is_on_the_way_in_still_gets_there_and_is_told_to_go(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watch_logs() as log, both() as run:
        async with await connect(run.server.addresses[0]) as late:
            await trio.testing.wait_all_tasks_blocked()
            run.server.shut_down()
            await late.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await receive_all(late)).startswith(b"HTTP/1.1 200 OK")
        await run.server_ended.wait()
        await log.wait_for("Disconnected: ", "client")


async def test_who_says_nothing_is_cut_after_the_grace(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with both() as run, await connect(run.server.addresses[0]) as silent:
        await trio.testing.wait_all_tasks_blocked()
        since = trio.current_time()
        run.server.shut_down()
        assert await receive_all(silent) == b""
        assert trio.current_time() - since == pytest.approx(GRACE, abs=0.1)
        await run.server_ended.wait()


async def test_an_idle_client_of_the_back_end_is_let_go_and_a_busy_one_has_its_answer(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    asked, answer = trio.Event(), trio.Event()

    async def back_end(stream: trio.SocketStream) -> None:
        while request := await stream.receive_some():
            if b"slow" in request:
                asked.set()
                await answer.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with listening(back_end) as address:
        backend = ServerUrl.parse(address)
        async with (
            both(backend=backend) as run,
            await connect(run.server.addresses[0]) as idle,
            await connect(run.server.addresses[0]) as busy,
        ):
            await idle.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answered = b""
            while not answered.endswith(b"ok"):
                answered += await idle.receive_some()
            await busy.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await asked.wait()
            since = trio.current_time()
            run.server.shut_down()
            assert await receive_all(idle) == b""
            assert trio.current_time() - since < 0.1
            answer.set()
            answered = await receive_all(busy)
            assert answered.endswith(b"ok")
            assert b"connection: close" in answered.lower()
            await run.server_ended.wait()


# ---- a client without a session


async def test_a_client_without_a_session_ends_at_once_and_turns_away_who_waits(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with switchable_server() as switch:
        await switch.stop()
        client = Client(client_settings(switch.address, f"{LOOPBACK}:0:{LOOPBACK}:9"))
        async with nothing_left(), trio.open_nursery() as nursery:
            await nursery.start(client.run)
            async with await connect(client.addresses[0]) as waiting:
                await trio.sleep(1)
                since = trio.current_time()
                client.shut_down()
                with pytest.raises(trio.BrokenResourceError):
                    await waiting.receive_some()
                assert trio.current_time() - since < 0.1
