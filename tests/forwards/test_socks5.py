"""SOCKS5 through a tunnel: its entry, its exit, and what clients are told."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.settings import Timings
from cotun_trio.ssh import messages
from tests.support.ends import receive_reply, socks_address, socks_request
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.peer import peer_of, scripted_server
from tests.support.peers import needs
from tests.support.ssh import channel_data
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    listening,
    pour,
    receive_all,
    receive_exactly,
    refused_address,
    reset,
    split_address,
)
from tests.support.tunnel import running_client, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)
WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])


@contextlib.asynccontextmanager
async def proxy(
    *, reverse: bool = False, login: str = "", timings: Timings | None = None
) -> AsyncIterator[str]:
    """Run a tunnel with a SOCKS remote; give where it listens."""
    async with tunnel(
        remotes=(f"{'R:' * reverse}{login}127.0.0.1:0:socks",),
        server={"reverse": True, "socks5": True},
        timings=timings,
    ) as both:
        yield (both.client.sessions[0].reverse_addresses if reverse else both.client.addresses)[0]


# ---- requests


@WAYS
@pytest.mark.parametrize(
    ("listen", "name"), [(LOOPBACK, LOOPBACK), ("::1", "::1"), (LOOPBACK, "localhost")]
)
async def test_a_target_is_reached_by_address_and_by_name(
    listen: str, name: str, reverse: bool
) -> None:
    async with (
        nothing_left(),
        listening(echo, listen) as target,
        proxy(reverse=reverse) as address,
        await connect(address) as stream,
    ):
        code, host, port = await socks_request(stream, name, split_address(target)[1])
        assert (code, host) == (0, listen)  # where the exit dials from
        assert port
        assert await echoes(stream)


async def test_a_request_byte_by_byte_and_what_comes_right_behind_it() -> None:
    async with listening(echo) as target, proxy() as address, await connect(address) as stream:
        host, port = split_address(target)
        for byte in b"\x05\x01\x00\x05\x01\x00" + socks_address(host, port) + b"early":
            await stream.send_all(bytes((byte,)))
        assert await receive_exactly(stream, 2) == b"\x05\x00"
        assert (await receive_reply(stream))[0] == 0
        assert await receive_exactly(stream, 5) == b"early"


@WAYS
async def test_early_data_in_one_piece_with_everything_else_arrives(reverse: bool) -> None:
    early = bytes(range(256)) * 100
    async with (
        listening(echo) as target,
        proxy(reverse=reverse) as address,
        await connect(address) as stream,
    ):
        request = b"\x05\x01\x00" + socks_address(*split_address(target))
        await stream.send_all(b"\x05\x01\x00" + request + early)
        await stream.send_eof()
        assert await receive_exactly(stream, 2) == b"\x05\x00"
        assert (await receive_reply(stream))[0] == 0
        assert await receive_all(stream) == early


async def test_a_target_that_talks_first_is_heard() -> None:
    async with (
        listening(pour(b"220 hello")) as target,
        proxy() as address,
        await connect(address) as stream,
    ):
        assert (await socks_request(stream, *split_address(target)))[0] == 0
        assert await receive_exactly(stream, 9) == b"220 hello"


# ---- refusals


async def code_for(address: str, host: str, port: int, *, command: int = 1) -> int:
    """Return the code of the answer to a request, after which there is nothing more."""
    async with await connect(address) as stream:
        code, _, _ = await socks_request(stream, host, port, command=command)
        assert await receive_all(stream) == b""
        return code


@WAYS
async def test_a_refused_target_is_code_5(reverse: bool) -> None:
    async with proxy(reverse=reverse) as address:
        assert await code_for(address, *split_address(refused_address())) == 5


async def test_an_unreachable_network_is_code_3() -> None:
    async with proxy() as address:  # 255.255.255.255 cannot be connected to by TCP
        assert await code_for(address, "255.255.255.255", 80) == 3


@WAYS
async def test_a_name_that_does_not_resolve_is_code_4(
    reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    async with proxy(reverse=reverse) as address:
        assert await code_for(address, "nowhere.invalid", 80) == 4


async def test_a_target_that_does_not_answer_is_code_6(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    with trio.socket.socket() as full:
        # A listener whose queue is full leaves SYNs without an answer.
        await full.bind((LOOPBACK, 0))
        full.listen(0)
        target = f"{LOOPBACK}:{full.getsockname()[1]}"
        async with await connect(target), proxy(timings=Timings(dial_timeout=3)) as address:
            assert await code_for(address, *split_address(target)) == 6


async def test_an_exit_that_does_no_socks_is_code_2() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        await peer.send(messages.open_failure(number, messages.OPEN_PROHIBITED, "Denied"))
        await peer.gone()

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:socks", protocol="chisel") as client,
    ):
        await client.opened()
        assert await code_for(client.addresses[0], LOOPBACK, 80) == 2


async def test_a_server_without_socks_refuses_a_channel_to_it() -> None:
    async with (
        tunnel(server={"socks5": False}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        assert await peer.refused_channel("socks") == messages.OPEN_PROHIBITED


@WAYS
@pytest.mark.parametrize("command", [2, 9])
async def test_bind_and_what_nobody_knows_are_code_7(command: int, reverse: bool) -> None:
    async with nothing_left(), proxy(reverse=reverse) as address:
        assert await code_for(address, LOOPBACK, 80, command=command) == 7


@pytest.mark.parametrize("command", [2, 3])
async def test_the_exit_itself_takes_nothing_but_connect(command: int) -> None:
    async with (
        tunnel(server={"socks5": True}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        number = await peer.open_channel("socks")
        request = bytes((5, command, 0)) + socks_address(LOOPBACK, 80)
        await peer.send(channel_data(number, b"\x05\x01\x00" + request))
        said = b""
        while len(said) < 4:
            said += (await peer.receive_type(messages.CHANNEL_DATA))[9:]
        assert said[:4] == b"\x05\x00\x05\x07"


@pytest.mark.parametrize(
    "rubbish", [b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]
)
async def test_what_is_not_socks_5_is_closed_and_the_next_one_served(rubbish: bytes) -> None:
    async with listening(echo) as target, proxy() as address, nothing_left():
        async with await connect(address) as stream:
            await stream.send_all(rubbish)
            with contextlib.suppress(trio.BrokenResourceError):
                assert await receive_all(stream) == b""
        async with await connect(address) as stream:
            assert (await socks_request(stream, *split_address(target)))[0] == 0
            assert await echoes(stream)


@WAYS
@pytest.mark.parametrize(
    "begin", [b"", b"\x05", b"\x05\x01\x00", b"\x05\x01\x00\x05\x01\x00\x03\xff"]
)
async def test_a_client_that_stalls_before_its_request_is_cut_after_10_seconds(
    begin: bytes, reverse: bool, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with (
        proxy(reverse=reverse) as address,
        nothing_left(),
        await connect(address) as stream,
    ):
        started = trio.current_time()
        await stream.send_all(begin)
        with contextlib.suppress(trio.BrokenResourceError):
            await receive_all(stream)
        assert 9 < trio.current_time() - started < 12


async def test_an_entry_that_stalls_at_the_exit_is_cut_after_10_seconds(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        tunnel(server={"socks5": True}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        started = trio.current_time()
        await peer.open_channel("socks")
        await peer.receive_type(messages.CHANNEL_CLOSE)
        assert 9 < trio.current_time() - started < 12


async def test_a_client_that_resets_in_the_greeting_harms_nobody() -> None:
    async with watch_logs() as log, listening(echo) as target, proxy() as address:
        async with await connect(address) as stream:
            assert (await socks_request(stream, *split_address(target)))[0] == 0
            for begin in (b"", b"\x05", b"\x05\x01\x00"):
                other = await connect(address)
                await other.send_all(begin)
                reset(other)
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert await echoes(stream)
        assert not log.find("internal error")


# ---- logins

LOGIN = "me:s3cret@"


@WAYS
@pytest.mark.parametrize(
    ("user", "password", "status"),
    [("me", "s3cret", 0), ("me", "wrong", 1), ("you", "s3cret", 1), ("", "", 1), ("me", "", 1)],
)
async def test_a_listener_with_a_login_lets_in_who_knows_it_and_nobody_else(
    user: str, password: str, status: int, reverse: bool
) -> None:
    login = b"\x01%c%b%c%b" % (len(user), user.encode(), len(password), password.encode())
    async with (
        watch_logs() as log,
        listening(echo) as target,
        proxy(reverse=reverse, login=LOGIN) as address,
        await connect(address) as stream,
    ):
        await stream.send_all(b"\x05\x02\x00\x02")
        assert await receive_exactly(stream, 2) == b"\x05\x02"
        await stream.send_all(login)
        assert await receive_exactly(stream, 2) == bytes((1, status))
        if status:
            assert await receive_all(stream) == b""
        else:
            await stream.send_all(b"\x05\x01\x00" + socks_address(*split_address(target)))
            assert (await receive_reply(stream))[0] == 0
            assert await echoes(stream)
    assert "s3cret" not in "".join(log.lines(level=0))


async def test_a_listener_with_a_login_refuses_who_offers_none() -> None:
    async with proxy(login=LOGIN) as address, await connect(address) as stream:
        await stream.send_all(b"\x05\x01\x00")
        assert await receive_all(stream) == b"\x05\xff"


# ---- curl


@pytest.mark.interop
@needs("curl")
@WAYS
@pytest.mark.parametrize("option", ["--socks5", "--socks5-hostname"])
@pytest.mark.parametrize("login", ["", LOGIN])
async def test_curl_fetches_through_it(option: str, login: str, reverse: bool) -> None:
    async def page(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with listening(page) as target, proxy(reverse=reverse, login=login) as address:
        url = f"http://localhost:{split_address(target)[1]}/"
        command = ["curl", "-q", "-sS", "-4", "--noproxy", "", option, f"{login}{address}", url]
        done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"hello"
