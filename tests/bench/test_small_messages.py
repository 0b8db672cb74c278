"""The meters of requests and of datagrams, with targets in a thread that do not always do well."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from bench import datagrams, windows
from bench.datagram_targets import Sink, Source
from bench.datagrams import Flow, measure_down, measure_up
from bench.processes import BenchError
from bench.requests import Load, measure_requests
from bench.targets import ANSWER, REQUEST, Ports, remotes
from bench.windows import DATA, HEAD, STOP, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Measure = Callable[[Flow, float], datagrams.Arrived]

PIPELINED = 16
MOMENT = 0.02
"""Seconds of a measurement; each goes on until there is something to measure."""


def test_requests_and_answers_are_as_small_as_those_of_redis() -> None:
    assert (len(REQUEST), len(ANSWER)) == (30, 10)


def test_a_client_has_a_remote_for_each_target_and_the_last_are_of_datagrams() -> None:
    here = Ports(*range(1, 8))
    there = Ports(*range(11, 18))
    assert remotes(here, there)[2:5] == [
        "127.0.0.1:3:127.0.0.1:13",
        "127.0.0.1:4:127.0.0.1:14",
        "127.0.0.1:5:127.0.0.1:15/udp",
    ]
    assert sum(text.endswith("/udp") for text in remotes(here, there)) == 3


# ---- requests


@contextlib.contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run `serve` for one connection, in a thread; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):  # the meter hangs up while it is answered
                serve(sock)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_the_next_requests_are_sent_when_all_answers_have_come() -> None:
    early = []

    def answer_in_pieces(sock: socket.socket) -> None:
        while sock.recv(len(REQUEST) * PIPELINED, socket.MSG_WAITALL):
            sock.sendall(ANSWER * (PIPELINED - 1) + ANSWER[:3])
            early.extend(select.select([sock], [], [], 0.001)[0])
            sock.sendall(ANSWER[3:])

    with served(answer_in_pieces) as port, Load(port, connections=1, pipelined=PIPELINED) as load:
        load.start()
        assert load.answered == len(ANSWER) * PIPELINED
        assert not early
        load.run(MOMENT)


def test_a_connection_that_ends_is_told() -> None:
    def hang_up(sock: socket.socket) -> None:
        sock.recv(len(REQUEST), socket.MSG_WAITALL)

    with served(hang_up) as port, pytest.raises(BenchError, match="has ended"):
        measure_requests(port, connections=1, pipelined=1, seconds=MOMENT, cpu=tuple)


# ---- datagrams


class LossyPath:
    """A target in a thread, with a path to or from it that keeps every so many-th datagram."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._socket = open_socket()
        self._over = threading.Event()

    def sink(self, kind: int, run: int, number: int, address: Any) -> None:
        """Be a sink that what is kept comes to."""
        if kind != DATA or self._keeps(number):
            self._sink.take(kind, run, number, address)

    def send(self, data: bytearray, address: Any) -> None:
        """Send for a source, if it is kept."""
        if self._keeps(HEAD.unpack_from(data)[2]):
            self._socket.sendto(data, address)

    def _keeps(self, number: int) -> bool:
        return self._keep > 0 and number % self._keep == 0

    @contextlib.contextmanager
    def flow(self, measure: Measure) -> Iterator[Flow]:
        """Give the way there, for what `measure` measures."""
        port = self._socket.getsockname()[1]
        self._sink = Sink(self._socket.sendto)
        take = self.sink if measure is measure_up else Source(self.send).take

        def serve() -> None:
            while not self._over.is_set():
                with contextlib.suppress(BlockingIOError):
                    data, address = self._socket.recvfrom(65536)
                    kind, run, number, _ = HEAD.unpack_from(data)
                    take(kind, run, number, address)

        thread = threading.Thread(target=serve)
        thread.start()
        with self._socket:
            try:
                yield Flow(through=port, directly=port, size=64, cpu=tuple)
            finally:
                self._over.set()
                with open_socket(port) as sock:  # or it would wait for a silence
                    sock.send(HEAD.pack(STOP, 0, 0, 0))
                thread.join()


@pytest.mark.parametrize("measure", [measure_up, measure_down])
@pytest.mark.parametrize(("keep", "lost"), [(1, 0.0), (2, 0.5), (4, 0.75)])
def test_datagrams_that_are_lost_are_counted(measure: Measure, keep: int, lost: float) -> None:
    with LossyPath(keep).flow(measure) as flow:
        arrived = measure(flow, MOMENT)
    assert arrived.lost == lost
    assert arrived.rate > 0
    assert arrived.cpu is None


@pytest.mark.parametrize(("measure", "module"), [(measure_up, windows), (measure_down, datagrams)])
def test_a_path_that_loses_all_does_not_keep_the_meter(
    measure: Measure, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SILENCES", 1)
    with LossyPath(0).flow(measure) as flow, pytest.raises(BenchError, match="has arrived"):
        measure(flow, MOMENT)


def test_a_sink_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "MOST_SILENCES", 1)
    with open_socket() as mute:
        port = mute.getsockname()[1]
        with pytest.raises(BenchError, match="the sink"):
            measure_up(Flow(through=port, directly=port, size=64, cpu=tuple), MOMENT)
