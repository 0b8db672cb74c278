"""Runs of datagrams in one system call each, and one by one where that cannot be."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.forwards import segments
from cotun_trio.forwards.segments import MAX_BYTES, MAX_SEGMENTS, Segments
from cotun_trio.protocol.datagram_codec import Run
from tests.support.targets import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_segments = pytest.mark.skipif(
    not segments._supported(), reason="the system cannot cut datagrams"
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give a UDP socket, and one that gets what it sends."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as near,
        socket.socket(type=socket.SOCK_DGRAM) as far,
    ):
        far.bind((LOOPBACK, 0))
        far.setblocking(False)
        near.connect(far.getsockname())
        yield near, far


def received(sock: socket.socket) -> list[bytes]:
    """Return the datagrams that wait on a socket."""
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(sock.recv(70_000))
    return datagrams


def run_of(size: int, count: int, piece: int) -> Run:
    """Return a run in pieces of up to `piece` datagrams, each with another content."""
    data = b"".join(bytes([number % 256]) * size for number in range(count))
    step = piece * size
    return Run("a:1", size, count, [data[at : at + step] for at in range(0, len(data), step)])


class Sink:
    """A socket that takes what it is given, or fails."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.calls: list[tuple[bytes, int]] = []
        """The bytes of each call, and the size of a datagram."""

    def sendmsg(self, pieces: list[bytes], controls: Any, *_address: object) -> int:
        """See `socket.socket.sendmsg`."""
        if self.failures and (number := self.failures.pop(0)):
            raise OSError(number, "no")
        self.calls.append((b"".join(pieces), int.from_bytes(controls[-1][2], "little")))
        return len(self.calls[-1][0])


@pytest.fixture
def supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_supported", lambda: True)


@needs_segments
@pytest.mark.parametrize(("size", "count", "piece"), [(1, 64, 64), (1200, 40, 7), (3, 2, 1)])
def test_each_datagram_of_a_run_arrives_as_if_it_had_been_sent_alone(
    pair: tuple[socket.socket, socket.socket], size: int, count: int, piece: int
) -> None:
    near, far = pair
    run = run_of(size, count, piece)
    assert Segments().send(near, run) == count
    assert received(far) == list(run.each())


@needs_segments
def test_a_run_goes_to_an_address_where_the_socket_is_not_connected(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as near:
        run = run_of(10, 5, 5)
        assert Segments().send(near, run, (), pair[1].getsockname()) == 5
    assert received(pair[1]) == list(run.each())


@pytest.mark.usefixtures("supported")
@given(st.integers(1, 3000), st.integers(2, 200), st.integers(1, 70))
def test_no_more_is_given_to_the_system_than_it_takes(size: int, count: int, piece: int) -> None:
    sink: Any = Sink()
    run = run_of(size, count, piece)
    assert Segments().send(sink, run) == count
    assert b"".join(data for data, _ in sink.calls) == b"".join(run.each())
    for data, segment in sink.calls:
        assert segment == size
        assert 0 < len(data) <= MAX_BYTES
        assert len(data) % size == 0
        assert len(data) // size <= MAX_SEGMENTS


@pytest.mark.usefixtures("supported")
def test_what_is_too_large_for_the_way_is_not_tried_again_but_smaller_ones_are() -> None:
    sink: Any = Sink(errno.EINVAL)
    ways = Segments()
    assert ways.send(sink, run_of(1400, 3, 3)) == 0
    assert ways.send(sink, run_of(1400, 3, 3)) == 0
    assert ways.send(sink, run_of(1399, 3, 3)) == 3
    assert len(sink.calls) == 1


@pytest.mark.usefixtures("supported")
def test_a_driver_that_cannot_is_not_asked_again() -> None:
    sink: Any = Sink(errno.EIO)
    ways = Segments()
    assert [ways.send(sink, run_of(10, 3, 3)) for _ in range(2)] == [0, 0]
    assert not sink.calls


@pytest.mark.usefixtures("supported")
@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EAGAIN, errno.ENETUNREACH])
def test_after_an_error_of_another_kind_it_is_tried_again(number: int) -> None:
    sink: Any = Sink(number)
    ways = Segments()
    assert [ways.send(sink, run_of(10, 3, 3)) for _ in range(2)] == [0, 3]


@pytest.mark.usefixtures("supported")
def test_it_says_how_many_have_gone_before_an_error() -> None:
    sink: Any = Sink(0, errno.EAGAIN)
    assert Segments().send(sink, run_of(10, 100, 9)) == MAX_SEGMENTS


@pytest.mark.usefixtures("supported")
@pytest.mark.parametrize(("size", "count"), [(0, 2), (10, 1), (40_000, 2)])
def test_what_would_be_no_run_for_the_system_is_left_alone(size: int, count: int) -> None:
    sink: Any = Sink()
    assert Segments().send(sink, Run("a:1", size, count, [bytes(size)] * count)) == 0
    assert not sink.calls


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_a_system_that_does_not_know_it_is_not_asked(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments.sys, "platform", platform)
    monkeypatch.setattr(segments, "_UDP_SEGMENT", 9999)
    assert not segments._supported.__wrapped__()
