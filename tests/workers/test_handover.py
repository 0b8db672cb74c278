"""Connections on their way to a worker: each gets to exactly one."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.counts import OwnCount
from cotun_trio.workers.handover import ALL, BATCH, Connection, Incoming, Outgoing
from tests.support.log_watch import watch_logs
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = ["127.0.0.1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff%a-long-interface", "::1"]


class Ends:
    """A supervisor's and a worker's side, in one process."""

    def __init__(self) -> None:
        self.taken = OwnCount()
        self.outgoing = Outgoing(self.taken)
        self.incoming = Incoming(socket.socket(fileno=os.dup(self.outgoing.theirs)), self.taken)
        self.ports: list[int] = []
        self.lost: list[int] = []
        self.answers: list[socket.socket] = []

    def give(self, port: int, host: str = "192.0.2.1", *, health: bool = False) -> bool:
        """Give a connection; its peer is in `answers`."""
        here, there = socket.socketpair()
        given = self.outgoing.give(Connection(health, host, port), there)
        assert given == (there.fileno() < 0)
        here.settimeout(5)
        self.answers.append(here)
        if not given:
            there.close()
        return given

    def serve(self, connection: Connection, descriptor: int) -> None:
        """Be a worker that sends the port of each connection."""
        if descriptor < 0:
            self.lost.append(connection.port)
            return
        self.ports.append(connection.port)
        with socket.socket(fileno=descriptor) as sock:
            assert not sock.get_inheritable()
            sock.sendall(str(connection.port).encode())

    def take_back(self) -> int | None:
        """Take one back; return its port."""
        found = self.outgoing.take_back()
        if found is None:
            return None
        self.serve(found[0], found[1].detach())
        return self.ports.pop()

    def close(self) -> None:
        """Close all."""
        ours, theirs, worker = self.outgoing._ours, self.outgoing._theirs, self.incoming._sock
        for sock in (ours, theirs, worker, *self.answers):
            sock.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Give both sides."""
    with contextlib.closing(Ends()) as result:
        yield result


@pytest.mark.parametrize("host", HOSTS)
async def test_a_connection_arrives_with_its_socket_and_its_address(ends: Ends, host: str) -> None:
    arrived: list[Connection] = []

    def taken(connection: Connection, descriptor: int) -> None:
        arrived.append(connection)
        ends.serve(connection, descriptor)

    ends.give(65535, host, health=True)
    assert ends.incoming.take(taken)
    assert arrived == [Connection(True, host, 65535)]
    assert ends.answers[0].recv(10) == b"65535"
    assert ends.answers[0].recv(10) == b""  # we have no other end of it any more


async def test_a_worker_takes_them_as_they_come_and_others_have_their_turn(ends: Ends) -> None:
    count = 2 * BATCH + 1
    for port in range(count):
        assert ends.give(port)
    turns: list[int] = []
    async with background() as nursery:
        nursery.start_soon(ends.incoming.run, ends.serve)
        while len(ends.ports) < count:
            turns.append(len(ends.ports))
            await trio.lowlevel.checkpoint()
    assert ends.ports == list(range(count))
    assert set(turns) <= {0, BATCH, 2 * BATCH}


async def test_an_untaken_connection_can_be_taken_back_and_is_not_found_any_more(
    ends: Ends,
) -> None:
    for port in range(5):
        ends.give(port)
    ends.incoming.take(ends.serve, 2)
    assert (ends.outgoing.given, ends.outgoing.untaken) == (5, 3)
    assert ends.take_back() == 2
    assert (ends.outgoing.given, ends.outgoing.untaken) == (4, 2)
    # And it goes on: each is taken exactly once, in whatever order.
    ends.incoming.take(ends.serve, 1)
    assert [ends.take_back(), ends.take_back()] == [4, None]
    ends.incoming.take(ends.serve)
    assert ends.ports == [0, 1, 3]
    assert (ends.outgoing.given, ends.outgoing.untaken) == (3, 0)
    for port, answer in enumerate(ends.answers):
        assert answer.recv(10) == str(port).encode()


async def test_the_untaken_connections_of_a_dead_worker_are_still_there(ends: Ends) -> None:
    ends.give(1)
    ends.incoming.close()
    ends.give(2)  # before its death is noticed
    assert [ends.take_back() for _ in range(3)] == [1, 2, None]
    assert ends.outgoing.given == 0


async def test_the_time_is_that_of_the_first_that_is_not_taken(
    ends: Ends, autojump: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    assert ends.outgoing.since == math.inf
    for port in range(4):
        ends.give(port)
        await trio.sleep(1)
    assert ends.outgoing.since == began
    ends.incoming.take(ends.serve, 1)
    assert ends.outgoing.since == began + 1
    ends.take_back()
    assert ends.outgoing.since == began + 2
    ends.incoming.take(ends.serve)
    assert ends.outgoing.since == math.inf


async def test_one_that_is_received_and_not_counted_yet_does_not_stay_due(ends: Ends) -> None:
    # A worker that is stopped between the two.
    ends.give(1)
    ends.incoming.take(ends.serve)
    ends.taken.add(-1)
    assert ends.outgoing.untaken == 1
    assert ends.take_back() is None
    assert ends.outgoing.since == math.inf
    ends.give(2)
    ends.taken.add(1)
    assert ends.outgoing.untaken == 1
    assert ends.outgoing.since < math.inf
    assert ends.take_back() == 2
    assert ends.outgoing.given == ends.taken.own == 1


async def test_a_full_kernel_takes_no_more_until_there_is_room(ends: Ends) -> None:
    count = 0
    while ends.give(count):
        count += 1
    assert BATCH < count < ALL
    assert not ends.outgoing.has_room
    assert ends.outgoing.given == count
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.outgoing.regain_room)
        await trio.testing.wait_all_tasks_blocked()
        assert not ends.outgoing.has_room
        ends.incoming.take(ends.serve, ALL)
    assert ends.outgoing.has_room
    assert ends.ports == list(range(count))
    assert ends.give(count)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process have no new descriptor in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest_free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_connection_without_room_for_its_descriptor_is_lost_but_counted(ends: Ends) -> None:
    ends.give(1)
    ends.give(2)
    with no_descriptors():
        ends.incoming.take(ends.serve, 1)
    ends.incoming.take(ends.serve)
    assert (ends.lost, ends.ports) == ([1], [2])
    assert ends.answers[0].recv(1) == b""
    assert ends.taken.own == 2
    assert ends.outgoing.untaken == 0


async def test_a_connection_that_is_taken_back_without_room_is_lost_but_counted(ends: Ends) -> None:
    ends.give(1)
    async with watch_logs() as log:
        with no_descriptors():
            assert ends.take_back() is None
        assert log.find("a connection is lost: out of file descriptors")
    assert ends.answers[0].recv(1) == b""
    assert (ends.outgoing.given, ends.outgoing.untaken) == (0, 0)


async def test_a_worker_notices_that_its_supervisor_is_gone(ends: Ends) -> None:
    ends.give(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.incoming.run, ends.serve)
        await trio.testing.wait_all_tasks_blocked()
        ends.outgoing.close()
    assert ends.ports == [1]
