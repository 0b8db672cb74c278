"""Targets for many datagrams: a sink and a source, which know the windows of `bench.windows`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bench.windows import (
    ASK,
    CREDIT,
    DATA,
    HEAD,
    HELLO,
    STOP,
    Arrivals,
    Sender,
    open_socket,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from multiprocessing.connection import Connection


def be_datagram_sink(port: Connection) -> None:
    """Take datagrams, and send credits for them."""
    with open_socket() as sock:
        sink = Sink(sock.sendto)
        serve(port, sock, sink.take, lambda: None)


def be_datagram_source(port: Connection) -> None:
    """Send datagrams to who asks, in a window."""
    with open_socket() as sock:
        source = Source(sock.sendto)
        serve(port, sock, source.take, source.be_silent)


def serve(
    port: Connection,
    sock: socket.socket,
    take: Callable[[int, int, int, Any], None],
    be_silent: Callable[[], None],
) -> None:
    """Give each datagram to `take`: its kind, its run, its first number and whom it is from."""
    buffer = bytearray(65536)
    port.send(sock.getsockname()[1])
    while True:
        try:
            _, address = sock.recvfrom_into(buffer)
        except BlockingIOError:
            be_silent()
            continue
        kind, run, number, _ = HEAD.unpack_from(buffer)
        take(kind, run, number, address)


class Sink:
    """What the sink does, by what it gets: it sends credits to the meter that said hello last."""

    def __init__(self, send: Callable[[bytes, Any], object]) -> None:
        self._send = send
        self._arrivals = Arrivals(run=0)
        self._meter: Any = None

    def take(self, kind: int, run: int, number: int, address: Any) -> None:
        """Count a datagram, or begin a run."""
        if kind == HELLO:
            self._arrivals, self._meter = Arrivals(run), address
        elif kind != DATA or run != self._arrivals.run or not self._arrivals.take(number):
            return
        with contextlib.suppress(OSError):  # the meter has gone
            self._send(self._arrivals.credit(), self._meter)


class Source:
    """What the source does, by what it gets; it sends with `send`."""

    def __init__(self, send: Callable[[bytearray, Any], object]) -> None:
        self._send = send
        self._sender: Sender | None = None

    def take(self, kind: int, run: int, number: int, address: Any) -> None:
        """Do what is asked for from `address`, or send for a credit."""
        going_on = self._sender is not None and self._sender.run == run
        if kind == ASK and not going_on:  # otherwise, it was asked twice
            self._sender = Sender(run, bytearray(number), lambda data: self._send(data, address))
        elif kind == CREDIT and going_on and self._sender is not None:
            self._sender.take_credit(number)
        elif kind == STOP and going_on:
            self._sender = None
        self._fill()

    def be_silent(self) -> None:
        """Send again after a silence; stop where the meter has gone."""
        if self._sender is not None and not self._sender.give_up():
            self._sender = None
        self._fill()

    def _fill(self) -> None:
        if self._sender is not None:
            try:
                self._sender.fill()
            except OSError:  # nobody is there any more
                self._sender = None
