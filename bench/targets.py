"""What is at the far end: a sink, a source and an echo over TCP, and an echo of datagrams.

Each is a process with a loop of its own, so that none of them waits for another's lock.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING, NamedTuple

from bench.processes import LOOPBACK, child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

CHUNK = bytes(256 * 1024)
STEP = 1024 * 1024
"""Bytes for which the sink sends back one: what has arrived counts, not what has been sent."""
BACKLOG = 1024


class Ports(NamedTuple):
    """Where the targets are, or a tunnel's way to each of them."""

    sink: int
    source: int
    echo: int
    datagrams: int


@contextlib.contextmanager
def running_targets() -> Iterator[Ports]:
    """Run the targets; give their ports."""
    with contextlib.ExitStack() as stack:
        targets = (be_sink, be_source, be_echo, be_datagram_echo)
        pipes = [stack.enter_context(child(target)) for target in targets]
        yield Ports(*(pipe.recv() for pipe in pipes))


def be_sink(port: Connection) -> None:
    """Take everything, and send a byte back for every `STEP` of it."""
    buffer = bytearray(1024 * 1024)
    totals: dict[socket.socket, int] = {}

    def take(sock: socket.socket) -> bool:
        count = sock.recv_into(buffer)
        before = totals.get(sock, 0)
        totals[sock] = before + count
        if steps := (before + count) // STEP - before // STEP:
            sock.send(bytes(steps))
        if not count:
            del totals[sock]
        return count > 0

    serve(port, select.EPOLLIN, take)


def be_source(port: Connection) -> None:
    """Send for ever."""

    def send(sock: socket.socket) -> bool:
        return sock.send(CHUNK) > 0

    serve(port, select.EPOLLOUT, send)


def be_echo(port: Connection) -> None:
    """Send back what comes: little, so that it always goes at once."""

    def answer(sock: socket.socket) -> bool:
        data = sock.recv(65536)
        return bool(data) and sock.send(data) > 0

    serve(port, select.EPOLLIN, answer)


def serve(port: Connection, events: int, turn: Callable[[socket.socket], bool]) -> None:
    """Accept connections, and give each its `turn` whenever `events` come, until one says False."""
    listener = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    accepting = listener.fileno()
    sockets: dict[int, socket.socket] = {}
    port.send(listener.getsockname()[1])
    while True:
        for number, _ in poll.poll():
            if number == accepting:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sockets[sock.fileno()] = sock
                poll.register(sock, events)
                continue
            try:
                going_on = turn(sockets[number])
            except OSError:  # cut, which is how the meter ends a stream
                going_on = False
            if not going_on:
                sockets.pop(number).close()  # which takes it out of the poll, too


def be_datagram_echo(port: Connection) -> None:
    """Send back each datagram."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        port.send(sock.getsockname()[1])
        while True:
            data, source = sock.recvfrom(65536)
            with contextlib.suppress(OSError):  # the last one's sender has gone
                sock.sendto(data, source)
