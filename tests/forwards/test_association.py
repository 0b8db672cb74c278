"""UDP ASSOCIATE: datagrams of a SOCKS client through the tunnel."""

from __future__ import annotations

import contextlib
import functools
import gc
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.forwards import association
from cotun_trio.forwards.datagrams import Datagrams
from cotun_trio.ssh import messages
from tests.support.ends import ask, socks_address, socks_request, udp_echo, udp_socket
from tests.support.leaks import descriptors, nothing_left
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.peer import scripted_server
from tests.support.ssh import channel_data
from tests.support.targets import LOOPBACK, connect, receive_all, reset, split_address
from tests.support.tunnel import running_client, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)
WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])


@contextlib.asynccontextmanager
async def proxy(*, reverse: bool = False, host: str = LOOPBACK) -> AsyncIterator[str]:
    """Run a tunnel with a SOCKS remote; give where it listens."""
    async with tunnel(
        remotes=(f"{'R:' * reverse}{host}:0:socks",), server={"reverse": True, "socks5": True}
    ) as both:
        yield (both.client.sessions[0].reverse_addresses if reverse else both.client.addresses)[0]


@contextlib.asynccontextmanager
async def associated(address: str, port: int = 0) -> AsyncIterator[tuple[trio.SocketStream, str]]:
    """Ask for an association; give the connection, and where its datagrams go."""
    async with await connect(address) as stream:
        code, host, port = await socks_request(stream, "0.0.0.0", port, command=3)
        assert code == 0
        yield stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def packed(target: str, payload: bytes, *, fragment: int = 0) -> bytes:
    """Return a datagram to `target`, as a SOCKS client sends it (RFC 1928 section 7)."""
    return bytes((0, 0, fragment)) + socks_address(*split_address(target)) + payload


# ---- there and back


@WAYS
async def test_datagrams_to_two_destinations_come_back_with_the_header_of_theirs(
    reverse: bool,
) -> None:
    async with (
        nothing_left(),
        udp_echo() as one,
        udp_echo() as two,
        proxy(reverse=reverse) as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        for target in (one, two, one):
            datagram = packed(target, b"to " + target.encode())
            assert await ask(client, relay, datagram) == datagram


async def test_over_ipv6_and_to_ipv6() -> None:
    async with (
        udp_echo("::1") as target,
        proxy(host="[::1]") as address,
        associated(address) as (_, relay),
        udp_socket("::1") as (client, _),
    ):
        assert relay.startswith("[::1]:")
        datagram = packed(target, b"hello")
        assert await ask(client, relay, datagram) == datagram


async def test_a_name_is_looked_up_at_the_exit_and_answers_come_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up = know(monkeypatch, **{"dns.example": [LOOPBACK]})
    async with (
        udp_echo() as target,
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        datagram = packed(f"dns.example:{split_address(target)[1]}", b"hello")
        assert await ask(client, relay, datagram) == datagram
    assert looked_up == ["dns.example"]  # once, and not at the entry


async def test_what_waits_for_a_destination_is_forgotten_when_that_is_refused(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    gc.collect()  # those of other tests
    async with watch_logs() as log, through(None) as (_, relay, _), udp_socket() as (client, _):
        await client.sendto(packed("192.0.2.1:53", b"x"), split_address(relay))
        await log.wait_for("refused: no", "client")
        for _ in range(10):
            await client.sendto(packed("192.0.2.1:53", b"x"), split_address(relay))
        await trio.testing.wait_all_tasks_blocked(0.005)
        kept = [thing for thing in gc.get_objects() if type(thing) is association._Destination]
        assert [(one.refused, len(one.waiting)) for one in kept] == [(True, 0)]


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 65_000])
async def test_a_payload_of_any_size_comes_back(size: int) -> None:
    async with (
        udp_echo() as target,
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        datagram = packed(target, bytes(size))
        assert await ask(client, relay, datagram) == datagram


@WAYS
async def test_what_waits_goes_to_each_destination_at_once_and_in_its_order(
    reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    send_all = Datagrams.send_all

    def recorded(self: Datagrams, datagrams: Sequence[tuple[str, memoryview | bytes]]) -> int:
        batches.append(len(datagrams))
        return send_all(self, datagrams)

    async with (
        udp_socket() as (one, first),
        udp_socket() as (two, second),
        proxy(reverse=reverse) as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        for target, name in ((one, first), (two, second)):
            await client.sendto(packed(name, b"opens"), split_address(relay))
            assert await target.recv(100) == b"opens"
        await trio.testing.wait_all_tasks_blocked(0.005)
        monkeypatch.setattr(Datagrams, "send_all", recorded)
        raw = client._sock  # type: ignore[attr-defined]
        for number in range(10):
            for name in (first, second):
                raw.sendto(packed(name, b"%d" % number), split_address(relay))
            raw.sendto(packed(first, b"a fragment", fragment=1), split_address(relay))
        for target in (one, two):
            assert [await target.recv(100) for _ in range(10)] == [b"%d" % n for n in range(10)]
        assert batches == [10, 10]


async def test_answers_in_a_run_have_each_its_header() -> None:
    async with (
        udp_socket() as (target, name),
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        await client.sendto(packed(name, b"hello"), split_address(relay))
        _, flow = await target.recvfrom(100)
        raw = target._sock  # type: ignore[attr-defined]
        sizes = [5, 5, 5, 0, 0, 1200, 1200, 9000]
        for number, size in enumerate(sizes):
            raw.sendto(bytes([number]) * size, flow)
        for number, size in enumerate(sizes):
            assert await client.recv(70_000) == packed(name, bytes([number]) * size)


# ---- who may use it


async def nothing_comes(sock: trio.socket.SocketType) -> bool:
    """Return whether nothing comes to `sock` while there is anything left to do."""
    await trio.testing.wait_all_tasks_blocked(0.005)
    with trio.move_on_after(0):
        await sock.recv(100)
        return False
    return True


async def test_nobody_at_another_address_may_use_it() -> None:
    async with (
        udp_socket() as (target, far),
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket("127.0.0.2") as (stranger, _),
        udp_socket() as (client, _),
    ):
        await stranger.sendto(packed(far, b"let me in"), split_address(relay))
        assert await nothing_comes(target)
        await client.sendto(packed(far, b"hello"), split_address(relay))
        assert await target.recv(100) == b"hello"


@pytest.mark.parametrize("told", [False, True], ids=["first come", "told in the request"])
async def test_nobody_at_another_port_of_the_client_may_use_it(told: bool) -> None:
    async with (
        udp_socket() as (target, far),
        proxy() as address,
        udp_socket() as (client, name),
        udp_socket() as (stranger, _),
        associated(address, split_address(name)[1] if told else 0) as (_, relay),
    ):
        if not told:
            await client.sendto(packed(far, b"mine"), split_address(relay))
            assert await target.recv(100) == b"mine"
        await stranger.sendto(packed(far, b"me too"), split_address(relay))
        assert await nothing_comes(target)
        await client.sendto(packed(far, b"hello"), split_address(relay))
        assert await target.recv(100) == b"hello"


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00\x00", id="short"),
        pytest.param(packed(f"127.0.0.1:{9}", b"x", fragment=1), id="fragment"),
        pytest.param(packed("127.0.0.1:0", b"x"), id="port 0"),
        pytest.param(b"\x00\x00\x00\x07\x01\x02", id="unknown kind of address"),
        pytest.param(b"\x00\x00\x00\x03\x00\x00\x50", id="no name"),
        pytest.param(b"\x00\x00\x00\x03\x04\xff\xfe\xfd\xfc\x00\x50", id="no UTF-8"),
    ],
)
async def test_what_makes_no_sense_is_dropped_without_a_word(rubbish: bytes) -> None:
    async with (
        udp_echo() as target,
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        assert await ask(client, relay, packed(target, b"1")) == packed(target, b"1")
        await client.sendto(rubbish, split_address(relay))
        assert await nothing_comes(client)
        assert await ask(client, relay, packed(target, b"2")) == packed(target, b"2")


async def test_a_fragment_reaches_nobody() -> None:
    async with (
        udp_socket() as (target, far),
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        await client.sendto(packed(far, b"half", fragment=1), split_address(relay))
        assert await nothing_comes(target)


async def test_a_destination_too_many_is_dropped_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(association, "MAX_DESTINATIONS", 3)
    async with (
        udp_echo() as one,
        udp_echo() as two,
        udp_echo() as three,
        udp_socket() as (four, far),
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        for target in (one, two, three):
            assert await ask(client, relay, packed(target, b"1")) == packed(target, b"1")
        await client.sendto(packed(far, b"too many"), split_address(relay))
        assert await nothing_comes(four)
        for target in (one, two, three):
            assert await ask(client, relay, packed(target, b"2")) == packed(target, b"2")


async def test_an_idle_destination_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(association, "MAX_DESTINATIONS", 1)
    async with (
        udp_echo() as one,
        udp_echo() as two,
        proxy() as address,
        associated(address) as (_, relay),
        udp_socket() as (client, _),
    ):
        assert await ask(client, relay, packed(one, b"1")) == packed(one, b"1")
        await trio.sleep(2 * association.IDLE)
        assert await ask(client, relay, packed(two, b"2")) == packed(two, b"2")


# ---- its end


@WAYS
@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_it_ends_with_its_connection_and_takes_no_other_one_along(
    end: str, reverse: bool
) -> None:
    async with (
        watch_logs() as log,
        udp_echo() as target,
        proxy(reverse=reverse) as address,
        associated(address) as (_, other_relay),
        udp_socket() as (client, _),
    ):
        assert await ask(client, other_relay, packed(target, b"1")) == packed(target, b"1")
        # The flow at the exit goes with its channel.
        async with (
            nothing_left(),
            associated(address) as (stream, relay),
            udp_socket() as (user, _),
        ):
            assert await ask(user, relay, packed(target, b"1")) == packed(target, b"1")
            if end == "reset":
                reset(stream)
        assert await ask(client, other_relay, packed(target, b"2")) == packed(target, b"2")
        assert not log.find("internal error")


async def test_it_ends_with_the_session() -> None:
    async with contextlib.AsyncExitStack() as stack:
        before = descriptors()
        async with proxy() as address:
            stream, _ = await stack.enter_async_context(associated(address))
        assert len(descriptors()) == len(before) + 1  # the client's own
        with contextlib.suppress(trio.BrokenResourceError):
            assert await receive_all(stream) == b""


async def test_an_association_on_a_unix_socket_is_refused(tmp_path: Path) -> None:
    async with (
        tunnel(remotes=(f"unix:{tmp_path}/s:socks",), server={"socks5": True}),
        await trio.open_unix_socket(str(tmp_path / "s")) as stream,
    ):
        assert (await socks_request(stream, "0.0.0.0", 0, command=3))[0] == 7


# ---- other exits


@contextlib.asynccontextmanager
async def through(
    answer: bytes | None,
) -> AsyncIterator[tuple[trio.SocketStream, str, list[bytes]]]:
    """Associate through an exit that sends `answer` on each channel, or refuses it."""
    opened: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        while True:
            message = await peer.receive_type(messages.CHANNEL_OPEN)
            opened.append(message[23:])
            number = int.from_bytes(message[11:15])
            if answer is None:
                await peer.send(messages.open_failure(number, 1, "no"))
            else:
                confirmation = messages.open_confirmation(number, 7, 1 << 20, 1 << 15)
                await peer.send(confirmation, channel_data(number, answer))

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:socks", protocol="chisel", keepalive=0) as client,
    ):
        await client.opened()
        async with associated(client.addresses[0]) as (stream, relay):
            yield stream, relay, opened


async def test_a_destination_that_is_refused_is_not_asked_for_with_every_datagram(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        watch_logs() as log,
        through(None) as (_, relay, opened),
        udp_socket() as (client, _),
    ):
        for _ in range(100):
            await client.sendto(packed("192.0.2.1:53", b"x"), split_address(relay))
            await trio.testing.wait_all_tasks_blocked()
        await log.wait_for("refused: no", "client")
        assert opened == [b"192.0.2.1:53/udp"]
        await trio.sleep(2 * association.IDLE)
        await client.sendto(packed("192.0.2.1:53", b"x"), split_address(relay))
        await log.wait_for("refused: no", "client", times=2)


async def test_an_exit_that_sends_no_gob_ends_the_session_with_a_protocol_error() -> None:
    async with watch_logs() as log, through(b"\x00\x00\x00\x00") as (_, relay, _opened):
        async with udp_socket() as (client, _):
            await client.sendto(packed("192.0.2.1:53", b"x"), split_address(relay))
            await log.wait_for("Disconnected: UDP stream: ", "client")
        assert not log.find("internal error")
