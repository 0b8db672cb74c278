"""With the Go original at the other end: chisel on PATH, or where ``$CHISEL`` says."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.session import Session
from cotun_trio.settings import Timings
from cotun_trio.ssh.connection import Connection
from cotun_trio.ssh.engine import Engine
from tests.support.programs import (
    WITH_CHISEL,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
)
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    pour,
    random_bytes,
    receive_all,
    receive_digest,
    receive_exactly,
    refused_address,
    sha256,
    turned_away,
)
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.ssh.global_requests import GlobalRequest
    from tests.support.programs import Program

pytestmark = WITH_CHISEL

PAIRS = {
    "our client": (chisel_server, our_client),
    "our server": (our_server, chisel_client),
}
READY = {"our client": r"client: Connected \(Latency ", "our server": "client: tun: SSH connected"}
BOTH = pytest.mark.parametrize("pair", PAIRS)


@contextlib.asynccontextmanager
async def pair_of(
    pair: str,
    target: str,
    *,
    server: tuple[str, ...] = (),
    client: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Program, Program, str]]:
    """Run a server and a client, one of them ours; give them and where the client listens."""
    run_server, run_client = PAIRS[pair]
    async with (
        run_server(*server, env=env) as (the_server, url),
        run_client(url, *client, target=target, env=env) as (the_client, local),
    ):
        await the_client.wait_for(READY[pair])
        yield the_server, the_client, local


async def fingerprint_of(server: Program) -> str:
    """Return what a server of either kind says that its fingerprint is."""
    return (await server.wait_for(r"Fingerprint (\S{43}=)"))[1]


@BOTH
async def test_tcp_is_forwarded(pair: str) -> None:
    async with listening(echo) as target, pair_of(pair, target) as (server, client, local):
        async with await connect(local) as stream:
            assert await echoes(stream)
        assert await client.stop() == 0 or pair == "our server"
        assert await server.stop() == 0 or pair == "our client"


@BOTH
async def test_a_transfer_in_flight_is_finished_when_ours_is_told_to_end(pair: str) -> None:
    data = random_bytes(32 * MiB)
    async with (
        listening(pour(data)) as target,
        pair_of(pair, target, env={"COTUN_SHUTDOWN_GRACE": "1m"}) as (server, client, local),
        await connect(local) as stream,
    ):
        program = server if pair == "our server" else client
        received = await receive_exactly(stream, 4 * MiB)
        program.send_signal(signal.SIGTERM)
        await program.wait_for("Shutting down")
        received += await receive_all(stream)
        await stream.aclose()
        assert sha256(received) == sha256(data)
        assert await program.wait() == 0


@contextlib.asynccontextmanager
async def in_process_pair_of(pair: str, target: str, **settings: Any) -> AsyncIterator[str]:
    """Run a server and a client, ours in this process; give where the client listens."""
    if pair == "our client":
        async with (
            chisel_server("--keepalive", "50ms") as (_, url),
            running_client(url, f"{LOOPBACK}:0:{target}", **settings) as client,
        ):
            await client.opened()
            yield client.addresses[0]
            assert len(client.sessions) == 1
    else:
        async with (
            running_server(**settings) as server,
            chisel_client(
                f"http://{server.addresses[0]}", "--keepalive", "50ms", target=target
            ) as (program, local),
        ):
            await program.wait_for(READY[pair])
            yield local
            assert not program.find("Disconnected")


@functools.cache
def up_and_down() -> tuple[bytes, bytes]:
    """Return what goes through in each direction."""
    return random_bytes(64 * MiB, 1), random_bytes(64 * MiB, 2)


async def exchange_64_mib(local: str, arrivals: trio.MemoryReceiveChannel[str]) -> None:
    """Check that 64 MiB each way at once through a tunnel to `counting_target` are unchanged."""
    up, down = up_and_down()
    async with await connect(local) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, up)
        assert sha256(await receive_exactly(stream, len(down))) == sha256(down)
        # Only now may it end: chisel up to 1.11 closes both ways at the first EOF.
        assert await arrivals.receive() == sha256(up)


@contextlib.asynccontextmanager
async def counting_target() -> AsyncIterator[tuple[str, trio.MemoryReceiveChannel[str]]]:
    """Run the target for `exchange_64_mib`: give its address, and the digests of what came."""
    send, receive = trio.open_memory_channel[str](1)
    up, down = up_and_down()

    async def handler(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, down)
            await send.send(sha256(await receive_exactly(stream, len(up))))

    async with listening(handler) as address:
        yield address, receive


@BOTH
async def test_64_mib_each_way_at_once_arrive_unchanged(pair: str) -> None:
    async with (
        counting_target() as (target, arrivals),
        pair_of(pair, target) as (server, client, local),
    ):
        await exchange_64_mib(local, arrivals)
        for program in (server, client):
            assert not program.find("Disconnected|closed after")


@BOTH
async def test_64_mib_each_way_at_once_arrive_unchanged_with_new_keys_after_every_mib(
    pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = 0
    finish = Engine._finish_key_exchange

    def counted(engine: Engine) -> object:
        nonlocal exchanges
        exchanges += 1
        return finish(engine)

    monkeypatch.setattr(Engine, "_finish_key_exchange", counted)
    async with (
        counting_target() as (target, arrivals),
        in_process_pair_of(pair, target, timings=Timings(rekey_bytes=MiB)) as local,
    ):
        await exchange_64_mib(local, arrivals)
    assert exchanges >= 64


@BOTH
async def test_the_right_password_and_fingerprint_let_in(pair: str) -> None:
    run_server, run_client = PAIRS[pair]
    async with listening(echo) as target, run_server("--auth", "alice:s3cret") as (server, url):
        fingerprint = await fingerprint_of(server)
        async with run_client(
            url, "--auth", "alice:s3cret", "--fingerprint", fingerprint, target=target
        ) as (client, local):
            await client.wait_for(READY[pair])
            async with await connect(local) as stream:
                assert await echoes(stream)


@BOTH
@pytest.mark.parametrize("auth", ["alice:wrong", "bob:s3cret", None])
async def test_a_wrong_password_or_none_does_not(pair: str, auth: str | None) -> None:
    run_server, run_client = PAIRS[pair]
    credentials = ("--auth", auth) if auth else ()
    async with (
        run_server("--auth", "alice:s3cret") as (server, url),
        run_client(url, *credentials, target="x:1") as (client, _),
    ):
        await client.wait_for("Authentication failed")
        if pair == "our client":
            assert await client.wait() == 4
        else:
            user = auth.partition(":")[0] if auth else ""
            await server.wait_for(f"Authentication failed from 127.0.0.1 for user '{user}'")
        assert not client.find(r"Connected \(Latency ")


@BOTH
async def test_a_wrong_fingerprint_is_refused(pair: str) -> None:
    run_server, run_client = PAIRS[pair]
    async with run_server("-v") as (server, url):
        right = await fingerprint_of(server)
        wrong = "A" + right[1:] if right[0] != "A" else "B" + right[1:]
        async with run_client(url, "--fingerprint", wrong, target="x:1") as (client, _):
            await client.wait_for(re.escape(f"Invalid fingerprint ({right})"))
            assert not client.find(r"Connected \(Latency ")


@BOTH
async def test_a_refused_target_ends_the_connection_and_not_the_session(pair: str) -> None:
    async with pair_of(pair, refused_address(), server=("-v",)) as (server, client, local):
        await turned_away(local)  # chisel ends it in good order, as if it had been served
        await server.wait_for("refused")
        assert not client.find("Disconnected|Retrying")


async def test_a_reply_arrives_whole_after_eof_from_a_client_of_ours_as_far_as_chisel_can() -> None:
    # chisel 1.11's server closes both ways when the first of them ends: the reply that is complete
    # before the target ends its side is what can be had.
    reply = random_bytes(10 * MiB)
    async with (
        listening(pour(reply)) as target,
        pair_of("our client", target) as (_, _, local),
        await connect(local) as stream,
    ):
        assert await receive_digest(stream) == (len(reply), sha256(reply))


async def test_what_a_chisel_client_sends_before_its_eof_arrives_whole_at_our_target() -> None:
    data = random_bytes(10 * MiB)
    arrived: list[tuple[int, str]] = []
    done = trio.Event()

    async def target(stream: trio.SocketStream) -> None:
        arrived.append(await receive_digest(stream))
        done.set()

    async with (
        listening(target) as address,
        pair_of("our server", address) as (_, _, local),
        await connect(local) as stream,
    ):
        await stream.send_all(data)
        await stream.send_eof()
        await done.wait()
    assert arrived == [(len(data), sha256(data))]


@BOTH
async def test_50_connections_at_once_all_echo(pair: str) -> None:
    async with listening(echo) as target, pair_of(pair, target) as (_, client, local):
        streams: list[trio.SocketStream] = []

        async def one(number: int) -> None:
            streams.append(stream := await connect(local))
            assert await echoes(stream, random_bytes(5000, number))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
        for stream in streams:  # all of them are open now
            assert await echoes(stream)
            await stream.aclose()
        assert not client.find("Disconnected")


@BOTH
async def test_keepalives_of_both_ends_are_answered(
    pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, receive = trio.open_memory_channel[str](1000)
    request, answer = Connection.request, Session.request_received

    async def watched_request(connection: Connection, kind: str, *rest: Any) -> tuple[bool, bytes]:
        result = await request(connection, kind, *rest)
        if kind == "ping":
            assert result == (True, b"pong")
            send.send_nowait("ours")
        return result

    def watched_answer(session: Session, asked: GlobalRequest) -> None:
        answer(session, asked)
        if asked.kind == "ping":
            send.send_nowait("theirs")

    monkeypatch.setattr(Connection, "request", watched_request)
    monkeypatch.setattr(Session, "request_received", watched_answer)
    async with (
        listening(echo) as target,
        in_process_pair_of(pair, target, keepalive=0.05) as local,
        await connect(local) as stream,
    ):
        seen: Counter[str] = Counter()
        while min(seen["ours"], seen["theirs"]) < 5:
            seen[await receive.receive()] += 1
        assert await echoes(stream)


async def test_a_chisel_client_is_told_why_the_session_ends_in_words_that_its_udp_survives() -> (
    None
):
    target = f"{refused_address()}/udp"
    async with our_server() as (server, url), chisel_client(url, target=target) as (client, _):
        await client.wait_for(r"udp: aquired channel")
        await server.stop()
        await client.wait_for("Connection error: ssh: disconnect, reason 11: .*: EOF$")
        await client.wait_for("lost channel")
        assert not client.find("ssh-chan error")


@BOTH
async def test_a_server_that_was_killed_is_found_again(pair: str) -> None:
    run_server, run_client = PAIRS[pair]
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(listening(echo))
        server, url = await stack.enter_async_context(run_server(port=port))
        client, local = await stack.enter_async_context(
            run_client(url, "--max-retry-interval", "100ms", target=target)
        )
        await client.wait_for(READY[pair])
        await server.stop(signal.SIGKILL)
        await client.wait_for("Disconnected")
        await stack.enter_async_context(run_server(port=port))
        await client.wait_for(READY[pair], times=2)
        async with await connect(local) as stream:
            assert await echoes(stream)
