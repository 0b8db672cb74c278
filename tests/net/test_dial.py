"""Dialling and listening: addresses, names, what goes wrong, and that nothing stays open."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost, DialFailed, Shortage, UsageError
from cotun_trio.net import dial
from cotun_trio.net.dial import (
    address_family,
    dial_at_once,
    dial_tcp,
    interleave,
    open_listeners,
    show_addresses,
)
from cotun_trio.net.names import PER_SHARE, share_of
from tests.support.leaks import descriptors
from tests.support.names import address_of, know, silence
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


async def test_an_address_of_a_name_that_answers_is_found_behind_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, several=["127.0.0.2", "127.0.0.1"])
    with tcp_listener() as listener:
        port = listener.getsockname()[1]
        await check(await dial_tcp("several", port, timeout=TIMEOUT), listener)


@pytest.mark.parametrize(
    ("taken", "reached"),
    [
        ([], "127.0.0.1"),
        (["127.0.0.1"], "127.0.0.2"),
        (["127.0.0.1", "127.0.0.2"], "127.0.0.1"),
    ],
)
async def test_addresses_of_a_name_that_are_taken_are_dialled_only_if_there_are_no_others(
    taken: list[str], reached: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, several=["127.0.0.1", "127.0.0.2"])
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        with await dial_tcp("several", port, timeout=TIMEOUT, taken=taken) as sock:
            assert sock.getpeername()[0] == reached


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "[::1]", marks=needs_ipv6),
        ("one", "one"),
        ("several", "several"),
    ],
)
async def test_a_refusal_is_told_in_the_users_words(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, one=["127.0.0.1"], several=["127.0.0.1", "127.0.0.2"])
    port = free_port()
    error = await failure(host, port)
    assert str(error) == f"{shown}:{port}: Connection refused"
    assert error.errno == errno.ECONNREFUSED


async def test_a_name_that_nobody_knows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch)
    error = await failure("no-such.example", 80)
    assert str(error) == "no-such.example:80: Name or service not known"
    assert error.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize(
    "host", ["\0", "a\0b", "x" * 64 + ".example", "a" * 300, "a..b", "münchen" * 50, "\ud800"]
)
async def test_what_cannot_be_a_name_fails(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = know(monkeypatch)
    await failure(host, 80)
    assert not asked


async def test_what_is_shown_of_a_name_is_escaped_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch)
    assert str(await failure("evil\x1b[2J\n", 80)).startswith(r"evil\x1b[2J\n:80: ")
    assert len(str(await failure("x." * 10_000, 80))) < 300


async def test_an_address_that_is_not_routed_fails_in_the_systems_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unreachable(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

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


async def test_a_name_that_nobody_answers_is_given_up(autojump: object) -> None:
    with silence():
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
    assert "no answer" in str(await failure("192.0.2.1", 80))


# ---- names with several addresses


class Network:
    """Addresses that answer, refuse or stay silent, each after some seconds."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, **addresses: tuple[float, int | None]
    ) -> None:
        self.tried: list[tuple[str, float]] = []
        """Which address was tried when."""
        self.open: list[socket.socket] = []
        self.addresses = list(map(address_of, addresses))
        self._answers = addresses
        monkeypatch.setattr(dial, "_connect", self._connect)

    async def _connect(
        self, family: object, host: str, port: int, *, timeout: float = 0, spare: bool
    ) -> socket.socket:
        self.tried.append((host, trio.current_time()))
        seconds, number = self._answers[host]
        await trio.sleep(seconds)
        if number is not None:
            raise OSError(number, os.strerror(number))
        sock = socket.socket()
        self.open.append(sock)
        return sock


REFUSED, UNREACHABLE = errno.ECONNREFUSED, errno.ENETUNREACH


async def dial_several(network: Network) -> socket.socket:
    return await dial._connect_to_any(network.addresses, 80, spare=True)


async def test_an_address_that_is_silent_for_a_quarter_of_a_second_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(99, None), b=(99, None), c=(1, None), d=(99, None))
    with await dial_several(network) as sock:
        assert network.open == [sock]
    assert network.tried == [("a", 0), ("b", 0.25), ("c", 0.5), ("d", 0.75)]
    assert trio.current_time() == pytest.approx(1.5)


async def test_an_address_that_refuses_is_followed_by_the_next_one_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(0.1, REFUSED), b=(0, UNREACHABLE), c=(0.2, None))
    with await dial_several(network) as sock:
        assert network.open == [sock]
    assert network.tried == [("a", 0), ("b", 0.1), ("c", 0.1)]


async def test_an_answer_that_comes_late_wins_where_no_other_one_comes(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(5, None), b=(0.1, REFUSED), c=(99, None))
    with await dial_several(network) as sock:
        assert network.open == [sock]
    assert trio.current_time() == pytest.approx(5)


async def test_where_all_fail_the_last_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(1, REFUSED), b=(0.1, errno.EHOSTUNREACH))
    with pytest.raises(ConnectionRefusedError):
        await dial_several(network)
    assert not network.open


@pytest.mark.parametrize("number", [UNREACHABLE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_an_address_to_which_there_is_no_way_does_not_hide_that_another_one_refuses(
    monkeypatch: pytest.MonkeyPatch, autojump: object, number: int
) -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial_several(Network(monkeypatch, a=(0, REFUSED), b=(0, number)))
    with pytest.raises(OSError) as caught:
        await dial_several(Network(monkeypatch, a=(0, number), b=(0, number)))
    assert caught.value.errno == number


async def test_of_two_that_answer_in_the_same_moment_one_stays_open(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(0.5, None), b=(0.25, None))
    with await dial_several(network) as sock:
        assert [one.fileno() >= 0 for one in network.open] == [one is sock for one in network.open]


async def test_a_race_that_is_cancelled_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, autojump: object
) -> None:
    network = Network(monkeypatch, a=(99, None), b=(0.75, None), c=(99, None))
    for deadline in (0.1, 0.3, 1.0):  # and in the moment in which one wins
        with trio.move_on_after(deadline) as scope:
            await dial_several(network)
        assert scope.cancelled_caught
        assert all(sock.fileno() < 0 for sock in network.open)


def test_the_families_of_addresses_are_tried_in_turn() -> None:
    found = list(map(address_of, ("::1", "::2", "::3", "127.0.0.1", "127.0.0.2")))
    assert [address for _, address in interleave(found)] == [
        "::1",
        "127.0.0.1",
        "::2",
        "127.0.0.2",
        "::3",
    ]
    assert interleave(found[3:]) == found[3:]


async def test_too_many_names_at_once_are_a_shortage_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cotun_trio.net.names.MAX_WAITING", 0)
    with silence():
        share = share_of("a peer")
        async with trio.open_nursery() as nursery:
            for _ in range(PER_SHARE):
                nursery.start_soon(lambda: dial_tcp("a", 1, timeout=TIMEOUT, share=share))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Shortage) as caught:
                await dial_tcp("b", 1, timeout=TIMEOUT, share=share)
            assert str(caught.value) == "b:1: too many names are being looked up"
            with pytest.raises(UsageError, match="cannot listen on b:1: too many names"):
                await open_listeners("b", 1, share=share)
            nursery.cancel_scope.cancel()


# ---- addresses


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
        assert show_addresses([listener]) == [f"127.0.0.1:{port}"]
        sock = await dial_tcp("127.0.0.1", port, timeout=TIMEOUT)
        await check(sock, listener)


@needs_ipv6
async def test_every_address_of_a_name_is_listened_on_once_and_on_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, two=["127.0.0.1", "::1", "127.0.0.1"])
    first, second = await open_listeners("two", 0)
    with first, second:
        port = first.getsockname()[1]
        assert port
        assert show_addresses([first]) == [f"127.0.0.1:{port}"]
        assert show_addresses([second]) == [f"[::1]:{port}"]


@needs_ipv6
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "0.0.0.0"), ("", "0.0.0.0"), ("::", "[::]"), ("0:0::0", "[::]")],
)
async def test_the_wildcard_is_both_families_on_one_port_and_shown_once(
    host: str, shown: str, kind: socket.SocketKind
) -> None:
    listeners = await open_listeners(host, 0, kind)
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        assert {sock.family for sock in listeners} == {socket.AF_INET, socket.AF_INET6}
        (port,) = {sock.getsockname()[1] for sock in listeners}
        assert port
        assert show_addresses(listeners) == [f"{shown}:{port}"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_the_wildcard_is_ipv4_alone_where_there_is_no_ipv6(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = socket.socket

    def ipv4_only(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return make(family, kind)

    monkeypatch.setattr("cotun_trio.net.dial.socket.socket", ipv4_only)
    (listener,) = await open_listeners(host, 0)
    with listener:
        assert listener.family == socket.AF_INET


@needs_ipv6
async def test_a_port_that_one_family_does_not_have_free_is_not_half_listened_on() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = descriptors()
        with pytest.raises(UsageError, match=f"cannot listen on 0.0.0.0:{port}: Address already"):
            await open_listeners("0.0.0.0", port)
        assert descriptors() == before


@needs_ipv6
async def test_any_free_port_is_one_that_is_free_in_both_families(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []
    really = dial._listen

    def listen(
        family: socket.AddressFamily, host: str, port: int, kind: socket.SocketKind
    ) -> socket.socket:
        asked.append((host, port))
        if len(asked) == 2:
            raise OSError(errno.EADDRINUSE, "in use")
        return really(family, host, port, kind)

    monkeypatch.setattr(dial, "_listen", listen)
    before = descriptors()
    listeners = await open_listeners("0.0.0.0", 0)
    assert [host for host, _ in asked] == ["0.0.0.0", "::", "0.0.0.0", "::"]
    for listener in listeners:
        listener.close()
    assert descriptors() == before


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("missing", ["192.0.2.1", "2001:db8::1", "fe80::1"])
async def test_an_address_of_a_name_that_is_not_here_is_passed_over(
    missing: str, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, two=[missing, "127.0.0.1"], none=[missing])
    before = descriptors()
    (listener,) = await open_listeners("two", 0, kind)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with pytest.raises(UsageError, match="cannot listen on none:0: "):
        await open_listeners("none", 0, kind)
    assert descriptors() == before


@needs_ipv6
async def test_all_of_ipv6_leaves_all_of_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, all=["::", "0.0.0.0"])
    first, second = await open_listeners("all", 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]


async def test_a_port_in_use_is_the_users_error_and_leaves_nothing_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, two=["127.0.0.2", "127.0.0.1"])
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
async def test_what_cannot_be_listened_on_is_the_users_error(
    host: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    before = descriptors()
    with pytest.raises(UsageError) as caught:
        await open_listeners(host, 0)
    assert str(caught.value).startswith("cannot listen on ")
    assert str(caught.value).endswith(f": {reason}")
    assert descriptors() == before


@pytest.mark.parametrize(("port", "advised"), [(80, True), (1023, True), (1024, False)])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_low_port_that_is_not_allowed_says_what_allows_it(
    port: int, advised: bool, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unprivileged(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("cotun_trio.net.dial.socket.socket", Unprivileged)
    with pytest.raises(UsageError) as caught:
        await open_listeners("127.0.0.1", port, kind)
    text = str(caught.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{port}: Permission denied")
    for word in (
        "CAP_NET_BIND_SERVICE",
        "AmbientCapabilities=",
        "net.ipv4.ip_unprivileged_port_start",
        "a socket unit of systemd",
    ):
        assert (word in text) == advised


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
