"""Reverse remotes: who may have a server listen, for how long, and what a client dials for it."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.errors import ConfigRefused, ConnectionLost
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.refusal import ConfigRefusal
from cotun_trio.protocol.remote import Remote
from cotun_trio.ssh import messages
from tests.support.ends import is_free, listening_unix
from tests.support.faults import fault_proxy
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.peer import Peer
from tests.support.targets import (
    CHUNK,
    LOOPBACK,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    reset,
    split_address,
)
from tests.support.tunnel import running_client, running_server, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.log_watch import LogWatch

AN_IDENTITY, ANOTHER = "ab" * 16, "cd" * 16
ALICE = Credentials("alice", "wonderland")


@contextlib.asynccontextmanager
async def logged_in(server: str, user: str = "", password: str = "") -> AsyncIterator[Peer]:
    """Connect to a server, and log in; its client says nothing that it is not told to."""
    async with await connect(server) as stream:
        peer = Peer(stream)
        await peer.upgrade()
        await peer.agree_keys()
        await peer.log_in(user, password)
        yield peer


async def ask_for(peer: Peer, *remotes: str, identity: str = "") -> tuple[bool, bytes]:
    """Send a config request; return whether it was granted, and the payload of the answer."""
    config = Config("test", tuple(map(Remote.parse, remotes)), identity=identity)
    answer = await peer.send_config(payload=config.encode())
    assert answer[0] in (messages.REQUEST_SUCCESS, messages.REQUEST_FAILURE)
    return answer[0] == messages.REQUEST_SUCCESS, answer[1:]


async def refusal_of(peer: Peer, *remotes: str, identity: str = "") -> str:
    """Send a config request that has to be refused; return the reason."""
    granted, reason = await ask_for(peer, *remotes, identity=identity)
    assert not granted
    return reason.decode()


def reverse(port: int, host: str = LOOPBACK) -> str:
    """Return a reverse remote that listens on `port`."""
    return f"R:{host}:{port}:127.0.0.1:1"


# ---- what a server grants


async def test_a_server_without_reverse_refuses_and_listens_nowhere() -> None:
    port = free_port()
    async with running_server() as server, logged_in(server.addresses[0]) as peer:
        assert "not enabled" in await refusal_of(peer, reverse(port))
        assert is_free(port)
        assert await peer.gone()


async def test_a_client_gives_up_when_the_server_does_no_reverse() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with (
            running_server() as server,
            running_client(server.addresses[0], "R:0:127.0.0.1:1"),
        ):
            await trio.sleep_forever()
    assert caught.group_contains(ConfigRefused, match="not enabled", depth=None)


async def test_the_client_and_the_log_learn_the_port_that_the_system_chose() -> None:
    async with (
        watch_logs() as log,
        tunnel(
            remotes=("R:127.0.0.1:0:127.0.0.1:1", "R:[::1]:0:[::1]:1", "R:127.0.0.1:0:socks"),
            server={"reverse": True},
        ) as both,
    ):
        addresses = both.client.sessions[0].reverse_addresses
        hosts = [split_address(address)[0] for address in addresses]
        assert hosts == ["127.0.0.1", "::1", "127.0.0.1"]
        assert all(split_address(address)[1] for address in addresses)
        assert log.find(rf"open, client .*, listening on {re.escape(', '.join(addresses))}")
        for address in addresses:
            assert any(f"listens on {address} for" in line for line in log.lines("client"))


async def test_a_client_without_an_identity_gets_the_empty_answer_that_go_takes_for_yes() -> None:
    async with (
        running_server(reverse=True) as server,
        logged_in(server.addresses[0]) as go,
        logged_in(server.addresses[0]) as ours,
    ):
        assert await ask_for(go, reverse(0)) == (True, b"")
        granted, payload = await ask_for(ours, reverse(0), identity=AN_IDENTITY)
        assert granted
        (address,) = json.loads(payload)["Addresses"]
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":0")


async def test_a_server_tells_its_identity_and_takes_nothing_over_from_another_session() -> None:
    async with (
        running_server(reverse=True) as server,
        running_server() as another,
        logged_in(server.addresses[0]) as first,
        logged_in(server.addresses[0]) as second,
    ):
        granted, payload = await ask_for(first, reverse(0), identity=AN_IDENTITY)
        assert granted
        reply = ConfigReply.decode(payload)
        assert reply.node == server.node != another.node
        remote = Remote.parse(f"R:{reply.addresses[0]}:127.0.0.1:1")
        config = Config("test", (remote,), identity=AN_IDENTITY, nodes=("00", reply.node))
        answer = await second.send_config(payload=config.encode())
        assert answer[0] == messages.REQUEST_FAILURE
        refusal = ConfigRefusal.decode(answer[1:])
        assert refusal.same_server
        assert refusal.passing
        assert len(server.sessions) == 1
        assert server.listeners.held_by(server.sessions[0])


async def test_one_address_that_cannot_be_had_frees_the_others_and_is_named() -> None:
    free, taken = free_port(), free_port()
    with trio.socket.socket() as other:
        await other.bind((LOOPBACK, taken))
        other.listen()
        async with (
            running_server(reverse=True) as server,
            nothing_left(),
            logged_in(server.addresses[0]) as peer,
        ):
            reason = await refusal_of(peer, reverse(free), reverse(taken))
            assert f"127.0.0.1:{taken}" in reason
            assert str(free) not in reason
            assert is_free(free)


async def test_a_port_asked_for_twice_in_one_request_is_refused() -> None:
    port = free_port()
    async with running_server(reverse=True) as server:
        async with logged_in(server.addresses[0]) as peer:
            remotes = reverse(port), reverse(port)
            assert str(port) in await refusal_of(peer, *remotes, identity=AN_IDENTITY)
        assert is_free(port)


@pytest.mark.parametrize("remote", ["R:unix:{path}:80", "127.0.0.1:0:unix:{path}"])
async def test_unix_sockets_of_the_server_are_refused_unless_it_is_told_to(
    remote: str, tmp_path: Path
) -> None:
    path = tmp_path / "sock"
    async with (
        running_server(reverse=True) as server,
        logged_in(server.addresses[0]) as peer,
    ):
        assert "Unix sockets" in await refusal_of(peer, remote.format(path=path))
        assert not path.exists()


async def test_a_channel_to_a_unix_socket_is_refused_even_if_nothing_was_asked_for(
    tmp_path: Path,
) -> None:
    async with (
        listening_unix(echo, tmp_path / "sock") as target,
        running_server() as server,
        logged_in(server.addresses[0]) as peer,
    ):
        assert (await ask_for(peer))[0]
        assert await peer.refused_channel(target) == messages.OPEN_PROHIBITED


# ---- a port is free the moment its session ends


async def stop_the_client(peer: Peer, log: LogWatch) -> None:
    await peer.stream.aclose()
    await log.wait_for("closed after", "server")


async def reset_the_wire(peer: Peer, log: LogWatch) -> None:
    reset(peer.stream)
    await log.wait_for("closed after", "server")


async def break_a_rule(peer: Peer, log: LogWatch) -> None:
    await peer.send(b"\x5e\x00\x00\x00\x63\x00\x00\x00\x00")  # data on a channel that is not there
    assert await peer.gone()


@pytest.mark.parametrize("end", [stop_the_client, reset_the_wire, break_a_rule])
async def test_a_port_is_free_when_the_session_ends_by(end: object) -> None:
    assert callable(end)
    port = free_port()
    async with (
        watch_logs() as log,
        running_server(reverse=True) as server,
        nothing_left(),
        logged_in(server.addresses[0]) as peer,
    ):
        assert (await ask_for(peer, reverse(port)))[0]
        assert not is_free(port)
        await end(peer, log)
        assert is_free(port)


async def test_a_port_is_free_at_once_when_the_server_ends_the_session() -> None:
    port = free_port()
    async with (
        running_server(reverse=True) as server,
        logged_in(server.addresses[0]) as peer,
    ):
        assert (await ask_for(peer, reverse(port)))[0]
        (session,) = server.listeners._held
        session.fail(ConnectionLost("because"))  # type: ignore[attr-defined]
        assert is_free(port)


async def test_a_port_and_a_socket_file_are_free_when_the_client_is_cancelled(
    tmp_path: Path,
) -> None:
    port, path = free_port(), tmp_path / "in.sock"
    async with watch_logs() as log, running_server(reverse=True, unix=True) as server:
        remotes = reverse(port), f"R:unix:{path}:1"
        async with running_client(server.addresses[0], *remotes) as client:
            await client.opened()
            assert path.exists()
        await log.wait_for("closed after", "server")
        assert is_free(port)
        assert not path.exists()


async def test_a_port_is_free_when_the_server_is_cancelled() -> None:
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        async with running_server(reverse=True) as server:
            peer = await stack.enter_async_context(logged_in(server.addresses[0]))
            assert (await ask_for(peer, reverse(port)))[0]
        assert is_free(port)


# ---- a client that comes back


@contextlib.asynccontextmanager
async def holding(
    server: str, remote: str, *, identity: str = "", user: Credentials | None = None
) -> AsyncIterator[None]:
    """Hold a reverse remote in a session behind a wire on which nothing moves any more."""
    auth = (user.user, user.password) if user else ()
    async with fault_proxy(server) as proxy, logged_in(proxy.address, *auth) as peer:
        assert (await ask_for(peer, remote, identity=identity))[0]
        proxy.stall()
        yield


async def test_the_same_client_has_its_port_at_once_from_its_half_dead_session(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    remote = reverse(free_port())
    async with watch_logs() as log, running_server(reverse=True, keepalive=0) as server:
        async with (
            holding(server.addresses[0], remote, identity=AN_IDENTITY),
            logged_in(server.addresses[0]) as peer,
        ):
            started = trio.current_time()
            assert (await ask_for(peer, remote, identity=AN_IDENTITY))[0]
            assert trio.current_time() - started < 0.5
        assert log.find("closed after .*: replaced by a new session of the same client", "server")


async def test_the_same_user_has_the_port_of_a_dead_session_within_a_second(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    remote = reverse(free_port())
    async with (
        running_server(reverse=True, keepalive=0, auth=ALICE) as server,
        holding(server.addresses[0], remote, user=ALICE),
        logged_in(server.addresses[0], "alice", "wonderland") as peer,
    ):
        started = trio.current_time()
        assert (await ask_for(peer, remote))[0]
        assert trio.current_time() - started < 1


async def test_the_same_user_does_not_get_the_port_of_a_session_that_answers() -> None:
    async with (
        listening(echo) as target,
        tunnel(
            remotes=(f"R:127.0.0.1:0:{target}",),
            server={"reverse": True, "auth": ALICE},
            client={"auth": ALICE},
        ) as both,
    ):
        (address,) = both.client.sessions[0].reverse_addresses
        remote = reverse(split_address(address)[1])
        async with logged_in(both.server.addresses[0], "alice", "wonderland") as peer:
            assert address in await refusal_of(peer, remote, identity=AN_IDENTITY)
        async with await connect(address) as stream:
            assert await echoes(stream)


@pytest.mark.parametrize("identity", ["", ANOTHER])
async def test_without_users_nobody_but_the_same_client_gets_a_port(
    identity: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    port = free_port()
    async with (
        running_server(reverse=True, keepalive=0) as server,
        holding(server.addresses[0], reverse(port), identity=AN_IDENTITY),
        logged_in(server.addresses[0]) as peer,
    ):
        reason = await refusal_of(peer, reverse(port), identity=identity)
        assert f"127.0.0.1:{port}" in reason


async def test_two_clients_without_an_identity_are_not_taken_for_the_same(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    port = free_port()
    async with (
        running_server(reverse=True, keepalive=0) as server,
        holding(server.addresses[0], reverse(port)),
        logged_in(server.addresses[0]) as peer,
    ):
        assert str(port) in await refusal_of(peer, reverse(port))


async def test_a_port_on_one_interface_is_not_taken_by_way_of_all_of_them() -> None:
    port = free_port()
    async with (
        running_server(reverse=True) as server,
        logged_in(server.addresses[0]) as first,
        logged_in(server.addresses[0]) as second,
    ):
        assert (await ask_for(first, reverse(port), identity=AN_IDENTITY))[0]
        everywhere = reverse(port, "0.0.0.0")
        assert str(port) in await refusal_of(second, everywhere, identity=ANOTHER)


async def test_a_client_that_lost_its_wire_has_its_port_again_though_the_server_noticed_nothing(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    port, lose = free_port(), trio.Event()

    async def half_dead(near: trio.SocketStream) -> None:
        """Pass everything on; at `lose`, the client loses its wire, and the server does not."""
        first = not lose.is_set()
        async with await connect(server.addresses[0]) as far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, near, far)
                nursery.start_soon(pump, far, near)
                if first:
                    await lose.wait()
                    nursery.cancel_scope.cancel()
            reset(near)
            await trio.sleep_forever()

    async def pump(source: trio.SocketStream, drain: trio.SocketStream) -> None:
        while data := await source.receive_some(CHUNK):
            await drain.send_all(data)

    async with (
        watch_logs() as log,
        running_server(reverse=True, keepalive=0) as server,
        listening(echo) as target,
        listening(half_dead) as proxy,
        running_client(proxy, f"R:127.0.0.1:{port}:{target}", keepalive=0) as client,
    ):
        await client.opened()
        lose.set()
        await client.opened(2)
        async with await connect(f"127.0.0.1:{port}") as stream:
            assert await echoes(stream)
        assert log.find("closed after .*: replaced by a new session of the same client", "server")
