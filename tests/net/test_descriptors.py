"""The reserve of descriptors: which work may not use it, and which may."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import Shortage, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.http.gateway import BackEnd, BackEndFailed
from cotun_trio.net import descriptors
from cotun_trio.net.descriptors import QUIET, is_reserved, left_after, refuse_reserved, reserve
from cotun_trio.net.dial import dial_at_once, dial_tcp, open_listeners
from cotun_trio.net.names import share_of
from cotun_trio.net.unix import dial_unix, listen_unix
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import ServerUrl
from cotun_trio.ssh import messages
from tests.support import leaks
from tests.support.ends import connect_to, socks_request, udp_echo, udp_socket
from tests.support.gateway import GET, OK, asked, gateway, saying
from tests.support.log_watch import watch_logs
from tests.support.peer import peer_of
from tests.support.sockets import tcp_listener
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, turned_away
from tests.support.tunnel import echo_tunnel, running_client, running_server, tunnel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give what makes all descriptors that are free ones of the reserve."""
    return lambda: monkeypatch.setattr(descriptors, "soft_limit", lambda: 0)


@pytest.mark.parametrize(
    ("limit", "kept"), [(64, 16), (256, 64), (1024, 256), (1028, 256), (10**6, 256)]
)
def test_a_quarter_of_few_descriptors_is_kept_and_so_many_of_many(limit: int, kept: int) -> None:
    assert reserve(limit) == kept


async def test_the_last_descriptor_that_is_not_kept_may_be_used_and_the_next_one_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "reserve", lambda _: 10)
    with socket.socket() as sock:
        monkeypatch.setattr(descriptors, "soft_limit", lambda: sock.fileno() + 1 + 10)
        assert left_after(sock) == 0
        refuse_reserved(sock)
        monkeypatch.setattr(descriptors, "soft_limit", lambda: sock.fileno() + 10)
        assert left_after(sock) == -1
        with pytest.raises(OSError, match="Too many open files") as caught:
            refuse_reserved(sock)
        assert caught.value.errno == errno.EMFILE
        assert sock.fileno() < 0


async def test_without_a_limit_none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (descriptors.resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: unlimited)
    with socket.socket() as sock:
        assert not is_reserved(sock)
        assert left_after(sock) > 10**6


async def test_a_shortage_is_logged_once_a_minute(
    autojump: object, run_short: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    run_short()
    with caplog.at_level(logging.WARNING, "cotun"), socket.socket() as sock:
        for _ in range(25):
            assert is_reserved(sock)
            await trio.sleep(QUIET / 10)
    assert [record.getMessage()[:24] for record in caplog.records] == 3 * [
        "few descriptors are left"
    ]


# ---- what may not use it


async def test_a_peers_target_is_not_dialled(run_short: Callable[[], None], tmp_path: Path) -> None:
    with tcp_listener() as listener, listen_unix(f"{tmp_path}/sock"):
        host, port = listener.getsockname()
        run_short()
        before = leaks.descriptors()
        for name in (host, "localhost"):
            with pytest.raises(Shortage, match=f"^{name}:{port}: Too many open files$") as caught:
                await dial_tcp(name, port, timeout=9, share=share_of("a peer"))
            assert caught.value.errno == errno.EMFILE
        assert dial_at_once(host, port) is None
        with pytest.raises(Shortage, match=r"Too many open files$"):
            await dial_unix(f"{tmp_path}/sock", timeout=9)
        assert leaks.descriptors() == before
        # But the program's own server is.
        (await dial_tcp(host, port, timeout=9)).close()


async def test_without_any_descriptor_a_dial_is_a_shortage_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    with pytest.raises(Shortage):
        await dial_tcp("127.0.0.1", 1, timeout=9)
    with pytest.raises(Shortage):
        await dial_unix("/nowhere", timeout=9)


async def test_a_peer_is_told_that_resources_are_short(run_short: Callable[[], None]) -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        peer_of(server.addresses[0], "open") as peer,
    ):
        run_short()
        assert await peer.refused_channel(target) == messages.OPEN_RESOURCE_SHORTAGE


async def test_a_socks_client_is_told_of_a_general_failure(
    run_short: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        listening(echo) as target,
        tunnel(remotes=(f"{LOOPBACK}:0:socks",), server={"socks5": True}) as both,
    ):
        for command in (1, 3):
            async with await both.connect() as stream:
                host, port = target.split(":")
                await trio.testing.wait_all_tasks_blocked(0.005)  # it has been accepted
                run_short()
                assert (await socks_request(stream, host, int(port), command=command))[0] == 1
            monkeypatch.undo()


async def test_a_connection_to_a_remote_is_reset(run_short: Callable[[], None]) -> None:
    async with watch_logs() as log, echo_tunnel() as both, await both.connect() as stream:
        assert await echoes(stream)
        run_short()
        assert await turned_away(both.client.addresses[0])
        assert await echoes(stream)
        assert not log.find(": refused: ")  # the peer was not even asked


async def test_a_reverse_remote_is_not_listened_for(
    run_short: Callable[[], None], tmp_path: Path
) -> None:
    run_short()
    before = leaks.descriptors()
    for remote in ("R:127.0.0.1:0:a:1", "R:127.0.0.1:0:a:1/udp", f"R:unix:{tmp_path}/s:a:1"):
        with pytest.raises(UsageError, match=r"^cannot listen on .*: Too many open files$"):
            await open_listener(Remote.parse(remote), share_of("a peer"))
    assert leaks.descriptors() == before
    (await open_listener(Remote.parse("127.0.0.1:0:a:1"))).close()


async def test_the_back_end_is_not_dialled_and_the_client_told_503(
    run_short: Callable[[], None],
) -> None:
    async with gateway(saying(OK)) as server:
        run_short()
        assert (await asked(server, GET)).startswith(b"HTTP/1.1 503 ")
    with pytest.raises(BackEndFailed, match="Too many open files"):
        await BackEnd(ServerUrl.parse("http://127.0.0.1:1"), tls=None, timeout=9).connect()


async def test_a_udp_source_is_not_answered_and_the_next_one_is_when_there_is_room_again(
    run_short: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        udp_echo() as far,
        tunnel(remotes=(f"{LOOPBACK}:0:{far}/udp",)) as both,
        udp_socket() as (one, _),
        udp_socket() as (two, _),
    ):
        near = both.client.addresses[0].rpartition(":")
        address = (near[0], int(near[2]))
        await one.sendto(b"1", address)
        assert await one.recv(9) == b"1"
        run_short()
        await two.sendto(b"2", address)
        await trio.testing.wait_all_tasks_blocked(0.01)
        (session,) = both.server.sessions
        assert len(session.flows.udp) == 0  # the one before made room, which was not enough
        monkeypatch.undo()
        await two.sendto(b"3", address)
        assert await two.recv(9) == b"3"


# ---- what may


async def test_clients_connect_and_health_is_answered(run_short: Callable[[], None]) -> None:
    run_short()
    async with running_server(health_listen=(LOOPBACK, 0)) as server:
        for address in (*server.addresses, *server.health_addresses):
            async with await connect(address) as stream:
                await stream.send_all(GET.replace(b" / ", b" /health "))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        async with running_client(server.addresses[0]) as client:
            await client.opened()
    for listener in await open_listeners(LOOPBACK, 0):
        listener.close()


async def test_connections_are_taken_again_when_descriptors_are_free_again(
    run_short: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with echo_tunnel() as both:
        run_short()
        assert await turned_away(both.client.addresses[0])
        monkeypatch.undo()
        async with await connect_to(both.client.addresses[0]) as stream:
            assert await echoes(stream)
