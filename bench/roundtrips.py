"""Round trips of 64 bytes: over a connection, over a new SOCKS connection, and as datagrams."""

from __future__ import annotations

import socket
import statistics
import struct
import time
from typing import NamedTuple

from bench.processes import LOOPBACK, PATIENCE, BenchError

SIZE = 64
"""Bytes of a round trip."""
LOST = 1.0
"""Seconds after which a datagram is sent again."""


class Latency(NamedTuple):
    """Round trips, in microseconds."""

    median: float
    p99: float


def summarize(times: list[float]) -> Latency:
    """Return the median and the 99th percentile of seconds, in microseconds."""
    if len(times) < 2:
        raise BenchError("there was time for less than two round trips")
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Latency(statistics.median(times) * 1e6, p99 * 1e6)


def connect(port: int) -> socket.socket:
    """Connect, for small messages."""
    sock = socket.create_connection((LOOPBACK, port), timeout=PATIENCE)
    sock.settimeout(None)  # Python would ask the kernel before each call whether it can be made
    # The kernel is to keep the time instead.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def receive(sock: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes.  Raises `BenchError` where they do not come."""
    data = b""
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))
        except BlockingIOError:
            raise BenchError(f"nothing has come back for {PATIENCE:.0f} s") from None
        if not more:
            raise BenchError("the connection has ended")
        data += more
    return data


def round_trips(sock: socket.socket, seconds: float) -> list[float]:
    """Return how long each of the round trips took, in seconds."""
    times, message = [], bytes(SIZE)
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        sock.sendall(message)
        receive(sock, SIZE)
        times.append(time.perf_counter() - start)
    return times


def measure_round_trips(port: int, seconds: float) -> Latency:
    """Return the round trips over a connection, but for its first, which opens it."""
    with connect(port) as sock:
        sock.sendall(b"!")
        receive(sock, 1)
        return summarize(round_trips(sock, seconds))


def measure_socks(port: int, target: int, seconds: float) -> tuple[float, Latency]:
    """Return new SOCKS connections per second, each with a round trip, and those over one of them.

    Each of the two gets half of the time.  SOCKS5 is RFC 1928.
    """
    message = bytes(SIZE)
    request = b"\x05\x01\x00\x01" + socket.inet_aton(LOOPBACK) + struct.pack("!H", target)

    def ask() -> socket.socket:
        sock = connect(port)
        sock.sendall(b"\x05\x01\x00")
        if receive(sock, 2) != b"\x05\x00":
            raise BenchError("the SOCKS proxy does not want to talk")
        sock.sendall(request)
        reply = receive(sock, 10)  # with an IPv4 address, as all of these programs answer
        if reply[1:4] != b"\x00\x00\x01":
            raise BenchError(f"the SOCKS proxy answers {reply.hex()}")
        return sock

    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds / 2:
        with ask() as sock:
            sock.sendall(message)
            receive(sock, SIZE)
        count += 1
    rate = count / (now - start)
    with ask() as sock:
        return rate, summarize(round_trips(sock, seconds / 2))


def measure_datagram_trips(port: int, seconds: float) -> Latency:
    """Return the round trips of datagrams, each with a number, so that late answers are told."""
    times = []
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((LOOPBACK, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(LOST), 0))
        number, end = 0, 0.0
        while not end or time.perf_counter() < end:
            message = struct.pack("!Q", number) + bytes(SIZE - 8)
            start = time.perf_counter()
            exchange(sock, message)
            if end:
                times.append(time.perf_counter() - start)
            else:  # the first one opens the flow
                end = time.perf_counter() + seconds
            number += 1
    return summarize(times)


def exchange(sock: socket.socket, message: bytes) -> None:
    """Send a datagram, and have it back.  Raises `BenchError` where it is lost time and again."""
    for _ in range(int(PATIENCE / LOST)):
        sock.send(message)
        try:
            while sock.recv(65536) != message:
                pass
        except BlockingIOError:
            continue
        return
    raise BenchError(f"no datagram has come back for {PATIENCE:.0f} s")
