"""Decisions for all workers; these have no process of their own."""

from __future__ import annotations

import contextlib
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import ProcessSettings
from cotun_trio.ssh import messages
from cotun_trio.workers import control
from cotun_trio.workers.attention import Attention
from cotun_trio.workers.control_link import ControlLink
from cotun_trio.workers.handover import Connection, Outgoing
from cotun_trio.workers.restarts import Restarts
from cotun_trio.workers.shared_counts import SERVED, STEPS, TAKEN, SharedCounts, allocate
from cotun_trio.workers.shared_rules import PATIENCE, SharedRules
from cotun_trio.workers.spawn import Start
from cotun_trio.workers.worker import Worker
from cotun_trio.workers.worker_handle import WorkerHandle
from tests.support.ends import is_free
from tests.support.log_watch import watch_logs
from tests.support.peer import Peer, upgrade_request
from tests.support.sockets import until
from tests.support.targets import LOOPBACK, background, free_port
from tests.support.tunnel import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from cotun_trio.workers.control_link import Received

AN_IDENTITY, ANOTHER = "ab" * 16, "cd" * 16
ALICE = Credentials("alice", "wonderland")


class Crowd:
    """Workers in this process, and the rules of their supervisor."""

    def __init__(self, settings: dict[str, Any], size: int) -> None:
        self.workers: list[WorkerHandle] = []
        self.settings = server_settings(**settings)
        self.rules = SharedRules(self.workers, per_minute=self.settings.max_auth_failures)
        memory = allocate(size)
        self.counts = SharedCounts(memory, size, b"key")
        os.close(memory)
        self.size = size

    async def add(self, nursery: trio.Nursery) -> WorkerHandle:
        """Start one more."""
        slot = len(self.workers)
        start = Start(
            number=slot + 1,
            slot=slot,
            slots=self.size,
            key=b"key",
            settings=self.settings,
            process=ProcessSettings(),
            host_key=generate_host_key(),
            node="00",
        )
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        outgoing = Outgoing(self.counts.count(TAKEN, slot))
        incoming = socket.socket(fileno=os.dup(outgoing.theirs))
        worker = Worker(start, ControlLink(two), incoming, self.counts)
        link = ControlLink(one)
        process: Any = None
        handle = WorkerHandle(
            slot + 1,
            process,
            link,
            outgoing,
            served=self.counts.count(SERVED, slot),
            attention=Attention(link, outgoing, self.counts.count(STEPS, slot), lambda: None),
            restarts=Restarts(),
        )
        self.rules.tell_barred(link)

        def hear(received: Received) -> None:
            message = received.message
            if isinstance(message, control.Ready):
                handle.now_ready()
            elif isinstance(message, control.LoginFailed):
                link.send(self.rules.login_failed(message.source), number=received.number)
            elif isinstance(message, control.Claim):
                nursery.start_soon(self.rules.settle, message, handle, received.number)

        nursery.start_soon(link.run)
        nursery.start_soon(link.hear, hear)
        nursery.start_soon(worker.serve)
        await handle.settled.wait()
        self.workers.append(handle)
        return handle

    @contextlib.asynccontextmanager
    async def connect(self, worker: int, host: str) -> AsyncIterator[trio.SocketStream]:
        """Connect to one of them, as if from the address `host`."""
        with socket.create_server((LOOPBACK, 0)) as listener:
            stream = await trio.open_tcp_stream(*listener.getsockname())
            accepted, _ = listener.accept()
        assert self.workers[worker].give(Connection(False, host, 1), accepted)
        async with stream:
            yield stream

    async def answer(self, worker: int, host: str) -> int | None:
        """Return the status that an upgrade gets; None where it gets nothing."""
        async with self.connect(worker, host) as stream:
            await stream.send_all(upgrade_request())
            try:
                head = await stream.receive_some()
            except trio.BrokenResourceError:
                return None
            return int(head.split()[1]) if head else None

    @contextlib.asynccontextmanager
    async def peer(self, worker: int, host: str = LOOPBACK) -> AsyncIterator[Peer]:
        """Connect to one of them, as if from the address `host`, and agree on keys."""
        async with self.connect(worker, host) as stream:
            peer = Peer(stream)
            await peer.upgrade()
            await peer.agree_keys()
            yield peer


@contextlib.asynccontextmanager
async def workers(size: int = 2, **settings: Any) -> AsyncIterator[Crowd]:
    """Run some; there can be one more."""
    crowd = Crowd(settings, size + 1)
    try:
        async with background() as nursery:
            for _ in range(size):
                await crowd.add(nursery)
            yield crowd
    finally:
        for worker in crowd.workers:
            worker.link.close()
            worker.outgoing.close()
        crowd.counts.close()


async def ask_for(peer: Peer, remote: str, identity: str = "") -> bool:
    """Send a config request; return whether it was granted."""
    config = Config("test", (Remote.parse(remote),), identity=identity)
    answer = await peer.send_config(payload=config.encode())
    return answer[0] == messages.REQUEST_SUCCESS


async def test_a_client_that_comes_back_to_another_worker_has_its_port_at_once() -> None:
    remote = f"R:{LOOPBACK}:{(port := free_port())}:127.0.0.1:1"
    async with (
        watch_logs() as log,
        workers(3, reverse=True) as crowd,
        crowd.peer(0) as old,
        crowd.peer(1) as new,
        crowd.peer(2) as other,
    ):
        for peer in (old, new, other):
            await peer.log_in("", "")
        assert await ask_for(old, remote, AN_IDENTITY)
        assert not await ask_for(other, remote, ANOTHER)
        assert not is_free(port)
        assert await ask_for(new, remote, AN_IDENTITY)
        assert not is_free(port)
        await log.wait_for("replaced by a new session of the same client")
        assert await old.gone()


async def test_the_same_user_gets_it_when_the_old_session_does_not_answer() -> None:
    remote = f"R:{LOOPBACK}:{free_port()}:127.0.0.1:1"
    async with (
        workers(reverse=True, auth=ALICE) as crowd,
        crowd.peer(0) as old,
        crowd.peer(1) as new,
    ):
        for peer in (old, new):
            await peer.log_in("alice", "wonderland")
        assert await ask_for(old, remote)
        # It is a script, and answers nothing.
        assert await ask_for(new, remote)


@pytest.mark.parametrize("kind", ["udp", "unix"])
async def test_datagrams_and_unix_sockets_come_back_as_well(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    remote = {
        "udp": f"R:{LOOPBACK}:{free_port()}:127.0.0.1:1/udp",
        "unix": f"R:unix:{path}:127.0.0.1:1",
    }[kind]
    async with (
        workers(reverse=True, unix=True) as crowd,
        crowd.peer(0) as old,
        crowd.peer(1) as new,
    ):
        for peer in (old, new):
            await peer.log_in("", "")
        assert await ask_for(old, remote, AN_IDENTITY)
        assert await ask_for(new, remote, AN_IDENTITY)
        assert await old.gone()
        if kind == "unix":
            async with await trio.open_unix_socket(path):
                pass


async def test_a_port_that_another_program_holds_is_refused_after_all_were_asked() -> None:
    remote = f"R:{LOOPBACK}:{(port := free_port())}:127.0.0.1:1"
    async with workers(reverse=True) as crowd, crowd.peer(1) as new:
        await new.log_in("", "")
        with trio.socket.socket() as other:  # no worker has it
            await other.bind((LOOPBACK, port))
            other.listen()
            assert not await ask_for(new, remote, AN_IDENTITY)
        assert await new.gone()


@contextlib.contextmanager
def unheard() -> Iterator[ControlLink]:
    """Give a link whose other end says nothing."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(ControlLink(one)) as link, two:
        yield link


async def test_a_silent_worker_is_not_waited_for(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    with unheard() as claimants, unheard() as frozen:
        claimant: Any = SimpleNamespace(link=claimants, is_ready=True, is_silent=False)
        silent: Any = SimpleNamespace(link=frozen, is_ready=True, is_silent=True)
        rules = SharedRules([claimant, silent], per_minute=1)
        claim = control.Claim("127.0.0.1", 80, "", False, AN_IDENTITY, None)
        began = trio.current_time()
        await rules.settle(claim, claimant, 1)
        assert trio.current_time() == began
        silent.is_silent = False
        await rules.settle(claim, claimant, 2)
        assert trio.current_time() == began + PATIENCE


async def test_a_source_that_guesses_at_one_worker_is_barred_at_all_and_at_new_ones() -> None:
    async with (
        watch_logs() as log,
        workers(2, auth=ALICE, max_auth_failures=2) as crowd,
        background() as nursery,
    ):
        for worker in (0, 1):
            async with crowd.peer(worker, "192.0.2.1") as peer:
                peer.engine.log_in("alice", "guess")
                await peer.flush()
                await log.wait_for("Authentication failed from 192.0.2.1", times=worker + 1)
        await log.wait_for("192.0.2.1 is barred for 1m")
        await crowd.add(nursery)
        for worker in range(3):
            assert await crowd.answer(worker, "192.0.2.1") == 429
            assert await crowd.answer(worker, "192.0.2.2") == 101


async def test_a_bar_that_is_lifted_is_lifted_at_all() -> None:
    async with watch_logs() as log, workers(2, auth=ALICE, max_auth_failures=1) as crowd:
        for source in ("192.0.2.1", "192.0.2.2"):
            async with crowd.peer(0, source) as peer:
                peer.engine.log_in("alice", "guess")
                await peer.flush()
                await log.wait_for(f"{source} is barred for 1m")
        assert [bar.source for bar in crowd.rules.bars()] == ["192.0.2.1", "192.0.2.2"]
        assert crowd.rules.lift("192.0.2.1")
        for worker in (0, 1):
            assert await crowd.answer(worker, "192.0.2.1") == 101
            assert await crowd.answer(worker, "192.0.2.2") == 429
        assert crowd.rules.lift_all() == 1
        for worker in (0, 1):
            assert await crowd.answer(worker, "192.0.2.2") == 101


async def test_startups_of_a_source_count_in_all_workers() -> None:
    async with (
        workers(max_startups_per_source=2) as crowd,
        crowd.peer(0, "192.0.2.1"),
        crowd.peer(1, "192.0.2.1"),
    ):
        assert await crowd.answer(0, "192.0.2.1") is None
        assert await crowd.answer(1, "192.0.2.1") is None
        assert await crowd.answer(1, "192.0.2.2") == 101


async def test_a_worker_says_when_connections_have_ended() -> None:
    async with workers() as crowd:
        worker = crowd.workers[0]
        async with crowd.peer(0):
            assert worker.load == 1
        await until(lambda: worker.load == 0)
