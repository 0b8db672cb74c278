"""The command line as people use it: processes, signals, exit statuses, and what the log says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.ends import is_free
from tests.support.programs import PATIENCE, our_client, our_server, ours, running, url_of
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    random_bytes,
    receive_all,
    receive_exactly,
    refused_address,
    sha256,
    turned_away,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery staple"


def file_server(content: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a handler that answers one HTTP request with `content`."""

    async def handler(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode() + content)

    return handler


async def fetch(address: str) -> bytes:
    """Return the body of an HTTP response, as ``curl`` would."""
    async with await connect(address) as stream:
        await stream.send_all(b"GET /file HTTP/1.1\r\nHost: example.com\r\n\r\n")
        return (await receive_all(stream)).partition(b"\r\n\r\n")[2]


async def test_a_file_is_fetched_through_a_server_and_a_client_and_both_say_what_they_do() -> None:
    content = random_bytes(8 * MiB)
    async with (
        listening(file_server(content)) as target,
        our_server() as (server, url),
    ):
        fingerprint = (await server.wait_for(r"server: Fingerprint (\S{43}=)$"))[1]
        async with our_client(url, "--fingerprint", fingerprint, target=target) as (client, local):
            await client.wait_for(rf"client: Fingerprint {re.escape(fingerprint)}$")
            await client.wait_for(r"client: Connected \(Latency \d+(\.\d+)?(µs|ms|s)\)$")
            assert sha256(await fetch(local)) == sha256(content)
            assert await client.stop() == 0
        port = local.rpartition(":")[2]
        opened = await server.wait_for(r"(peer=\S+ session=1 user=-): open, client (\S+), remotes")
        await server.wait_for(
            rf"{opened[1]}: closed after .*, 8\.\d+MB sent, .*B received: the peer disconnected"
        )
        assert f"{LOOPBACK}:0=>{target.rpartition(':')[2]}" in opened.string
        assert port != "0"
        assert await server.stop() == 0
        assert not server.find("conn=")  # single connections are for -v


async def test_verbose_programs_have_a_line_for_each_connection() -> None:
    async with (
        listening(echo) as target,
        our_server("-v") as (server, url),
        our_client(url, "--verbose", target=target) as (client, local),
    ):
        async with await connect(local) as stream:
            assert await echoes(stream)
        for program in (server, client):
            await program.wait_for("conn=1 .*: open$")
            await program.wait_for("conn=1 .*: closed, 14B sent and 14B received$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_both_programs_with_status_0_in_the_middle_of_a_connection(
    number: signal.Signals,
) -> None:
    grace = {"COTUN_SHUTDOWN_GRACE": "100ms"}
    async with (
        listening(echo) as target,
        our_server(env=grace) as (server, url),
        our_client(url, target=target, env=grace) as (client, local),
        await connect(local) as stream,
    ):
        assert await echoes(stream)
        assert await server.stop(number) == 0
        await client.wait_for("client: Disconnected: the server is shutting down$")
        await client.wait_for(r"client: Retrying in \d+(\.\d+)?(ms|s)\.\.\.$")
        assert await client.stop(number) == 0
        for program in (server, client):
            assert not program.find("Traceback|Error:")


@pytest.mark.parametrize("which", ["server", "client"])
async def test_a_second_signal_ends_a_program_that_waits_for_a_connection(which: str) -> None:
    grace = {"COTUN_SHUTDOWN_GRACE": "1h"}
    async with (
        listening(echo) as target,
        our_server(env=grace) as (server, url),
        our_client(url, "-v", target=target, env=grace) as (client, local),
        await connect(local) as stream,
    ):
        assert await echoes(stream)
        program, other = (server, client) if which == "server" else (client, server)
        program.send_signal(signal.SIGTERM)
        await other.wait_for("shutting down") if which == "server" else await program.wait_for(
            "Shutting down"
        )
        assert await echoes(stream)
        assert await program.stop() == 0


async def test_a_transfer_in_flight_is_finished_when_the_server_is_told_to_end() -> None:
    content = random_bytes(100 * MiB)
    async with (
        listening(file_server(content)) as target,
        our_server(env={"COTUN_SHUTDOWN_GRACE": "1m"}) as (server, url),
        our_client(url, target=target) as (client, local),
        await connect(local) as stream,
    ):
        await stream.send_all(b"GET /file HTTP/1.1\r\nHost: example.com\r\n\r\n")
        received = await receive_exactly(stream, 10 * MiB)
        server.send_signal(signal.SIGTERM)
        await client.wait_for("client: Disconnected: the server is shutting down$")
        with pytest.raises(OSError, match="all attempts to connect"):
            await connect(url.removeprefix("http://"))
        received += await receive_all(stream)
        await stream.aclose()
        assert sha256(received.partition(b"\r\n\r\n")[2]) == sha256(content)
        assert await server.wait() == 0


async def test_the_pid_file_lives_as_long_as_its_process(tmp_path: Path) -> None:
    file = tmp_path / "cotun.pid"
    command = "server", "--host", LOOPBACK, "--port", "0", "--pid"
    async with ours(*command, cwd=tmp_path) as first:
        await first.wait_for("Listening on")
        assert file.read_text() == f"{first.pid}\n"
        async with ours(*command, cwd=tmp_path) as second:
            assert await second.wait() == 1
            assert second.find(f"the process {first.pid} .* is running already")
        assert file.exists()
        await first.stop(signal.SIGKILL)
        assert file.exists()
        async with ours(*command, cwd=tmp_path) as third:
            await third.wait_for("Listening on")
            assert file.read_text() == f"{third.pid}\n"
            await third.stop()
    assert not file.exists()


async def test_whoever_has_the_number_from_the_pid_file_can_send_a_signal_at_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "cotun.pid"
    async with ours("server", "--host", LOOPBACK, "--port", "0", "--pid", cwd=tmp_path) as server:
        with trio.fail_after(PATIENCE):
            while not file.exists():
                await trio.lowlevel.checkpoint()
        server.send_signal(signal.SIGHUP)
        server.send_signal(signal.SIGUSR2)
        await server.wait_for("up .*s, 0 sessions")
        assert await server.stop() == 0
    assert not file.exists()


async def test_5_times_the_server_is_killed_and_the_client_comes_back_with_its_port_open() -> None:
    port = free_port()
    async with (
        listening(echo) as target,
        our_client(f"http://{LOOPBACK}:{port}", "--max-retry-interval", "100ms", target=target) as (
            client,
            local,
        ),
    ):
        await client.wait_for("Retrying in ")
        for number in range(1, 6):
            # Nobody serves at the moment, and nobody is turned away.
            async with await connect(local) as stream:
                await stream.send_all(b"early")
                async with our_server(port=port) as (server, _):
                    assert await receive_exactly(stream, 5) == b"early"
                    assert await server.stop(signal.SIGKILL) == -signal.SIGKILL
                    await client.wait_for("Disconnected: ", times=number)
        assert len(client.find(r"Connected \(Latency ")) == 5
        assert await client.stop() == 0


async def test_a_client_that_gives_up_has_status_6() -> None:
    url = f"http://{refused_address()}"
    async with ours(
        "client", "--max-retry-count", "2", "--max-retry-interval", "10ms", url, "127.0.0.1:0:x:1"
    ) as client:
        assert await client.wait() == 6
        assert len(client.find("Retrying in ")) == 2
        assert client.find(r"Connection error: .*: Connection refused \(Attempt: 2/2\)")
        assert client.find("client: Give up$")
        assert client.find("^cotun-trio: gave up after 3 attempts: ")


@pytest.mark.parametrize("verbose", [(), ("-v",)])
async def test_a_wrong_password_has_status_4_and_no_password_is_ever_printed(
    verbose: tuple[str, ...],
) -> None:
    right, wrong = f"alice:{PASSWORD}", f"alice:{PASSWORD}x"
    async with (
        listening(echo) as target,
        our_server(*verbose, env={"AUTH": right}) as (server, url),
        our_client(url, *verbose, "--auth", wrong, target=target) as (bad, _),
    ):
        assert await bad.wait() == 4
        assert bad.find("client: Authentication failed: ")
        assert bad.find("^cotun-trio: the server refused the user name or the password$")
        await server.wait_for("Authentication failed from 127.0.0.1 for user 'alice'$")
        async with our_client(url, *verbose, target=target, env={"AUTH": right}) as (good, local):
            async with await connect(local) as stream:
                assert await echoes(stream)
            await server.wait_for("user=alice: open, ")
            assert await good.stop() == 0
        assert await server.stop() == 0
        for program in (server, bad, good):
            assert not program.find(PASSWORD)


async def test_a_signal_has_both_say_what_is_going_on() -> None:
    async with (
        listening(echo) as target,
        our_server() as (server, url),
        our_client(url, target=target) as (client, local),
    ):
        line = (
            r"up .*s, {} sessions \({} so far\), {} channels, \S+ sent, \S+ received, "
            r"0 datagrams dropped, [0-9]+ tasks, [0-9]+ descriptors, [0-9.]+MB of memory$"
        )
        async with await connect(local) as stream:
            assert await echoes(stream)
            for program in (server, client):
                program.send_signal(signal.SIGUSR2)
                await program.wait_for(line.format(1, 1, 1))
        assert await client.stop() == 0
        await server.wait_for("closed after")
        server.send_signal(signal.SIGUSR2)
        await server.wait_for(line.format(0, 1, 0))
        assert await server.stop() == 0


async def test_a_wrong_fingerprint_has_status_3_and_names_the_right_one() -> None:
    async with our_server() as (server, url):
        right = (await server.wait_for(r"Fingerprint (\S+)"))[1]
        wrong = "A" * 43 + "="
        async with our_client(url, "--fingerprint", wrong, target="x:1") as (client, _):
            status = await client.wait()
            assert client.find(re.escape(f"client: Invalid fingerprint ({right})"))
            assert status == 3


async def test_a_sighup_makes_the_client_try_at_once() -> None:
    port = free_port()
    # With a count the waits double from the first on.
    options = ("--max-retry-interval", "1h", "--max-retry-count", "20")
    async with (
        listening(echo) as target,
        our_client(f"http://{LOOPBACK}:{port}", *options, target=target) as (client, local),
    ):
        # Up to a wait of which nobody would see the end here.
        for number in range(1, 9):
            await client.wait_for("Retrying in ", times=number)
            client.send_signal(signal.SIGHUP)
        await client.wait_for("Retrying in ", times=9)
        async with our_server(port=port):
            client.send_signal(signal.SIGHUP)
            await client.wait_for(r"Connected \(Latency ")
            async with await connect(local) as stream:
                assert await echoes(stream)


@pytest.mark.parametrize("command", ["server", "client"])
async def test_a_port_that_is_taken_has_status_1_and_one_line(command: str) -> None:
    async with listening(echo) as taken:
        host, port = taken.split(":")
        arguments = (
            ("server", "--host", host, "--port", port)
            if command == "server"
            else ("client", f"http://{refused_address()}", f"{taken}:example.com:80")
        )
        async with ours(*arguments) as program:
            assert await program.wait() == 1
            assert program.lines[-1] == (f"cotun-trio: cannot listen on {taken}: {os.strerror(98)}")


async def test_a_server_listens_where_the_environment_says() -> None:
    port = free_port()
    async with ours("server", env={"HOST": LOOPBACK, "PORT": str(port)}) as server:
        await server.wait_for(f"Listening on http://{LOOPBACK}:{port}$")
        assert not is_free(port)


async def test_a_stopped_server_is_noticed_within_the_time_of_the_environment() -> None:
    async with (
        listening(echo) as target,
        our_server() as (server, url),
        our_client(
            url,
            "--keepalive=200ms",
            "--max-retry-interval=100ms",
            target=target,
            env={"COTUN_PING_TIMEOUT": "300ms"},
        ) as (client, _),
    ):
        await client.wait_for(r"Connected \(Latency ")
        server.send_signal(signal.SIGSTOP)
        await client.wait_for("Disconnected: no answer to a ping in 300ms")
        server.send_signal(signal.SIGCONT)
        await client.wait_for(r"Connected \(Latency ", times=2)
        assert not client.find("no answer to a ping in (?!300ms)")


async def test_a_server_that_is_out_of_descriptors_lives_and_accepts_again() -> None:
    command = f"{shlex.quote(sys.executable)} -m cotun_trio server --host {LOOPBACK} --port 0"
    async with (
        listening(echo) as target,
        running("bash", "-c", f"ulimit -n 64; exec {command}") as server,
    ):
        url = await url_of(server)
        async with our_client(url, target=target) as (client, local):
            await client.wait_for(r"Connected \(Latency ")
            crowd = [await connect(url.removeprefix("http://")) for _ in range(200)]
            await server.wait_for("cannot accept connections at present")
            assert await turned_away(local)
            await client.wait_for("conn=1 .*: refused: .*: Too many open files")
            for stream in crowd:
                await stream.aclose()
            answered = False
            while not answered:  # until the server has seen that the crowd is gone
                with contextlib.suppress(trio.BrokenResourceError):
                    async with await connect(local) as stream:
                        answered = await echoes(stream)
            async with our_client(url, target=target) as (second, _):
                await second.wait_for(r"Connected \(Latency ")
            assert not client.find("Disconnected")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_programs_say_goodbye(number: signal.Signals) -> None:
    async with our_server() as (server, url), our_client(url, target="a:1") as (client, _):
        for program in (client, server):
            assert await program.stop(number) == 0
            assert program.find(rf"INFO (client|server): Ended by {number.name}, goodbye$")


async def test_a_quiet_program_says_nothing_while_all_is_well() -> None:
    port = free_port()
    async with (
        our_server() as (server, url),
        ours("client", "--quiet", url, f"127.0.0.1:{port}:a:1") as client,
    ):
        await server.wait_for("session=1 .*: open, ")
        assert await client.stop() == 0
        assert not client.lines
    async with ours("client", "-q", f"http://{refused_address()}", "127.0.0.1:0:a:1") as client:
        await client.wait_for("WARNING client: Connection error: ")


async def test_a_json_log_ends_with_the_error_that_ended_the_program() -> None:
    async with ours(
        *("client", "--log-format", "json", "--max-retry-count", "0"),
        *(f"http://{refused_address()}", "127.0.0.1:0:a:1"),
    ) as client:
        assert await client.wait() == 6
    lines = [json.loads(line) for line in client.lines]
    assert lines[-1]["level"] == "error"
    assert lines[-1]["message"].startswith("gave up after 1 attempts: ")
    (error,) = (line for line in lines if line["message"].startswith("Connection error: "))
    assert error["level"] == "warning"
    assert error["reason"].endswith("Connection refused")
