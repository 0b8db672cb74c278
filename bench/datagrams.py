"""Datagrams per second without loss, up to the sink and down from the source.

With a window (`bench.windows`): a datagram is sent when another one has arrived.
"""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, NamedTuple

import attrs

from bench.processes import BenchError
from bench.windows import (
    ASK,
    CREDIT,
    DATA,
    HEAD,
    HELLO,
    MOST_SILENCES,
    SILENCE,
    STOP,
    Arrivals,
    Sender,
    open_socket,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

WARM_UP = 0.2
"""Of the time that is measured, so much goes by first."""
NOBODY = f"no datagram has arrived for {SILENCE * MOST_SILENCES:.0f} s"


class Mark(NamedTuple):
    """How far a run is at a time, in seconds: datagrams, and the CPU seconds of the programs."""

    time: float
    seen: int
    arrived: int
    cpu: tuple[float, ...]


@attrs.frozen
class Flow:
    """The way of datagrams from the meter to a target, and how they are to be measured."""

    through: int
    """The port of the way that is measured."""
    directly: int
    """The target's own port, for what is said about the datagrams."""
    size: int
    """Bytes of each datagram."""
    cpu: Callable[[], tuple[float, ...]]
    """Reads the clocks of whom it is to be charged to."""


class Arrived(NamedTuple):
    """What came through."""

    rate: float
    """Datagrams per second."""
    lost: float
    """The part that was lost, from 0 to 1."""
    cpu: float | None
    """CPU seconds for each datagram; of the direct way, None."""


def compare(before: Mark, after: Mark) -> Arrived:
    """Return what came through between two marks.  Raises `BenchError` where nothing did."""
    arrived, seen = after.arrived - before.arrived, after.seen - before.seen
    if not arrived:
        raise BenchError("no datagram has arrived in the time")
    cpu = sum(after.cpu) - sum(before.cpu)
    return Arrived(
        rate=arrived / (after.time - before.time),
        lost=max(0.0, 1 - arrived / seen) if seen else 0.0,
        cpu=cpu / arrived if after.cpu else None,
    )


def measure_up(flow: Flow, seconds: float) -> Arrived:
    """Send to the sink for some seconds.  Raises `BenchError` where nothing arrives."""
    with open_socket(flow.through) as sock, open_socket(flow.directly) as control:
        run = random.getrandbits(64)
        say_hello(control, run)
        sender = Sender(run, bytearray(flow.size), sock.send)

        def mark(end: float) -> Mark:
            while True:
                sender.fill()
                credit = receive(control, run)
                if credit is not None:
                    seen, arrived = credit
                    sender.take_credit(seen)
                    if (now := time.perf_counter()) >= end:
                        return Mark(now, seen, arrived, flow.cpu())
                elif not sender.give_up():
                    raise BenchError(NOBODY)

        return measure_between(mark, seconds)


def say_hello(control: socket.socket, run: int) -> None:
    """Have the sink begin a run.  Raises `BenchError`."""
    for _ in range(MOST_SILENCES):
        control.send(HEAD.pack(HELLO, run, 0, 0))
        if receive(control, run) is not None:
            return
    raise BenchError("the sink does not answer")


def measure_down(flow: Flow, seconds: float) -> Arrived:
    """Have the source send for some seconds.  Raises `BenchError` where nothing arrives."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(open_socket(flow.through))
        control = stack.enter_context(open_socket(flow.directly))
        arrivals = Arrivals(random.getrandbits(64))
        ask = HEAD.pack(ASK, arrivals.run, flow.size, 0)
        stack.callback(control.send, HEAD.pack(STOP, arrivals.run, 0, 0))
        sock.send(ask)

        def mark(end: float) -> Mark:
            silences = 0
            while silences < MOST_SILENCES:
                data = receive(sock, arrivals.run, DATA)
                if data is not None:
                    silences = 0
                    if arrivals.take(data[0]):
                        control.send(arrivals.credit())
                    if (now := time.perf_counter()) >= end:
                        return Mark(now, arrivals.seen, arrivals.count, flow.cpu())
                    continue
                silences += 1
                if not arrivals.seen:  # the question has been lost, or what opens the flow
                    sock.send(ask)
            raise BenchError(NOBODY)

        return measure_between(mark, seconds)


def receive(sock: socket.socket, run: int, kind: int = CREDIT) -> tuple[int, int] | None:
    """Return the two numbers of the next datagram of a kind; None after a silence."""
    while True:
        try:
            data = sock.recv(HEAD.size)  # the kernel drops the rest of it
        except BlockingIOError:
            return None
        its_kind, its_run, number, count = HEAD.unpack(data)
        if its_kind == kind and its_run == run:
            return number, count


def measure_between(mark: Callable[[float], Mark], seconds: float) -> Arrived:
    """Measure for some seconds; `mark` goes on until a time, and to the next arrival after it."""
    started = mark(0.0)  # the first one has opened the flow
    before = mark(started.time + seconds * WARM_UP)
    return compare(before, mark(before.time + seconds))
