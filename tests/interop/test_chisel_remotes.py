"""Remotes of every kind with the Go original at the other end, in both roles."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.errors import ConfigRefused
from tests.support.ends import ask, is_free, socks_request, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.peers import needs
from tests.support.programs import (
    PATIENCE,
    WITH_CHISEL,
    chisel,
    chisel_server,
    ended_in_trio,
    find_chisel,
)
from tests.support.targets import (
    LOOPBACK,
    MiB,
    as_text,
    connect,
    echo,
    echoes,
    free_port,
    free_range,
    listening,
    pour,
    random_bytes,
    range_of_targets,
    receive_all,
    refused_address,
    sha256,
    split_address,
    what_answers,
)
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = WITH_CHISEL

OURS = pytest.mark.parametrize("ours", ["client", "server"], ids=["our client", "our server"])
WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])


@contextlib.asynccontextmanager
async def tunnel_with_chisel(ours: str, target: str, *, reverse: bool) -> AsyncIterator[str]:
    """Run a tunnel to `target` with chisel as one of its ends; give where it listens."""
    local = f"{LOOPBACK}:{free_port()}"
    remote = f"{'R:' * reverse}{local}:{target}"
    if ours == "client":
        async with (
            chisel_server("-v", "--reverse", "--socks5") as (program, url),
            running_client(url, remote) as client,
        ):
            await client.opened()
            if reverse:
                await program.wait_for("proxy#.*: Listening")
            yield local
    else:
        async with (
            running_server(reverse=True, socks5=True) as server,
            chisel("client", "-v", f"http://{server.addresses[0]}", remote) as program,
        ):
            await program.wait_for("Connected")
            if not reverse:
                await program.wait_for("proxy#.*: Listening")
            yield local


@OURS
@WAYS
@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
async def test_4_mib_of_tcp_come_back_unchanged(ours: str, reverse: bool, host: str) -> None:
    data = random_bytes(4 * MiB)
    async with (
        listening(digest, host) as target,
        tunnel_with_chisel(ours, target, reverse=reverse) as address,
        await connect(address) as stream,
    ):
        await stream.send_all(len(data).to_bytes(4) + data)
        assert await receive_all(stream) == sha256(data).encode()


async def digest(stream: trio.SocketStream) -> None:
    """Read as many bytes as the first four say, and answer with their digest.

    The Go original, up to 1.11, closes both ways at the first end.
    """
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4]):
        data += await stream.receive_some()
    await stream.send_all(sha256(data[4:]).encode())


@WAYS
async def test_a_range_of_ports_is_single_remotes_to_the_original(reverse: bool) -> None:
    local, far = free_range(3), free_range(3)
    remote = f"{'R:' * reverse}{LOOPBACK}:{as_text(local)}:{LOOPBACK}:{as_text(far)}"
    async with (
        range_of_targets(far),
        chisel_server("-v", "--reverse") as (program, url),
        running_client(url, remote) as client,
    ):
        await client.opened()
        if reverse:
            await program.wait_for("proxy#.*: Listening", times=3)
        assert [await what_answers(port) for port in local] == list(far)


async def test_the_original_opens_none_of_a_range_where_one_port_is_taken() -> None:
    local = free_range(3)
    with socket.create_server((LOOPBACK, local[1])):
        async with (
            watch_logs() as log,
            chisel_server("--reverse") as (_, url),
            running_client(url, f"R:{LOOPBACK}:{as_text(local)}:db:1-3"),
        ):
            refused = f"the server refused: .*cannot listen on R:{LOOPBACK}:{local[1]}"
            await log.wait_for(refused, "client")
            assert is_free(local[0])
            assert is_free(local[2])


@OURS
@WAYS
async def test_socks_reaches_an_address_and_a_name_and_says_why_not(
    ours: str, reverse: bool
) -> None:
    async with (
        listening(echo) as target,
        tunnel_with_chisel(ours, "socks", reverse=reverse) as address,
    ):
        port = split_address(target)[1]
        for host in (LOOPBACK, "localhost"):
            async with await connect(address) as stream:
                assert (await socks_request(stream, host, port))[0] == 0
                assert await echoes(stream)
        async with await connect(address) as stream:
            assert (await socks_request(stream, *split_address(refused_address())))[0] == 5


@pytest.mark.parametrize(
    ("ours", "reverse"),
    [("client", False), ("server", True)],
    ids=["our client", "our server, in reverse"],
)
@needs("curl")
@pytest.mark.parametrize(
    "option", ["--socks4", "--socks4a", "--socks5", "--socks5-hostname", "--proxy"]
)
async def test_curl_reaches_the_original_by_every_protocol_of_our_proxy(
    ours: str, reverse: bool, option: str
) -> None:
    async with (
        listening(page) as target,
        tunnel_with_chisel(ours, "socks", reverse=reverse) as address,
    ):
        proxy = f"{'http://' * (option == '--proxy')}{address}"
        command = ["curl", "-q", "-sS", "-4", "--noproxy", "", "--proxytunnel", option, proxy]
        url = f"http://localhost:{split_address(target)[1]}/"
        done = await trio.run_process([*command, url], capture_stdout=True)
        assert done.stdout == b"hello"
        url = f"http://localhost:{split_address(refused_address())[1]}/"
        done = await trio.run_process([*command, url], capture_stderr=True, check=False)
        # "curl: (97)" by SOCKS; by CONNECT it is 56, and shows the status.
        assert done.returncode == 97 or b"502" in done.stderr


async def page(stream: trio.SocketStream) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@OURS
@WAYS
async def test_datagrams_of_several_sources_come_back(ours: str, reverse: bool) -> None:
    async with (
        udp_echo() as target,
        tunnel_with_chisel(ours, f"{target}/udp", reverse=reverse) as address,
        udp_socket() as (one, _),
        udp_socket() as (two, _),
    ):
        for data in (b"1", bytes(1400), bytes(9000)):
            assert await ask(one, address, data) == data
            assert await ask(two, address, data[::-1]) == data[::-1]


@OURS
@WAYS
async def test_bursts_of_datagrams_arrive_whole_and_in_order_both_ways(
    ours: str, reverse: bool
) -> None:
    sizes = [64] * 30 + [0, 1, 127, 128, 255, 256, 1400, 1400, 1400, 9000, 64, 64]
    burst = [bytes([number]) * size for number, size in enumerate(sizes)]
    async with (
        udp_socket() as (target, far),
        tunnel_with_chisel(ours, f"{far}/udp", reverse=reverse) as address,
        udp_socket() as (source, _),
    ):
        for sock in (target, source):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        with trio.fail_after(PATIENCE):
            for _ in range(3):
                # All at once: nothing is awaited, so that they wait at the entry together.
                for data in burst:
                    source._sock.sendto(data, split_address(address))  # type: ignore[attr-defined]
                got = [await target.recvfrom(70_000) for _ in burst]
                assert [data for data, _ in got] == burst
                for data in burst:
                    target._sock.sendto(data, got[0][1])  # type: ignore[attr-defined]
                assert [await source.recv(70_000) for _ in burst] == burst


@OURS
async def test_stdio_brings_8_mib_whole(ours: str) -> None:
    data = random_bytes(8 * MiB)
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(listening(pour(data)))
        if ours == "client":
            _, url = await stack.enter_async_context(chisel_server())
            command = [sys.executable, "-m", "cotun_trio"]
        else:
            server = await stack.enter_async_context(running_server())
            url, command = f"http://{server.addresses[0]}", [find_chisel() or ""]
        process = await trio.lowlevel.open_process(
            [*command, "client", url, f"stdio:{target}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin
        assert process.stdout
        async with ended_in_trio(process):
            with trio.fail_after(PATIENCE):
                received = bytearray()
                while len(received) < len(data):
                    received += await process.stdout.receive_some()
                assert sha256(bytes(received)) == sha256(data)
                await process.stdin.aclose()
                if ours == "server":
                    process.kill()  # the original goes on to reconnect
                    await process.wait()
                else:
                    assert await receive_all(process.stdout) == b""
                    assert await process.wait() == 0


async def test_the_original_is_not_asked_for_a_unix_socket() -> None:
    async with chisel_server("-v") as (program, url):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running_client(url, "127.0.0.1:0:unix:/run/app.sock"):
                await trio.sleep_forever()
        assert caught.group_contains(ConfigRefused, match="only a cotun-trio server", depth=None)
        assert not program.find("unix")


async def test_a_refusal_of_reverse_by_the_original_is_final_and_said() -> None:
    async with chisel_server() as (_, url):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running_client(url, f"R:{free_port()}:127.0.0.1:1"):
                await trio.sleep_forever()
        assert caught.group_contains(ConfigRefused, match="(?i)reverse", depth=None)


async def test_an_original_without_socks_is_code_2() -> None:
    async with chisel_server() as (_, url), running_client(url, "127.0.0.1:0:socks") as client:
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert (await socks_request(stream, LOOPBACK, 80))[0] == 2
