"""New connections: each is opened, has a byte come back from the echo, and is closed."""

from __future__ import annotations

import select
import socket
import time

from bench.processes import LOOPBACK, PATIENCE, BenchError
from bench.roundtrips import connect, receive

AT_A_TIME = 50
MOST = 20_000
"""Connections of one measurement: the kernel remembers each for a while, and has 28,000 ports."""


def measure_one_at_a_time(port: int, seconds: float) -> float:
    """Return connections per second, each after the one before it."""
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds and count < MOST:
        with connect(port) as sock:
            sock.sendall(b"!")
            receive(sock, 1)
        count += 1
    return count / (now - start)


def measure_many_at_a_time(port: int, seconds: float) -> float:
    """Return connections per second with `AT_A_TIME` open."""
    poll = select.epoll()
    open_ones: dict[int, socket.socket] = {}

    def ask() -> None:
        # On the loopback interface the kernel answers at once, whatever the program does.
        sock = socket.create_connection((LOOPBACK, port), timeout=PATIENCE)
        sock.setblocking(False)
        sock.send(b"!")
        open_ones[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)

    try:
        for _ in range(AT_A_TIME):
            ask()
        count, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds and count < MOST:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise BenchError(f"no connection has answered for {PATIENCE:.0f} s")
            for number, _ in ready:
                sock = open_ones.pop(number)
                answer = sock.recv(1)
                sock.close()
                if not answer:
                    raise BenchError("a connection was closed without an answer")
                count += 1
                ask()
        return count / (now - start)
    finally:
        poll.close()
        for sock in open_ones.values():
            sock.close()


def open_connections(port: int, count: int) -> list[socket.socket]:
    """Open connections, each of which has had a byte come back."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = connect(port)
            sockets.append(sock)
            sock.sendall(b"!")
            receive(sock, 1)
    except (OSError, BenchError):
        for sock in sockets:
            sock.close()
        raise
    return sockets
