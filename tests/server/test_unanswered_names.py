"""Names that nobody answers, asked for by one session, and the other sessions meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.net.names import MAX_WAITING, PER_SHARE, PLACES
from cotun_trio.ssh import messages
from tests.support.ends import ask, socks_request, udp_echo, udp_socket
from tests.support.names import silence
from tests.support.peer import MAX_PACKET, WINDOW, peer_of
from tests.support.sockets import until
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, split_address
from tests.support.tunnel import running_client, running_server, tunnel

if TYPE_CHECKING:
    from tests.support.peer import Peer


@pytest.fixture(autouse=True)
def many_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all places, whatever this machine's limit of descriptors is."""
    monkeypatch.setattr("cotun_trio.net.names.soft_limit", lambda: None)


async def ask_for(peer: Peer, count: int, kind: str = "") -> None:
    """Ask for channels to names that nobody answers."""
    await peer.send(
        *[
            messages.channel_open(
                b"chisel", number, WINDOW, MAX_PACKET, f"{number}.silent:80{kind}".encode()
            )
            for number in range(count)
        ]
    )


async def test_others_dial_names_while_one_waits_for_two_hundred_that_nobody_answers() -> None:
    with silence(good=[LOOPBACK]) as resolver:
        async with (
            listening(echo) as target,
            running_server() as server,
            running_client(
                server.addresses[0], f"{LOOPBACK}:0:good:{split_address(target)[1]}"
            ) as other,
            peer_of(server.addresses[0], "open") as peer,
        ):
            await ask_for(peer, 200)
            await until(lambda: len(resolver.asked) == PER_SHARE)
            await other.opened()
            async with await connect(other.addresses[0]) as stream:
                assert await echoes(stream)
            assert len(resolver.asked) == PER_SHARE


async def test_the_threads_of_a_session_that_is_gone_still_count_for_its_owner() -> None:
    with silence() as resolver:
        async with running_server() as server:
            for sessions in range(1, 4):
                async with peer_of(server.addresses[0], "open") as peer:
                    await ask_for(peer, 200)
                    await until(lambda n=sessions: len(resolver.asked) == n * PER_SHARE)
            # It may come as often as it likes: it has its half of the places, and no more.
            for _ in range(PLACES // PER_SHARE):
                async with peer_of(server.addresses[0], "open") as peer:
                    await ask_for(peer, PER_SHARE)
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await until(lambda: len(resolver.asked) >= PLACES // 2)
            assert len(resolver.asked) == PLACES // 2


async def test_beyond_what_may_wait_a_channel_is_refused_with_the_reason() -> None:
    with silence() as resolver:
        async with running_server() as server, peer_of(server.addresses[0], "open") as peer:
            await ask_for(peer, PER_SHARE + MAX_WAITING + 1)
            answer = await peer.receive()
            assert answer[0] == messages.CHANNEL_OPEN_FAILURE
            reader = messages.Reader(memoryview(answer))
            reader.u32()
            assert reader.u32() == messages.OPEN_RESOURCE_SHORTAGE
            assert bytes(reader.string()).endswith(
                b".silent:80: too many names are being looked up"
            )
            await until(lambda: len(resolver.asked) >= PER_SHARE)
            assert len(resolver.asked) == PER_SHARE


async def test_beyond_what_may_wait_a_socks_client_is_told_of_a_general_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cotun_trio.net.names.MAX_WAITING", 0)
    monkeypatch.setattr("cotun_trio.net.names.PER_SHARE", 0)
    async with (
        tunnel(remotes=(f"{LOOPBACK}:0:socks",), server={"socks5": True}) as both,
        await both.connect() as stream,
    ):
        assert (await socks_request(stream, "name.example", 80))[0] == 1


async def test_the_sources_of_a_udp_channel_have_one_look_up_together() -> None:
    with silence() as resolver:
        async with (
            udp_echo() as far,
            tunnel(
                remotes=(f"{LOOPBACK}:0:silent.example:53/udp", f"{LOOPBACK}:0:{far}/udp")
            ) as both,
            udp_socket() as (good, _),
        ):
            silent = split_address(both.client.addresses[0])
            for _ in range(20):
                with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as source:
                    await source.sendto(b"?", silent)
            assert await ask(good, both.client.addresses[1], b"!") == b"!"
            (session,) = both.server.sessions
            await until(lambda: len(session.flows.udp) == 20 + 1)
            await until(lambda: resolver.asked)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert resolver.asked == ["silent.example"]
