"""Dialling and listening: addresses, names, what goes wrong, and that nothing stays open."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, DialFailed, UsageError
from cotun_trio.net import dial
from cotun_trio.net.dial import (
    address_family,
    dial_at_once,
    dial_tcp,
    open_listeners,
    show_address,
)
from tests.support.leaks import descriptors
from tests.support.sockets import receive_exactly, send_all, tcp_listener
from tests.support.targets import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


class Resolver(trio.abc.HostnameResolver):
    """Knows the addresses of some names, and of no others."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002  Trio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Answer as the system does."""
        name = host.decode("ascii") if isinstance(host, bytes) else host
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, type, 6, "", (address, port or 0, 0, 0))
            if ":" in address
            else (socket.AF_INET, type, 6, "", (address, port or 0))
            for address in self.names[name]
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Nobody asks."""
        raise AssertionError


def know(**names: list[str]) -> None:
    """Resolve these names only, in this run of Trio."""
    trio.socket.set_custom_hostname_resolver(Resolver(**names))


async def check(sock: socket.socket, listener: socket.socket) -> None:
    """Check that `sock` is a plain socket, non-blocking and connected to `listener`; close it."""
    with sock, listener.accept()[0] as peer:
        assert type(sock) is socket.socket
        assert not sock.getblocking()
        peer.setblocking(False)
        await send_all(sock, b"hello")
        assert await receive_exactly(peer, 5) == b"hello"


async def failure(host: str, port: int) -> DialFailed:
    """Return the error of a dial that fails, leaving nothing open."""
    before = descriptors()
    with pytest.raises(DialFailed) as caught:
        await dial_tcp(host, port, timeout=TIMEOUT)
    assert descriptors() == before
    assert isinstance(caught.value, ConnectionLost)  # trying again may help
    assert str(caught.value).isprintable()
    return caught.value


# ---- dialling


async def test_an_address_is_dialled() -> None:
    with tcp_listener() as listener:
        port = listener.getsockname()[1]
        await check(await dial_tcp("127.0.0.1", port, timeout=TIMEOUT), listener)


@needs_ipv6
async def test_an_ipv6_address_is_dialled() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        await check(await dial_tcp("::1", port, timeout=TIMEOUT), listener)


async def test_a_name_is_dialled() -> None:
    with tcp_listener() as listener:
        port = listener.getsockname()[1]
        await check(await dial_tcp("localhost", port, timeout=TIMEOUT), listener)


async def test_an_address_of_a_name_that_answers_is_found_behind_one_that_does_not() -> None:
    know(several=["127.0.0.2", "127.0.0.1"])
    with tcp_listener() as listener:
        port = listener.getsockname()[1]
        await check(await dial_tcp("several", port, timeout=TIMEOUT), listener)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "[::1]", marks=needs_ipv6),
        ("one", "one"),
        ("several", "several"),
    ],
)
async def test_a_refusal_is_told_in_the_users_words(host: str, shown: str) -> None:
    know(one=["127.0.0.1"], several=["127.0.0.1", "127.0.0.2"])
    port = free_port()
    error = await failure(host, port)
    assert str(error) == f"{shown}:{port}: Connection refused"
    assert error.errno == errno.ECONNREFUSED


async def test_a_name_that_nobody_knows_fails() -> None:
    know()
    error = await failure("no-such.example", 80)
    assert str(error) == "no-such.example:80: Name or service not known"
    assert error.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize(
    "host", ["\0", "a\0b", "x" * 64 + ".example", "a" * 300, "a..b", "münchen" * 50, "\ud800"]
)
async def test_what_cannot_be_a_name_fails(host: str) -> None:
    know()
    await failure(host, 80)


async def test_what_is_shown_of_a_name_is_escaped_and_bounded() -> None:
    know()
    assert str(await failure("evil\x1b[2J\n", 80)).startswith(r"evil\x1b[2J\n:80: ")
    assert len(str(await failure("x." * 10_000, 80))) < 300


async def test_an_address_that_is_not_routed_fails_in_the_systems_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unreachable(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.ENETUNREACH, "whatever")

    monkeypatch.setattr(dial, "_connect", unreachable)
    error = await failure("192.0.2.1", 80)
    assert str(error) == "192.0.2.1:80: Network is unreachable"
    assert error.errno == errno.ENETUNREACH


async def never(*_: object) -> Any:
    await trio.sleep_forever()


class Undecided(socket.socket):
    """Connects for ever."""

    def connect_ex(self, address: Any) -> int:
        """See `socket.socket.connect_ex`."""
        return errno.EINPROGRESS


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every connection stay in the making."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Undecided)
        patch.setattr(dial, "wait_writable", never)
        yield


async def test_an_address_that_does_not_answer_is_given_up(
    undecided: None, autojump: object
) -> None:
    error = await failure("192.0.2.1", 80)
    assert trio.current_time() == pytest.approx(TIMEOUT)
    assert str(error) == "192.0.2.1:80: no answer in 30 s"
    assert error.errno == errno.ETIMEDOUT


async def test_a_name_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    monkeypatch.setattr(trio, "open_tcp_stream", never)
    assert str(await failure("silent", 80)) == "silent:80: no answer in 30 s"
    assert trio.current_time() == pytest.approx(TIMEOUT)


async def test_a_cancelled_dial_leaves_nothing_open(undecided: None) -> None:
    before = descriptors()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: dial_tcp("192.0.2.1", 80, timeout=TIMEOUT))
        await trio.testing.wait_all_tasks_blocked()
        assert len(descriptors()) == len(before) + 1
        nursery.cancel_scope.cancel()
    assert descriptors() == before


async def test_a_dial_that_takes_too_long_leaves_nothing_open(
    undecided: None, autojump: object
) -> None:
    await failure("192.0.2.1", 80)


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::", socket.AF_INET6),
        ("2001:db8::1", socket.AF_INET6),
        ("::ffff:127.0.0.1", socket.AF_INET6),
        ("localhost", None),
        ("127.1", None),
        ("0x7f.1", None),
        ("[::1]", None),
        ("fe80::1%lo", None),
        ("", None),
        ("\0", None),
        ("127.0.0.1\0", None),
        ("\N{FULLWIDTH DIGIT ONE}27.0.0.1", None),
        ("\ud800", None),
    ],
)
def test_an_address_is_what_is_written_in_full(host: str, family: object) -> None:
    assert address_family(host) is family


# ---- listening


async def test_an_address_gives_one_listener_that_takes_connections() -> None:
    (listener,) = await open_listeners("127.0.0.1", 0)
    with listener:
        assert not listener.getblocking()
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert show_address(listener) == f"127.0.0.1:{port}"
        sock = await dial_tcp("127.0.0.1", port, timeout=TIMEOUT)
        await check(sock, listener)


@needs_ipv6
async def test_every_address_of_a_name_is_listened_on_once_and_on_one_port() -> None:
    know(two=["127.0.0.1", "::1", "127.0.0.1"])
    first, second = await open_listeners("two", 0)
    with first, second:
        port = first.getsockname()[1]
        assert port
        assert show_address(first) == f"127.0.0.1:{port}"
        assert show_address(second) == f"[::1]:{port}"


@needs_ipv6
async def test_all_of_ipv6_leaves_all_of_ipv4_alone() -> None:
    know(all=["::", "0.0.0.0"])
    first, second = await open_listeners("all", 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]


async def test_a_port_in_use_is_the_users_error_and_leaves_nothing_bound() -> None:
    know(two=["127.0.0.2", "127.0.0.1"])
    with tcp_listener() as taken:
        port = taken.getsockname()[1]
        before = descriptors()
        for host in ("127.0.0.1", "two"):
            with pytest.raises(UsageError) as caught:
                await open_listeners(host, port)
            assert str(caught.value) == f"cannot listen on {host}:{port}: Address already in use"
        assert descriptors() == before
        for listener in await open_listeners("127.0.0.2", port):
            listener.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("no-such.example", "Name or service not known"),
        ("a..b", "not a name that can be looked up"),
        ("x" * 300, "not a name that can be looked up"),
    ],
)
async def test_what_cannot_be_listened_on_is_the_users_error(host: str, reason: str) -> None:
    know()
    before = descriptors()
    with pytest.raises(UsageError) as caught:
        await open_listeners(host, 0)
    assert str(caught.value).startswith("cannot listen on ")
    assert str(caught.value).endswith(f": {reason}")
    assert descriptors() == before


async def test_a_port_can_be_listened_on_again_at_once() -> None:
    (listener,) = await open_listeners("127.0.0.1", 0)
    port = listener.getsockname()[1]
    sock = await dial_tcp("127.0.0.1", port, timeout=TIMEOUT)
    accepted, _ = listener.accept()
    accepted.close()  # first, so that its address is in TIME_WAIT
    assert sock.recv(1) == b""
    sock.close()
    listener.close()
    (listener,) = await open_listeners("127.0.0.1", port)
    listener.close()


async def test_a_udp_port_is_bound_and_not_shared() -> None:
    (sock,) = await open_listeners("127.0.0.1", 0, socket.SOCK_DGRAM)
    with sock:
        assert sock.type == socket.SOCK_DGRAM
        port = sock.getsockname()[1]
        with pytest.raises(UsageError):
            await open_listeners("127.0.0.1", port, socket.SOCK_DGRAM)


# ---- at once


async def test_this_same_machine_is_dialled_at_once() -> None:
    with tcp_listener() as listener:
        host, port = listener.getsockname()
        sock = dial_at_once(host, port)
        assert sock is not None
        with sock, listener.accept()[0]:
            assert sock.getpeername() == (host, port)
            assert not sock.getblocking()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "192.0.2.1", "127.example", "127.1", "127.0.0.1\0", "localhost"]
)
def test_what_is_not_there_at_once_is_left_to_a_task(host: str) -> None:
    before = descriptors()
    assert dial_at_once(host, free_port()) is None
    assert descriptors() == before


def test_without_descriptors_nothing_is_dialled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    assert dial_at_once("127.0.0.1", 80) is None
