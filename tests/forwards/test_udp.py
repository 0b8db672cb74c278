"""UDP remotes end to end: many sources, refusals, lost servers, hostile peers."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.forwards.udp_flow import KEPT_FOR
from cotun_trio.forwards.udp_flows import MAX_WAITING
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from cotun_trio.settings import Timings
from cotun_trio.ssh import messages
from tests.support.bystander import bystander
from tests.support.datagrams import datagrams_in
from tests.support.ends import ask, udp_echo, udp_socket
from tests.support.leaks import descriptors, nothing_left
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.peer import MAX_PACKET, WINDOW, peer_of, scripted_server
from tests.support.ssh import channel_data
from tests.support.targets import LOOPBACK, free_port, split_address
from tests.support.tunnel import running_client, switchable_server, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)
DEADLINE = 15.0  # of the default timings, for sources without an answer
ANSWERED = 120.0  # for the others


@contextlib.asynccontextmanager
async def udp_tunnel(
    target: str, *, reverse: bool = False, host: str = LOOPBACK, timings: Timings | None = None
) -> AsyncIterator[str]:
    """Run a tunnel for datagrams to `target`; give where it listens."""
    host = f"[{host}]" if ":" in host else host
    async with tunnel(
        remotes=(f"{'R:' * reverse}{host}:0:{target}/udp",),
        server={"reverse": True},
        timings=timings,
    ) as both:
        yield (both.client.sessions[0].reverse_addresses if reverse else both.client.addresses)[0]


WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])


@WAYS
@pytest.mark.parametrize(
    ("host", "target"), [(LOOPBACK, LOOPBACK), ("::1", "::1"), ("::1", LOOPBACK)]
)
async def test_datagrams_find_their_way_there_and_back(
    host: str, target: str, reverse: bool
) -> None:
    async with (
        nothing_left(),
        udp_echo(target) as far,
        udp_tunnel(far, reverse=reverse, host=host) as near,
        udp_socket(host) as (one, _),
        udp_socket(host) as (two, _),
    ):
        assert await ask(one, near, b"one") == b"one"
        assert await ask(two, near, b"two") == b"two"
        assert await ask(one, near, b"one again") == b"one again"


@WAYS
async def test_a_target_with_a_name_is_looked_up_at_the_exit(
    reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, target=[LOOPBACK])
    async with (
        udp_echo() as far,
        udp_tunnel(f"target:{split_address(far)[1]}", reverse=reverse) as near,
        udp_socket() as (source, _),
    ):
        assert await ask(source, near, b"by name") == b"by name"


@pytest.mark.parametrize("size", [0, 1, 9012, 9013, 32 * 1024, 65_507])
async def test_a_datagram_of_any_size_comes_back_whole(size: int) -> None:
    data = bytes(range(256)) * 256
    async with udp_echo() as far, udp_tunnel(far) as near, udp_socket() as (source, _):
        assert await ask(source, near, b"first") == b"first"
        assert await ask(source, near, data[:size]) == data[:size]
        assert await ask(source, near, b"last") == b"last"


async def test_a_first_datagram_without_a_byte_comes_back() -> None:
    async with udp_echo() as far, udp_tunnel(far) as near, udp_socket() as (source, _):
        assert await ask(source, near, b"") == b""


async def test_datagrams_are_cut_where_the_user_said() -> None:
    timings = Timings(udp_max_size=1000)
    async with (
        udp_echo() as far,
        udp_tunnel(far, timings=timings) as near,
        udp_socket() as (source, _),
    ):
        assert await ask(source, near, bytes(2000)) == bytes(1000)


# ---- many sources


async def test_the_user_says_how_many_sources_a_remote_has_at_a_time() -> None:
    timings = Timings(udp_max_conns=1)
    async with (
        udp_echo() as far,
        udp_tunnel(far, timings=timings) as near,
        udp_socket() as (one, _),
        udp_socket() as (two, _),
    ):
        for source, data in ((one, b"1"), (two, b"2"), (one, b"again")):
            assert await ask(source, near, data) == data


async def answered(sources: range, address: str, far: int) -> int:
    """Send a datagram from each source, 500 at a time; return how many get theirs back."""
    count = 0
    host, port = split_address(address)
    for first in sources[::far]:
        with contextlib.ExitStack() as stack:
            socks = []
            for number in range(first, min(first + far, sources.stop)):
                sock = stack.enter_context(trio.socket.socket(type=socket.SOCK_DGRAM))
                # An address of its own for each, as the system would use a port again.
                await sock.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
                socks.append((number, sock))
            for number, sock in socks:
                for _ in range(3):  # the network may lose some
                    await sock.sendto(b"%d" % number, (host, port))
                    with trio.move_on_after(5):
                        answer = await sock.recv(100)
                        assert answer == b"%d" % number
                        count += 1
                        break
    return count


@pytest.mark.parametrize(
    "size",
    [pytest.param(1000, marks=pytest.mark.slow), pytest.param(8000, marks=pytest.mark.slow)],
)
async def test_sources_are_all_answered_and_leave_no_descriptor_when_they_are_idle(
    size: int, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with udp_echo() as far, udp_tunnel(far) as near, udp_socket() as (first, _):
        assert await ask(first, near, b"warm") == b"warm"
        await trio.sleep(2 * ANSWERED)
        async with nothing_left():
            before = len(descriptors())
            assert await answered(range(size), near, 500) == size
            # Had they been taken one after another, this would prove nothing about many at once.
            assert len(descriptors()) - before == size
            await trio.sleep(2 * ANSWERED)


@pytest.mark.slow
async def test_a_flow_that_is_used_does_not_expire(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    sources = set()
    async with udp_socket() as (target, far), udp_tunnel(far) as near, udp_socket() as (source, _):
        for _ in range(4):
            await source.sendto(b"hello", split_address(near))
            sources.add((await target.recvfrom(100))[1])
            await trio.sleep(DEADLINE * 0.8)
        assert len(sources) == 1
        # Answers keep it, too.
        await target.sendto(b"hi", sources.pop())
        await source.recv(100)
        await trio.sleep(DEADLINE * 1.2)
        await source.sendto(b"hello", split_address(near))
        sources.add((await target.recvfrom(100))[1])
        await trio.sleep(DEADLINE * 0.8)
        await target.sendto(b"hi", next(iter(sources)))
        await source.recv(100)
        await trio.sleep(DEADLINE * 0.8)
        await source.sendto(b"hello", split_address(near))
        sources.add((await target.recvfrom(100))[1])
        assert len(sources) == 1


class Addresses:
    """The addresses of a source at its target, one for each of its flows."""

    def __init__(self, source: trio.socket.SocketType, target: trio.socket.SocketType) -> None:
        self._source = source
        self._target = target
        self.last: tuple[str, int] = ("", 0)

    async def is_kept(self, near: str, seconds: float) -> bool:
        """Send again after some silence; return whether it is still the same flow."""
        await trio.sleep(seconds)
        await self._source.sendto(b"hello", split_address(near))
        before, self.last = self.last, (await self._target.recvfrom(100))[1]
        return before == self.last

    async def answer(self) -> None:
        """Have the target answer."""
        await self._target.sendto(b"hi", self.last)
        await self._source.recv(100)


@pytest.mark.parametrize(("deadline", "before", "after"), [(None, 15.0, 120.0), (40.0, 40.0, 40.0)])
async def test_a_flow_is_kept_for_longer_once_it_was_answered(
    deadline: float | None,
    before: float,
    after: float,
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    timings = Timings(udp_deadline=deadline)
    async with (
        udp_socket() as (target, far),
        udp_tunnel(far, timings=timings) as near,
        udp_socket() as (source, _),
    ):
        flow = Addresses(source, target)
        await flow.is_kept(near, 0)
        assert await flow.is_kept(near, before * 0.9)
        assert not await flow.is_kept(near, before * 1.1)
        await flow.answer()
        assert await flow.is_kept(near, after * 0.9)
        assert not await flow.is_kept(near, after * 1.1)
        assert not await flow.is_kept(near, before * 1.1)  # a new one has not been answered


# ---- several addresses of a target


@pytest.mark.parametrize("order", [["::1", LOOPBACK], [LOOPBACK, "::1"]])
async def test_a_name_leads_to_the_address_that_answers_and_no_datagram_is_lost(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, target=order)
    async with (
        udp_echo(order[1]) as far,
        udp_tunnel(f"target:{split_address(far)[1]}") as near,
        udp_socket() as (one, _),
        udp_socket() as (two, _),
    ):
        assert await ask(one, near, b"first") == b"first"
        assert await ask(one, near, b"second") == b"second"
        assert await ask(two, near, b"of another source") == b"of another source"


async def test_the_address_that_answered_is_the_first_for_the_next_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, target=["127.0.0.2", LOOPBACK])
    async with (
        udp_echo() as far,
        udp_tunnel(f"target:{split_address(far)[1]}") as near,
        udp_socket() as (one, _),
        udp_socket() as (two, _),
    ):
        assert await ask(one, near, b"x") == b"x"
        async with udp_socket("127.0.0.2", split_address(far)[1]) as (other, _):
            assert await ask(two, near, b"y") == b"y"
            with trio.move_on_after(0.05):
                await other.recv(1)
                raise AssertionError("the first address was tried again")


async def test_what_was_sent_long_before_a_refusal_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    know(monkeypatch, target=["127.0.0.2", LOOPBACK])
    async with (
        udp_socket() as (second, far),
        udp_tunnel(f"target:{split_address(far)[1]}") as near,
        udp_socket() as (source, _),
    ):
        async with udp_socket("127.0.0.2", split_address(far)[1]) as (first, _):
            await source.sendto(b"one way", split_address(near))
            assert await first.recv(100) == b"one way"
            await trio.sleep(2 * KEPT_FOR)
        for data in (b"refused", b"again"):
            await source.sendto(data, split_address(near))
        assert await second.recv(100) == b"refused"
        assert await second.recv(100) == b"again"


async def test_an_address_that_is_silent_is_the_last_one_for_the_next_source(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    know(monkeypatch, target=["127.0.0.2", LOOPBACK])
    async with (
        udp_echo() as far,
        udp_socket("127.0.0.2", split_address(far)[1]) as (silent, _),
        udp_tunnel(f"target:{split_address(far)[1]}") as near,
        udp_socket() as (source, _),
    ):
        await source.sendto(b"lost", split_address(near))
        assert await silent.recv(100) == b"lost"
        await trio.sleep(DEADLINE * 1.1)
        assert await ask(source, near, b"again") == b"again"


async def test_where_no_address_answers_each_datagram_begins_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch, target=["::1", LOOPBACK])
    port = free_port()
    async with udp_tunnel(f"target:{port}") as near, udp_socket() as (source, _):
        assert await ask(source, near, b"nobody", timeout=0.1) is None
        async with udp_echo("::1", port):
            for _ in range(5):  # the first one may still meet the refusal of the one before
                if await ask(source, near, b"here", timeout=0.5) == b"here":
                    break
            else:
                raise AssertionError("it never began anew")


# ---- the local address


@WAYS
@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "127.0.0.5"), ("0.0.0.0", LOOPBACK), ("0.0.0.0", "::1"), ("[::]", "127.0.0.5")],
)
async def test_the_answer_comes_from_the_address_that_was_asked(
    host: str, asked: str, reverse: bool
) -> None:
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    async with udp_echo() as far, udp_tunnel(far, reverse=reverse, host=host.strip("[]")) as near:
        port = split_address(near)[1]
        with trio.socket.socket(family, socket.SOCK_DGRAM) as source:
            await source.connect((asked, port))  # so that nothing from elsewhere comes in
            await source.send(b"who?")
            with trio.fail_after(5):
                assert await source.recv(100) == b"who?"
            assert source.getpeername()[:2] == (asked, port)


@pytest.mark.slow
async def test_thousands_of_sources_in_one_read_take_each_others_places_and_harm_nobody() -> None:
    heard: list[int] = []
    async with (
        udp_socket() as (target, far),
        bystander("closed after", max_session_connections=20) as server,
        peer_of(server, "open") as peer,
    ):
        number = await peer.open_channel(f"{far}/udp")
        encoder = Encoder()
        packets = [
            b"".join(encoder.encode(f"10.0.{n}.{m}:5", b"%d" % (200 * n + m)) for m in range(200))
            for n in range(10)
        ]
        await peer.send(*[channel_data(number, packet) for packet in packets])
        while 9999 not in heard:
            with trio.move_on_after(0.05):
                while 9999 not in heard:
                    heard.append(int(await target.recv(100)))
            # The target's own queue may have overflowed, and the last one been lost.
            await peer.send(channel_data(number, encoder.encode("10.0.9.9:5", b"9999")))
    assert len(heard) > 100
    assert heard == sorted(heard)


# ---- what goes wrong


@WAYS
async def test_a_target_that_refuses_and_comes_back_is_reached_again_and_nothing_spins(
    reverse: bool,
) -> None:
    async with udp_socket() as (_closed, far):
        pass
    async with udp_tunnel(far, reverse=reverse) as near, udp_socket() as (source, _):
        for _ in range(5):
            await source.sendto(b"anybody?", split_address(near))
            await trio.testing.wait_all_tasks_blocked(0.005)  # a task that spins is never blocked
        async with udp_echo(port=split_address(far)[1]):
            assert await ask(source, near, b"now?") == b"now?"


async def test_a_name_that_does_not_resolve_is_a_line_of_log_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch)
    async with (
        watch_logs() as log,
        udp_echo() as far,
        tunnel(remotes=(f"127.0.0.1:0:{far}/udp", "127.0.0.1:0:nowhere.invalid:1/udp")) as both,
        udp_socket() as (source, _),
    ):
        good, bad = both.client.addresses
        for times in (1, 2):  # and a source may try again
            await source.sendto(b"?", split_address(bad))
            await log.wait_for("Name or service not known", "server", times=times)
        assert await ask(source, good, b"2") == b"2"


@pytest.mark.slow
async def test_datagrams_are_dropped_while_the_server_is_away_and_pass_when_it_is_back(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        udp_echo() as far,
        switchable_server() as server,
        running_client(server.address, f"127.0.0.1:0:{far}/udp") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        assert await ask(source, client.addresses[0], b"1") == b"1"
        await server.stop()
        for _ in range(1000):
            await source.sendto(b"lost", split_address(client.addresses[0]))
        await trio.sleep(60)
        await server.start()
        await client.opened(2)
        assert await ask(source, client.addresses[0], b"2") == b"2"


async def test_a_target_that_is_refused_is_asked_for_once_a_session() -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        while True:
            message = await peer.receive_type(messages.CHANNEL_OPEN)
            asked.append(message)
            number = int.from_bytes(message[11:15])
            await peer.send(messages.open_failure(number, 1, "no"))

    async with (
        watch_logs() as log,
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        for _ in range(100):
            await source.sendto(bytes(1000), split_address(client.addresses[0]))
        await log.wait_for("refused: no", "client")
        await source.sendto(b"again", split_address(client.addresses[0]))
        await trio.testing.wait_all_tasks_blocked(0.005)
    assert len(asked) == 1


# ---- hostile peers


GARBAGE = [
    b"\x00",
    b"\xff" * 300,
    b"\xfc\x7f\xff\xff\xff",  # a message of 2 GiB
    b"\x2a" + bytes(42),
    Encoder().encode("1.2.3.4:5", b"x") + Encoder().encode("1.2.3.4:5", b"x"),  # two definitions
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_stream_that_is_no_gob_ends_its_own_session_only(garbage: bytes) -> None:
    async with (
        udp_echo() as target,
        bystander(r"closed after .*: UDP stream: ") as server,
        peer_of(server, "open") as peer,
    ):
        number = await peer.open_channel(f"{target}/udp")
        await peer.send(channel_data(number, garbage))
        assert await peer.gone()


def confirmation(number: int, window: int = WINDOW) -> bytes:
    """Return the confirmation of a client's channel `number`, which is our channel 7."""
    return messages.open_confirmation(number, 7, window, MAX_PACKET)


@pytest.mark.parametrize("together", [False, True], ids=["later", "with the confirmation"])
async def test_an_exit_that_sends_no_gob_ends_the_session_with_a_protocol_error(
    together: bool,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        if together:
            await peer.send(confirmation(number), channel_data(number, GARBAGE[0]))
        else:
            await peer.send(confirmation(number))
            await peer.receive_type(messages.CHANNEL_DATA)
            await peer.send(channel_data(number, GARBAGE[0]))
        await peer.gone()

    async with (
        watch_logs() as log,
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        await source.sendto(b"hello", split_address(client.addresses[0]))
        await log.wait_for("Disconnected: UDP stream: ", "client")
        assert not log.find("internal error")


async def test_an_exit_cannot_have_the_entry_send_to_whom_it_likes() -> None:
    async with udp_socket() as (victim, address), udp_socket() as (source, name):

        async def script(peer: Peer) -> None:
            await peer.let_client_in()
            number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
            await peer.send(confirmation(number))
            await peer.receive_type(messages.CHANNEL_DATA)
            encoder = Encoder()
            for to in (address, name):
                await peer.send(channel_data(number, encoder.encode(to, b"surprise")))
            await peer.gone()

        async with (
            scripted_server(script, host_key()) as server,
            running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        ):
            await client.opened()
            assert await ask(source, client.addresses[0], b"hello") == b"surprise"
            with pytest.raises(BlockingIOError):
                victim._sock.recv(100)  # type: ignore[attr-defined]


async def test_a_full_window_drops_datagrams_and_later_ones_pass_again() -> None:
    received: list[bytes] = []
    opened, full = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        await peer.send(confirmation(number, 5000))
        decoder = Decoder()
        opened.set()
        while len(received) < 100:
            data = await peer.receive_type(messages.CHANNEL_DATA)
            received.extend(d.payload for d in datagrams_in(decoder, data[9:]))
            if len(received) == 4:
                await full.wait()
                await peer.send(messages.window_adjust(number, 100_000))

    async with (
        scripted_server(script, host_key()) as server,
        running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        near = split_address(client.addresses[0])
        for number in range(MAX_WAITING):
            await source.sendto(b"%3d" % number + bytes(997), near)
            await opened.wait()
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert [data[:3] for data in received] == [b"  0", b"  1", b"  2", b"  3"]
        full.set()
        await trio.testing.wait_all_tasks_blocked(0.005)
        await source.sendto(b"later", near)
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert received[4:] == [b"later"]
