"""A whole tunnel in one process: what goes in at one end comes out at the other."""

from __future__ import annotations

import functools
import gc
import logging

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.protocol import dialect
from cotun_trio.protocol.dialect import CHISEL, COTUN
from cotun_trio.settings import Timings
from cotun_trio.ssh import window
from cotun_trio.ssh.channel import Channel
from cotun_trio.ssh.engine import Engine
from cotun_trio.ssh.window import WINDOW
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.sockets import until
from tests.support.targets import (
    LOOPBACK,
    MiB,
    answer_after_eof,
    connect,
    echo,
    echoes,
    exchange,
    listening,
    pour,
    random_bytes,
    receive_all,
    receive_digest,
    receive_exactly,
    refused_address,
    reset,
    sha256,
    split_address,
)
from tests.support.tunnel import (
    echo_tunnel,
    running_client,
    running_server,
    switchable_server,
    tunnel,
)


async def test_what_is_sent_comes_back_and_nothing_is_left_when_it_is_over() -> None:
    async with nothing_left(), echo_tunnel() as both, await both.connect() as stream:
        assert await echoes(stream)


@pytest.mark.parametrize(
    ("target_host", "remote"),
    [
        (LOOPBACK, "127.0.0.1:0:127.0.0.1:{port}"),
        (LOOPBACK, "127.0.0.1:0:127.0.0.1:{port}/tcp"),
        (LOOPBACK, "127.0.0.1:0:localhost:{port}"),
        (LOOPBACK, "localhost:0:127.0.0.1:{port}"),
        (LOOPBACK, "[::1]:0:127.0.0.1:{port}"),
        ("::1", "127.0.0.1:0:[::1]:{port}"),
        ("::1", "[::1]:0:[::1]:{port}"),
        ("127.0.0.2", "127.0.0.1:0:127.0.0.2:{port}"),
        ("127.0.0.2", "127.0.0.1:127.0.0.2:{port}"),
        ("::1", "127.0.0.1:[::1]:{port}"),
        ("::1", "0:[::1]:{port}"),
    ],
)
async def test_every_form_of_a_tcp_remote_leads_to_its_target(
    target_host: str, remote: str
) -> None:
    async with listening(echo, target_host) as target:
        remote = remote.format(port=split_address(target)[1])
        async with tunnel(remotes=(remote,)) as both:
            for address in both.client.addresses:
                async with await connect(address.replace("0.0.0.0", LOOPBACK)) as stream:
                    assert await echoes(stream)


@pytest.mark.parametrize("where", ["0", "0.0.0.0:0", "[::]:0", "R:0", "R:[::]:0"])
async def test_all_interfaces_are_those_of_both_families(where: str) -> None:
    async with (
        listening(echo) as target,
        watch_logs() as log,
        tunnel(remotes=(f"{where}:{target}",), server={"reverse": True, "host": ""}) as both,
    ):
        reverse = both.client.sessions[0].reverse_addresses
        (address,) = both.client.addresses or reverse
        (served_at,) = both.server.addresses
        assert served_at.startswith("0.0.0.0:")
        for host in (LOOPBACK, "::1"):
            async with await trio.open_tcp_stream(host, split_address(address)[1]) as stream:
                assert await echoes(stream)
                assert stream.socket.getpeername()[0] == host
            async with await trio.open_tcp_stream(host, split_address(served_at)[1]) as stream:
                await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
                assert (await receive_all(stream)).startswith(b"HTTP/1.1 200")
        assert not log.find("::ffff:")


@pytest.mark.parametrize(
    ("host", "hostname", "header"),
    [
        ("пример.рф:{}", None, "xn--e1afmkfd.xn--p1ai:{}"),
        ("name.:{}", None, "name.:{}"),
        ("127.0.0.1:{}", "пример.рф:58509", "xn--e1afmkfd.xn--p1ai:58509"),
        ("127.0.0.1:{}", "straße.example.", "xn--strae-oqa.example."),
    ],
)
async def test_the_host_header_is_in_ascii_and_keeps_its_port(
    host: str, hostname: str | None, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, **{"xn--e1afmkfd.xn--p1ai": [LOOPBACK], "name.": [LOOPBACK]})
    heads: list[bytes] = []
    asked = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        heads.append(await stream.receive_some())
        asked.set()

    async with listening(serve) as address:
        port = split_address(address)[1]
        async with running_client(host.format(port), hostname=hostname):
            await asked.wait()
    assert f"\r\nhost: {header.format(port)}\r\n".encode() in heads[0].lower()


async def test_the_short_form_listens_on_the_port_of_its_target() -> None:
    async with listening(echo, "127.0.0.2") as target:
        port = split_address(target)[1]
        async with tunnel(remotes=(f"127.0.0.1:127.0.0.2:{port}",)) as both:
            assert both.client.addresses == [f"127.0.0.1:{port}"]


async def test_a_name_with_several_addresses_is_listened_on_at_one_port() -> None:
    async with tunnel(remotes=("localhost:0:127.0.0.1:1",)) as both:
        ports = {split_address(address)[1] for address in both.client.addresses}
        assert len(ports) == 1


async def test_several_remotes_lead_to_their_own_targets() -> None:
    async with (
        listening(pour(b"one")) as one,
        listening(pour(b"two")) as two,
        tunnel(one, two) as both,
        await both.connect(0) as first,
        await both.connect(1) as second,
    ):
        await first.send_eof()
        await second.send_eof()
        assert await receive_all(second) == b"two"
        assert await receive_all(first) == b"one"


@pytest.mark.slow
async def test_16_mib_each_way_at_once_arrive_unchanged() -> None:
    up, down = random_bytes(16 * MiB, 1), random_bytes(16 * MiB, 2)
    arrived: list[tuple[int, str]] = []

    async def target(stream: trio.SocketStream) -> None:
        async def read() -> None:
            arrived.append(await receive_digest(stream))
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_all(down)
            await stream.send_eof()

    done = trio.Event()

    async with (
        listening(target) as address,
        tunnel(address) as both,
        await both.connect() as stream,
    ):
        assert await exchange(stream, up) == (len(down), sha256(down))
        await done.wait()
    assert arrived == [(len(up), sha256(up))]


async def test_bytes_sent_one_at_a_time_arrive_in_order() -> None:
    data = random_bytes(300)
    async with echo_tunnel() as both, await both.connect() as stream:
        for at in range(len(data)):
            await stream.send_all(data[at : at + 1])
        assert await receive_exactly(stream, len(data)) == data


async def test_a_target_that_talks_first_is_heard_before_anything_is_sent() -> None:
    async with (
        listening(pour(b"220 hello\r\n")) as target,
        tunnel(target) as both,
        await both.connect() as stream,
    ):
        assert await receive_exactly(stream, 11) == b"220 hello\r\n"


async def test_a_10_mib_reply_arrives_whole_after_our_eof() -> None:
    reply = random_bytes(10 * MiB)
    async with (
        listening(answer_after_eof(reply)) as target,
        tunnel(target) as both,
        await both.connect() as stream,
    ):
        await stream.send_all(b"question")
        await stream.send_eof()
        whole = sha256(b"question").encode() + reply
        assert await receive_digest(stream) == (len(whole), sha256(whole))


async def test_10_mib_arrive_whole_at_a_target_that_has_ended_its_own_direction() -> None:
    data = random_bytes(10 * MiB)
    arrived: list[tuple[int, str]] = []

    async def target(stream: trio.SocketStream) -> None:
        await stream.send_eof()
        arrived.append(await receive_digest(stream))

    async with (
        listening(target) as address,
        tunnel(address) as both,
        nothing_left(),
        await both.connect() as stream,
    ):
        assert await receive_all(stream) == b""
        await stream.send_all(data)
        await stream.send_eof()
    assert arrived == [(len(data), sha256(data))]


async def test_a_connection_that_is_reset_here_is_reset_at_the_target_too() -> None:
    ends: list[bool] = []

    async def target(stream: trio.SocketStream) -> None:
        try:
            await receive_all(stream)
            ends.append(True)
        except trio.BrokenResourceError:
            ends.append(False)

    async with listening(target) as address, tunnel(address) as both, nothing_left():
        stream = await both.connect()
        await stream.send_all(b"half of a fi")
        await trio.testing.wait_all_tasks_blocked(0.005)
        reset(stream)
    assert ends == [False]


@pytest.mark.slow
async def test_200_connections_at_once_all_echo_and_leave_nothing() -> None:
    streams: list[trio.SocketStream] = []

    async with echo_tunnel() as both, nothing_left():

        async def one(number: int) -> None:
            stream = await both.connect()
            streams.append(stream)
            assert await echoes(stream, random_bytes(5000, number))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
        # All of them are open now.
        for stream in streams:
            assert await echoes(stream)
        for stream in streams:
            await stream.aclose()


async def test_a_refused_target_resets_the_connection_and_both_logs_say_why() -> None:
    address = refused_address()
    async with watch_logs() as log, tunnel(address) as both, nothing_left():
        async with await both.connect() as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        for side in ("server", "client"):
            said = await log.wait_for(rf"{address}: Connection refused", side)
            assert said.string in log.lines(side)  # at the default verbosity


async def test_a_target_that_does_not_answer_the_dial_resets_the_connection(
    autojump_with_sockets: object,
) -> None:
    timings = Timings(dial_timeout=3)
    with trio.socket.socket() as full:
        # A listener whose queue is full leaves SYNs without an answer.
        await full.bind((LOOPBACK, 0))
        full.listen(0)
        address = f"{LOOPBACK}:{full.getsockname()[1]}"
        async with await connect(address), watch_logs() as log:
            async with tunnel(address, timings=timings) as both, await both.connect() as stream:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            for side in ("server", "client"):
                assert log.find(rf"{address}: no answer in 3 s", side)


def _waiting_bytes() -> int:
    """Return how many bytes wait in the channels of this process, for their readers."""
    return sum(len(thing._backlog) for thing in gc.get_objects() if isinstance(thing, Channel))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["down", "up"])
async def test_a_stalled_reader_costs_one_window_and_delays_nobody_else(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "MAX_GROWTH", 0)  # a busy machine is like a long link
    size = 32 * MiB
    gc.collect()
    before = _waiting_bytes()  # of what other tests have left

    async def lazy(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    handler = pour(bytes(size)) if way == "down" else lazy
    async with (
        listening(handler) as target,
        listening(echo) as echo_target,
        tunnel(target, echo_target) as both,
        await both.connect(0) as stalled,
        trio.open_nursery() as nursery,
    ):
        if way == "up":
            nursery.start_soon(stalled.send_all, bytes(size))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert 0 < _waiting_bytes() - before <= WINDOW
        data = random_bytes(4 * MiB)
        async with await both.connect(1) as stream:
            assert await exchange(stream, data) == (len(data), sha256(data))
        assert 0 < _waiting_bytes() - before <= WINDOW
        nursery.cancel_scope.cancel()


async def test_a_reader_that_resumes_after_a_stall_gets_every_byte() -> None:
    data = random_bytes(12 * MiB)
    async with (
        listening(pour(data)) as target,
        tunnel(target) as both,
        await both.connect() as stream,
    ):
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_eof()
        assert await receive_digest(stream) == (len(data), sha256(data))


@pytest.mark.slow
async def test_32_mib_each_way_at_once_survive_new_keys_after_every_mib(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchanges = 0
    finish = Engine._finish_key_exchange

    @functools.wraps(finish)
    def counted(engine: Engine) -> object:
        nonlocal exchanges
        exchanges += 1
        return finish(engine)

    monkeypatch.setattr(Engine, "_finish_key_exchange", counted)
    data = random_bytes(32 * MiB)
    async with (
        echo_tunnel(timings=Timings(rekey_bytes=MiB)) as both,
        await both.connect() as stream,
    ):
        assert await exchange(stream, data) == (len(data), sha256(data))
    # Each is finished at both ends; both directions count.
    assert exchanges >= 2 * 32


# ---- dialects


@pytest.mark.parametrize(
    ("protocol", "spoken"), [("auto", CHISEL), ("chisel", CHISEL), ("cotun", COTUN)]
)
async def test_the_dialect_asked_for_is_the_one_that_is_spoken(
    protocol: str, spoken: dialect.Dialect
) -> None:
    async with echo_tunnel(client={"protocol": protocol}) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
        engine = both.client.sessions[0].connection.engine
        assert engine.peer_version == spoken.server_version + dialect.MARK


async def test_auto_falls_back_to_cotun_and_remembers_it(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: object
) -> None:
    monkeypatch.setattr(dialect, "DIALECTS", (COTUN,))
    async with watch_logs() as log, echo_tunnel() as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
        both.client.sessions[0].wire.close()
        await both.client.opened(2)
        assert len(log.find("ignored an upgrade to protocol 'chisel-v3'", "server")) == 1


async def test_a_server_is_found_again_when_its_successor_speaks_the_other_dialect(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: object
) -> None:
    async with echo_tunnel() as both:
        for number, spoken in enumerate((COTUN, CHISEL, COTUN), 2):
            monkeypatch.setattr(dialect, "DIALECTS", (spoken,))
            both.client.sessions[-1].wire.close()
            session = await both.client.opened(number)
            assert session.connection.engine.peer_version.startswith(spoken.server_version)


async def test_a_connection_that_waits_survives_the_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialect, "DIALECTS", (COTUN,))
    async with (
        running_server() as server,
        listening(echo) as target,
        running_client(server.addresses[0], f"{LOOPBACK}:0:{target}") as client,
        await connect(client.addresses[0]) as stream,
    ):
        assert await echoes(stream)


async def test_a_server_of_another_dialect_is_an_error_that_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialect, "DIALECTS", (COTUN,))
    async with (
        watch_logs() as log,
        running_server() as server,
        running_client(server.addresses[0], protocol="chisel") as client,
    ):
        await log.wait_for("Connection error: the server answered HTTP 404", "client")
        await log.wait_for(r"Retrying in ", "client")
        assert not client.sessions


# ---- plain HTTP beside a tunnel


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/health", b"200 OK", b"OK\n"), ("/version", b"200 OK", b"0."), ("/", b"404 ", b"")],
)
async def test_plain_http_is_answered_while_a_tunnel_runs(
    path: str, status: bytes, body: bytes
) -> None:
    async with echo_tunnel() as both, await both.connect() as tunnelled, nothing_left():
        async with await connect(both.server.addresses[0]) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response = await receive_all(stream)
        assert response.startswith(b"HTTP/1.1 " + status)
        assert body in response.partition(b"\r\n\r\n")[2]
        assert await echoes(tunnelled)


# ---- the log


async def test_a_percent_sign_in_a_users_name_is_logged_as_it_is() -> None:
    auth = {"auth": Credentials("100%s", "secret")}
    async with watch_logs() as log, echo_tunnel(server=auth, client=auth) as both:
        async with await both.connect() as stream:
            assert await echoes(stream)
        await log.wait_for(" user=100%s: open, client ", "server")
        await log.wait_for(" user=100%s conn=1 .*: open$", "server")
    assert not [line for line in log.lines(level=logging.DEBUG) if "secret" in line]


# ---- the end of a session


async def test_the_server_is_told_when_the_client_is_stopped() -> None:
    async with watch_logs() as log, running_server() as server:
        async with running_client(server.addresses[0]) as client:
            await client.opened()
        await log.wait_for("the peer disconnected: closing", "server")
        await until(lambda: not server.sessions)
        assert len(log.find("closed after", "server")) == 1


async def test_the_client_is_told_when_the_server_is_stopped() -> None:
    async with (
        watch_logs() as log,
        switchable_server() as server,
        running_client(server.address) as client,
    ):
        await client.opened()
        await server.stop()
        await log.wait_for("Disconnected: the peer disconnected: closing", "client")
    assert log.find("session=1 .*: closed after .*: the server is shutting down", "server")
