"""What is at the far end: over TCP a sink, a source, an echo, and one that answers requests; over
UDP an echo, a sink and a source.

Each is a process with a loop of its own, so that none of them waits for another's lock.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING, NamedTuple

from bench.datagram_targets import be_datagram_sink, be_datagram_source
from bench.processes import LOOPBACK, child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

CHUNK = bytes(256 * 1024)
STEP = 1024 * 1024
"""Bytes for which the sink sends back one: what has arrived counts, not what has been sent."""
BACKLOG = 1024
REQUEST = b"*2\r\n$3\r\nGET\r\n$10\r\nkey:000001\r\n"
"""What clients of Redis ask; our target knows only its length."""
ANSWER = b"$4\r\nabcd\r\n"
STREAMS = 4
"""So many of the targets, the first ones, take connections; the others take datagrams."""


class Ports(NamedTuple):
    """Where the targets are, or a tunnel's way to each of them."""

    sink: int
    source: int
    echo: int
    answers: int
    datagrams: int
    datagram_sink: int
    datagram_source: int


def remotes(here: Ports, targets: Ports) -> list[str]:
    """Return the remotes of a client that has `here` for the `targets`."""
    pairs = enumerate(zip(here, targets, strict=True))
    return [
        f"{LOOPBACK}:{a}:{LOOPBACK}:{b}" + ("/udp" if index >= STREAMS else "")
        for index, (a, b) in pairs
    ]


@contextlib.contextmanager
def running_targets() -> Iterator[Ports]:
    """Run the targets; give their ports."""
    with contextlib.ExitStack() as stack:
        streams = (be_sink, be_source, be_echo, be_answers)
        datagrams = (be_datagram_echo, be_datagram_sink, be_datagram_source)
        pipes = [stack.enter_context(child(target)) for target in (*streams, *datagrams)]
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


def be_answers(port: Connection) -> None:
    """Answer each `REQUEST` with `ANSWER`: only bytes are counted, which is fast."""
    buffer = bytearray(65536)
    begun: dict[socket.socket, int] = {}  # bytes of a request that has not come as a whole

    def answer(sock: socket.socket) -> bool:
        count = sock.recv_into(buffer)
        requests, begun[sock] = divmod(begun.get(sock, 0) + count, len(REQUEST))
        if requests:
            sock.send(ANSWER * requests)  # little, so that it always goes at once
        if not count:
            del begun[sock]
        return count > 0

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
