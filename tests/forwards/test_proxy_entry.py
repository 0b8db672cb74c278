"""A proxy through a tunnel, at its entry: SOCKS 5, SOCKS 4 and HTTP's CONNECT."""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.protocol.http_connect import MAX_HEAD
from cotun_trio.settings import Timings
from cotun_trio.ssh import messages
from tests.support.ends import receive_reply, socks_address, socks_request
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.peer import scripted_server
from tests.support.peers import needs
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


@WAYS
@pytest.mark.parametrize("command", [2, 9])
async def test_bind_and_what_nobody_knows_are_code_7(command: int, reverse: bool) -> None:
    async with nothing_left(), proxy(reverse=reverse) as address:
        assert await code_for(address, LOOPBACK, 80, command=command) == 7


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01", b"\0", b"get / http/1.1\r\n\r\n"])
async def test_another_protocol_is_closed_and_the_next_client_served(rubbish: bytes) -> None:
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
    "begin",
    [b"", b"\x05", b"\x05\x01\x00", b"\x05\x01\x00\x05\x01\x00\x03\xff", b"\x04\x01", b"CONNECT "],
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


async def test_socks_4_has_no_password_and_is_refused_where_one_is_wanted() -> None:
    async with watch_logs() as log, proxy(login=LOGIN) as address:
        async with await connect(address) as stream:
            await stream.send_all(socks4_request(LOOPBACK, 80))
            assert await receive_all(stream) == b"\x00\x5b" + bytes(6)
        await log.wait_for("SOCKS 4 has none")


@WAYS
@pytest.mark.parametrize(
    ("login", "status"), [("me:s3cret", 200), ("me:wrong", 407), ("you:s3cret", 407), ("", 407)]
)
async def test_connect_has_a_password_like_socks_5(login: str, status: int, reverse: bool) -> None:
    field = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
    async with (
        watch_logs() as log,
        listening(echo) as target,
        proxy(reverse=reverse, login=LOGIN) as address,
        await connect(address) as stream,
    ):
        answer = await connect_request(stream, target, field if login else "")
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert ("\r\nProxy-Authenticate: Basic realm=" in answer) == (status == 407)
        if status == 200:
            assert await echoes(stream)
        else:
            assert (await receive_all(stream)).endswith(b"a user and a password.\n")
    assert "s3cret" not in "".join(log.lines(level=0))


# ---- SOCKS 4 and CONNECT


def socks4_request(host: str, port: int, *, command: int = 1) -> bytes:
    """Return a request of SOCKS 4 to an IPv4 address, and of 4a to a name."""
    head = bytes((4, command)) + port.to_bytes(2)
    if host[0].isdigit():
        return head + socket.inet_aton(host) + b"me\0"
    return head + b"\0\0\0\x01me\0" + host.encode() + b"\0"


def connect_head(target: str, fields: str = "") -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode()


async def connect_request(stream: trio.SocketStream, target: str, fields: str = "") -> str:
    """Ask for a connection; return the head of the answer."""
    await stream.send_all(connect_head(target, fields))
    return await receive_head(stream)


async def receive_head(stream: trio.SocketStream) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await receive_exactly(stream, 1)
    return head.decode()


@WAYS
@pytest.mark.parametrize("name", [LOOPBACK, "localhost"])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_socks_4_reaches_an_address_and_a_name(
    name: str, bytewise: bool, reverse: bool
) -> None:
    async with (
        nothing_left(),
        listening(echo) as target,
        proxy(reverse=reverse) as address,
        await connect(address) as stream,
    ):
        data = socks4_request(name, split_address(target)[1]) + b"early"
        for piece in [bytes([byte]) for byte in data] if bytewise else [data]:
            await stream.send_all(piece)
        answer = await receive_exactly(stream, 8)
        assert (answer[:2], answer[4:]) == (b"\x00\x5a", socket.inet_aton(LOOPBACK))
        assert await receive_exactly(stream, 5) == b"early"
        assert await echoes(stream)


@WAYS
@pytest.mark.parametrize(
    ("listen", "name"), [(LOOPBACK, LOOPBACK), ("::1", "[::1]"), (LOOPBACK, "localhost")]
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_connect_reaches_an_address_and_a_name(
    listen: str, name: str, bytewise: bool, reverse: bool
) -> None:
    async with (
        nothing_left(),
        listening(echo, listen) as target,
        proxy(reverse=reverse) as address,
        await connect(address) as stream,
    ):
        data = connect_head(f"{name}:{split_address(target)[1]}") + b"early"
        for piece in [bytes([byte]) for byte in data] if bytewise else [data]:
            await stream.send_all(piece)
        assert await receive_head(stream) == "HTTP/1.1 200 Connection established\r\n\r\n"
        assert await receive_exactly(stream, 5) == b"early"
        assert await echoes(stream)


@WAYS
@pytest.mark.parametrize("socks", [False, True], ids=["connect", "socks4"])
async def test_much_early_data_arrives_and_so_does_a_target_that_talks_first(
    socks: bool, reverse: bool
) -> None:
    early = bytes(range(256)) * 1000
    async with (
        listening(echo) as target,
        proxy(reverse=reverse) as address,
        await connect(address) as stream,
    ):
        await stream.send_all(
            (socks4_request(*split_address(target)) if socks else connect_head(target)) + early
        )
        await stream.send_eof()
        said = await receive_all(stream)
        head, answer = (said[:8], said[8:]) if socks else said.split(b"\r\n\r\n", 1)
        assert b"\x5a" in head or b" 200 " in head
        assert answer == early


@WAYS
@pytest.mark.parametrize(("host", "status"), [(LOOPBACK, 502), ("nowhere.invalid", 502)])
async def test_a_target_that_cannot_be_reached_is_said_in_the_clients_protocol(
    host: str, status: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    port = split_address(refused_address())[1]
    async with nothing_left(), proxy(reverse=reverse) as address:
        async with await connect(address) as stream:
            await stream.send_all(socks4_request(host, port))
            assert await receive_all(stream) == b"\x00\x5b" + bytes(6)
        async with await connect(address) as stream:
            answer = await connect_request(stream, f"{host}:{port}")
            assert answer.startswith(f"HTTP/1.1 {status} ")
            assert (await receive_all(stream)).startswith(b"The tunnel does not lead there: ")


async def test_a_target_that_does_not_answer_is_504(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    with trio.socket.socket() as full:
        await full.bind((LOOPBACK, 0))
        full.listen(0)
        target = f"{LOOPBACK}:{full.getsockname()[1]}"
        async with (
            await connect(target),
            proxy(timings=Timings(dial_timeout=3)) as address,
            await connect(address) as stream,
        ):
            assert (await connect_request(stream, target)).startswith("HTTP/1.1 504 ")


@pytest.mark.parametrize(
    ("code", "status"), [(messages.OPEN_PROHIBITED, 403), (messages.OPEN_RESOURCE_SHORTAGE, 502)]
)
async def test_an_exit_that_does_no_socks_is_said_in_the_clients_protocol(
    code: int, status: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        for _ in range(2):
            number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
            await peer.send(messages.open_failure(number, code, "no"))
        await peer.gone()

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:socks", protocol="chisel") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            await stream.send_all(socks4_request(LOOPBACK, 80))
            assert await receive_all(stream) == b"\x00\x5b" + bytes(6)
        async with await connect(client.addresses[0]) as stream:
            assert (await connect_request(stream, "a:1")).startswith(f"HTTP/1.1 {status} ")


async def test_an_exit_that_ends_without_an_answer_is_502() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        await peer.send(messages.open_confirmation(number, 7, 1 << 20, 1 << 15))
        await peer.send(messages.about_channel(messages.CHANNEL_CLOSE, number))
        await peer.gone()

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:socks", protocol="chisel") as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert (await connect_request(stream, "a:1")).startswith("HTTP/1.1 502 ")


async def test_bind_of_socks_4_is_refused() -> None:
    async with nothing_left(), proxy() as address, await connect(address) as stream:
        await stream.send_all(socks4_request(LOOPBACK, 80, command=2))
        assert await receive_all(stream) == b"\x00\x5b" + bytes(6)


@WAYS
async def test_what_a_browser_sends_for_plain_http_is_405_and_read_whole(reverse: bool) -> None:
    body = b"x=" + b"y" * 100_000
    request = (
        "POST http://intranet/form HTTP/1.1\r\nHost: intranet\r\nProxy-Connection: keep-alive\r\n"
        f"Content-Length: {len(body)}\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\r\n"
    )
    async with proxy(reverse=reverse) as address, await connect(address) as stream:
        await stream.send_all(request.encode() + body)
        answer = await receive_head(stream)
        assert answer.startswith("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n")
        assert b"CONNECT only" in await receive_all(stream)


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400), (b"CONNECT a:1 HTTP/1.1\r\nX: ", 431)],
)
async def test_what_is_malformed_or_too_long_is_told_so(request_: bytes, status: int) -> None:
    async with proxy() as address, await connect(address) as stream:
        await stream.send_all(request_.ljust(MAX_HEAD + 1, b"x") if status == 431 else request_)
        assert (await receive_head(stream)).startswith(f"HTTP/1.1 {status} ")


# ---- curl


CURL = [
    pytest.param(option, login, [], id=f"{option} {login}")
    for option in ("--socks4", "--socks4a", "--socks5", "--socks5-hostname", "--proxy")
    for login in ("", LOGIN)
    if not (login and "socks4" in option)
]


@pytest.mark.interop
@needs("curl")
@WAYS
@pytest.mark.parametrize(
    ("option", "login", "anyway"),
    # It asks without a password first, and again on another connection.
    [*CURL, pytest.param("--proxy", LOGIN, ["--proxy-anyauth"], id="--proxy-anyauth")],
)
async def test_curl_fetches_through_it(
    option: str, login: str, anyway: list[str], reverse: bool
) -> None:
    async def page(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with listening(page) as target, proxy(reverse=reverse, login=login) as address:
        url = f"http://localhost:{split_address(target)[1]}/"
        scheme = "http://" * (option == "--proxy")
        command = ["curl", "-q", "-sS", "-4", "--noproxy", "", "--proxytunnel"]
        command += [option, f"{scheme}{login}{address}", *anyway, url]
        done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"hello"
