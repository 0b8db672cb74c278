"""Other remotes on a SIGHUP: what is the same goes on, and only what has gone ends."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.client.managed_remote import ManagedRemote
from cotun_trio.client.told_remotes import AGAIN
from cotun_trio.errors import ConnectionLost, UsageError
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.port_ranges import parse_remotes
from cotun_trio.protocol.remote import Remote
from cotun_trio.session import CHANGE
from cotun_trio.ssh import messages
from cotun_trio.ssh.connection import Connection
from tests.support.ends import ask, is_free, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.peer import peer_of
from tests.support.programs import ours
from tests.support.targets import (
    LOOPBACK,
    as_text,
    background,
    connect,
    echo,
    echoes,
    free_port,
    free_range,
    listening,
    range_of_targets,
    refused_address,
    what_answers,
)
from tests.support.tunnel import (
    WatchedClient,
    client_settings,
    running_client,
    running_server,
    switchable_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.settings import ClientSettings
    from tests.support.log_watch import LogWatch


class Changeable:
    """A client whose settings can be read again."""

    def __init__(self, address: str, remotes: tuple[str, ...], log: LogWatch) -> None:
        self.settings = client_settings(address, *remotes)
        self.client = WatchedClient(self.settings, self.reread)
        self.failure: UsageError | None = None
        self._log = log

    def reread(self) -> ClientSettings:
        """Give what there is by now."""
        if self.failure is not None:
            raise self.failure
        return self.settings

    async def change(self, *remotes: str, said: str = "", side: str = "client") -> None:
        """Have the client take other remotes, and wait for what is said about it."""
        self.settings = attrs.evolve(self.settings, remotes=parse_remotes(remotes))
        skip = self._log.count(side)
        self.client.reload()
        if said:
            await self._log.wait_for(said, side, skip=skip)


@contextlib.asynccontextmanager
async def changeable(address: str, *remotes: str) -> AsyncIterator[Changeable]:
    """Run a client, connected, at the server at `address`."""
    async with watch_logs() as log, background() as nursery:
        ours = Changeable(address, remotes, log)
        await nursery.start(ours.client.run)
        yield ours


def local(target: str, port: int = 0) -> str:
    return f"{LOOPBACK}:{port}:{target}"


async def refuses(address: str) -> bool:
    """Return whether nobody listens at an address."""
    try:
        await (await connect(address)).aclose()
    except OSError:
        return True
    return False


async def test_one_of_fifty_changes_and_the_streams_of_the_others_go_on() -> None:
    async with listening(echo) as target, running_server(reverse=True) as server:
        ports = [free_port() for _ in range(52)]
        spare = [ports.pop(), ports.pop()]
        remotes = [
            f"R:{local(target, port)}" if number % 2 else local(target, port)
            for number, port in enumerate(ports)
        ]
        async with (
            changeable(server.addresses[0], *remotes) as it,
            contextlib.AsyncExitStack() as stack,
        ):
            await it.client.opened()
            streams = []
            for port in ports:
                streams.append(await stack.enter_async_context(await connect(f"{LOOPBACK}:{port}")))
                assert await echoes(streams[-1])
            for changed in (6, 7):  # one that the client listens for, and one of the server's
                gone, port = ports[changed], spare.pop()
                remotes[changed] = remotes[changed].replace(f":{gone}:", f":{port}:")
                await it.change(*remotes, said=f"isten.* on {LOOPBACK}:{port}")
                with pytest.raises(trio.BrokenResourceError):
                    await streams[changed].receive_some()
                assert await refuses(f"{LOOPBACK}:{gone}")
                async with await connect(f"{LOOPBACK}:{port}") as stream:
                    assert await echoes(stream)
            for number, stream in enumerate(streams):
                assert number in (6, 7) or await echoes(stream)
            assert len(it.client.sessions) == 1


async def test_a_remote_on_the_same_port_gets_its_new_target() -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.send_all(b"other")

    port, reverse_port = free_port(), free_port()
    async with (
        listening(echo) as target,
        listening(other) as another,
        running_server(reverse=True) as server,
        changeable(
            server.addresses[0], local(target, port), f"R:{local(target, reverse_port)}"
        ) as it,
    ):
        await it.client.opened()
        await it.change(
            local(another, port),
            f"R:{local(another, reverse_port)}",
            said=f"Listening on {LOOPBACK}:{port}",
        )
        for address in (f"{LOOPBACK}:{port}", f"{LOOPBACK}:{reverse_port}"):
            async with await connect(address) as stream:
                assert await stream.receive_some() == b"other"


async def test_datagrams_come_and_go() -> None:
    async with (
        udp_echo() as target,
        running_server(reverse=True) as server,
        changeable(server.addresses[0]) as it,
        udp_socket() as (sock, _),
    ):
        await it.client.opened()
        ports = free_port(), free_port()
        with_them = f"{local(target, ports[0])}/udp", f"R:{local(target, ports[1])}/udp"
        await it.change(*with_them, said=f"Listening on {LOOPBACK}:{ports[0]}")
        for port in ports:
            assert await ask(sock, f"{LOOPBACK}:{port}", b"hello") == b"hello"
        await it.change(said="no longer listening for")
        for port in ports:
            with contextlib.suppress(ConnectionRefusedError):
                assert await ask(sock, f"{LOOPBACK}:{port}", b"hello", timeout=0.05) is None
        session = it.client.sessions[0]
        await session.connection.wait_no_channels()
        await session.flows.wait_idle()


async def test_what_the_server_does_not_allow_changes_nothing() -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        changeable(server.addresses[0], local(target)) as it,
    ):
        await it.client.opened()
        address = it.client.addresses[0]
        await it.change(
            f"R:{local(target)}", said="not enabled on server: the remotes stay as they were"
        )
        async with await connect(address) as stream:
            assert await echoes(stream)
        assert not it.client.remotes.declared


async def test_a_reverse_port_that_cannot_be_had_changes_nothing() -> None:
    async with (
        listening(echo) as target,
        running_server(reverse=True) as server,
        changeable(server.addresses[0], f"R:{local(target)}") as it,
    ):
        session = await it.client.opened()
        (address,) = session.reverse_addresses
        free = free_port()
        await it.change(
            f"R:{local(target, free)}",
            f"R:{target}:{target}",  # which is taken
            said="cannot listen on .*: the remotes stay as they were",
        )
        assert await refuses(f"{LOOPBACK}:{free}")
        async with await connect(address) as stream:
            assert await echoes(stream)


async def test_a_local_port_that_cannot_be_had_is_said_and_the_others_change() -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        changeable(server.addresses[0]) as it,
    ):
        await it.client.opened()
        await it.change(f"{target}:{target}", local(target), said="cannot listen on ")
        async with await connect(it.client.addresses[0]) as stream:
            assert await echoes(stream)


async def test_a_local_port_that_could_not_be_had_is_tried_again() -> None:
    port = free_port()
    async with (
        listening(echo) as target,
        running_server() as server,
        changeable(server.addresses[0]) as it,
    ):
        await it.client.opened()
        with socket.create_server((LOOPBACK, port)):
            await it.change(local(target, port), said="cannot listen on ")
        await it.change(local(target, port), said=f"Listening on {LOOPBACK}:{port}")
        async with await connect(f"{LOOPBACK}:{port}") as stream:
            assert await echoes(stream)


async def test_a_range_comes_as_a_whole_or_not_at_all() -> None:
    ports, far, other = free_range(5), free_range(5), free_port()

    def texts(count: int) -> list[str]:
        ends = f"{as_text(ports[:count])}:{LOOPBACK}:{as_text(far[:count])}"
        return [f"{LOOPBACK}:{ends}", local(f"{LOOPBACK}:{far[0]}", other)]

    async with (
        range_of_targets(far),
        running_server() as server,
        changeable(server.addresses[0], texts(2)[0]) as it,
    ):
        await it.client.opened()
        kept = it.client.remotes.items[0].listener
        with socket.create_server((LOOPBACK, ports[3])):
            wrong = f"cannot listen on {LOOPBACK}:{ports[3]}: .*: nothing new of the range "
            await it.change(*texts(5), said=wrong + re.escape(f"'{texts(5)[0]}'"))
            assert is_free(ports[2])
            assert is_free(ports[4])
            # What there was goes on, and so do others.
            assert [await what_answers(port) for port in ports[:2]] == list(far[:2])
            assert await what_answers(other) == far[0]
        await it.change(*texts(5), said=f"Listening on {LOOPBACK}:{ports[4]}")
        assert [await what_answers(port) for port in ports] == list(far)
        assert it.client.remotes.items[0].listener is kept
        await it.change(*texts(1), said=f"no longer listening for .*:{ports[4]}=>")
        assert list(map(is_free, ports)) == [False, *[True] * 4]


async def test_a_reverse_range_comes_as_a_whole_or_not_at_all() -> None:
    ports, far = free_range(3), free_range(3)
    remote = f"R:{LOOPBACK}:{as_text(ports)}:{LOOPBACK}:{as_text(far)}"
    async with (
        range_of_targets(far),
        running_server(reverse=True) as server,
        changeable(server.addresses[0]) as it,
    ):
        await it.client.opened()
        with socket.create_server((LOOPBACK, ports[1])):
            await it.change(remote, said="cannot listen on .*: the remotes stay as they were")
            assert is_free(ports[0])
            assert is_free(ports[2])
        await it.change(remote, said=f"The server listens on {LOOPBACK}:{ports[2]}")
        assert [await what_answers(port) for port in ports] == list(far)


async def test_what_cannot_be_read_changes_nothing() -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        changeable(server.addresses[0], local(target)) as it,
    ):
        await it.client.opened()
        it.failure = UsageError("no such file")
        await it.change(said="no such file: the remotes stay as they were")
        async with await connect(it.client.addresses[0]) as stream:
            assert await echoes(stream)


async def test_a_file_that_cannot_be_read_to_its_end_does_not_hold_the_end_up() -> None:
    begun, released = trio.Event(), threading.Event()

    def reread() -> ClientSettings:
        trio.from_thread.run_sync(begun.set)
        assert released.wait(30)
        return client_settings("server.invalid")

    try:
        async with trio.open_nursery() as nursery:
            client = WatchedClient(client_settings(refused_address()), reread)
            await nursery.start(client.run)
            client.reload()
            await begun.wait()
            client.shut_down()
            with trio.fail_after(20):
                while nursery.child_tasks:
                    await trio.lowlevel.checkpoint()
            assert not released.is_set()
    finally:
        released.set()


async def test_what_is_new_besides_remotes_is_said_to_need_a_restart() -> None:
    async with (
        listening(echo) as target,
        running_server() as server,
        changeable(server.addresses[0]) as it,
    ):
        await it.client.opened()
        it.settings = attrs.evolve(it.settings, keepalive=1)
        await it.change(local(target), said="what is new besides remotes counts after a restart")
        assert it.client.settings.keepalive != 1


async def test_a_stdio_remote_cannot_come() -> None:
    async with running_server() as server, changeable(server.addresses[0]) as it:
        await it.client.opened()
        await it.change("stdio:host:22", said="stdio remote cannot come or go: the remotes stay")
        assert not it.client.addresses


async def test_what_changes_while_there_is_no_session_is_told_to_the_next() -> None:
    async with (
        listening(echo) as target,
        switchable_server(reverse=True) as switch,
        changeable(switch.address) as it,
    ):
        await it.client.opened()
        await switch.stop()
        await it.change(f"R:{local(target)}", local(target), said="Listening on ")
        await switch.start()
        it.client.retry_now()
        session = await it.client.opened(2)
        async with await connect(session.reverse_addresses[0]) as stream:
            assert await echoes(stream)


async def test_what_changes_while_a_session_is_opened_is_told_right_afterwards() -> None:
    async with (
        listening(echo) as target,
        running_server(reverse=True) as server,
        watch_logs() as log,
        background() as nursery,
    ):
        it = Changeable(server.addresses[0], (), log)
        real = it.client.session_opened

        def opened(session: Any) -> None:
            it.client.session_opened = real  # type: ignore[method-assign]
            change = it.client.remotes.replace([Remote.parse(f"R:{local(target)}")])
            with pytest.raises(StopIteration):  # it does not wait: there is no session yet
                change.send(None)
            real(session)

        it.client.session_opened = opened  # type: ignore[method-assign]
        await nursery.start(it.client.run)
        await log.wait_for("The server listens on", "client")
        (address,) = it.client.sessions[0].reverse_addresses
        async with await connect(address) as stream:
            assert await echoes(stream)


async def test_a_go_server_hears_of_reverse_remotes_with_the_next_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(echo) as target,
        running_server(reverse=True) as server,
        changeable(server.addresses[0]) as it,
    ):
        session = await it.client.opened()
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "peer_is_ours", False)
            await it.change(
                f"R:{local(target)}", local(target), said="hears of reverse remotes when a session"
            )
            # What the client listens for has changed at once.
            await it.change(f"R:{local(target)}", said="no longer listening for")
        session.fail(ConnectionLost("a test"))
        it.client.retry_now()
        session = await it.client.opened(2)
        async with await connect(session.reverse_addresses[0]) as stream:
            assert await echoes(stream)


async def test_an_answer_that_makes_no_sense_costs_the_server_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(echo) as target,
        running_server(reverse=True) as server,
        changeable(server.addresses[0]) as it,
    ):
        await it.client.opened()
        monkeypatch.setattr(ConfigReply, "encode", lambda _self: b'{"Addresses":[]}')
        await it.change(f"R:{local(target)}", said="does not fit .*: the remotes stay")
        assert not it.client.sessions[0].reverse_addresses
        monkeypatch.undo()
        it.client.retry_now()
        session = await it.client.opened(2)
        assert session is not it.client.sessions[0]


# ---- the server's side, with clients that ask for anything


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"Remotes":[1]}', b"\xff" * 1000])
async def test_a_request_that_makes_no_sense_is_refused_and_costs_nothing(payload: bytes) -> None:
    async with running_server() as server, peer_of(server.addresses[0], "open") as peer:
        await peer.send(messages.global_request(CHANGE.encode(), payload, want_reply=True))
        assert (await peer.receive())[0] == messages.REQUEST_FAILURE
        await peer.send(messages.global_request(b"ping", b"", want_reply=True))
        assert (await peer.receive())[0] == messages.REQUEST_SUCCESS


async def test_before_a_session_is_open_there_is_nothing_to_be_changed() -> None:
    async with running_server() as server, peer_of(server.addresses[0], "in") as peer:
        await peer.send(messages.global_request(CHANGE.encode(), b"{}", want_reply=True))
        assert (await peer.receive())[0] == messages.REQUEST_FAILURE


@pytest.mark.slow
async def test_a_program_reads_its_file_again(tmp_path: Path) -> None:
    file = tmp_path / "cotun.toml"
    async with listening(echo) as target, running_server() as server:

        def write(*ports: int) -> None:
            remotes = [local(target, port) for port in ports]
            file.write_text(f'[client]\nserver = ["{server.addresses[0]}"]\nremote = {remotes}\n')

        kept, gone, come = free_port(), free_port(), free_port()
        write(kept, gone)
        async with ours("client", "--config", str(file)) as client:
            await client.wait_for("Connected")
            async with await connect(f"{LOOPBACK}:{kept}") as stream:
                assert await echoes(stream)
                write(kept, come)
                client.send_signal(signal.SIGHUP)
                await client.wait_for(f"Listening on {LOOPBACK}:{come}")
                assert await refuses(f"{LOOPBACK}:{gone}")
                file.write_text("[client]\nserve = 1\n")
                client.send_signal(signal.SIGHUP)
                await client.wait_for("did you mean 'server'.*: the remotes stay as they were$")
                assert await echoes(stream)
            assert await client.stop() == 0


async def test_a_port_that_is_held_for_a_moment_is_asked_for_again_in_the_same_session(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    port = free_port()
    async with (
        watch_logs() as log,
        switchable_server(reverse=True) as switch,
        running_client(switch.address) as client,
    ):
        await client.opened()
        item = ManagedRemote(Remote.parse(f"R:{LOOPBACK}:{port}:127.0.0.1:1"))
        await client.remotes.add(item)
        await switch.stop()
        with socket.create_server((LOOPBACK, port)):
            await switch.start()
            await client.opened(2)
            held = "the server refused: Server cannot listen on .* Address already in use"
            await log.wait_for(held, "client")
            await trio.sleep(5 * AGAIN)
            assert len(log.find(held, "client")) == 1  # the same reason is said once
        before = len(log.find("The server listens on", "client"))
        await log.wait_for("The server listens on", "client", skip=before)
        assert client.remotes.address(item) == f"{LOOPBACK}:{port}"
        assert len(client.sessions) == 2
