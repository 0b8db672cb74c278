"""Feeding what processes its input in turns: all of them, until nothing of the input is left.

The one place that knows how a turn begins, how it is seen that another one has to follow, and what
may be done in one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.budget import FRAME, KEY_EXCHANGE, OPEN, PACKET, REQUEST, TURN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.budget import Budget
    from cotun_trio.ssh.connection import Connection
    from cotun_trio.ssh.engine import Engine, Event
    from cotun_trio.ssh.packetizer import Packetizer
    from cotun_trio.websocket.frames import FrameFilter

_COSTLIEST = FRAME + PACKET + REQUEST + max(KEY_EXCHANGE, OPEN)
"""Units by which the last message of a turn may go beyond it, at the most."""


def split(packetizer: Packetizer, data: bytes) -> Iterator[bytes]:
    """Give `data` to a packetizer; return copies of the payloads that it completes."""
    more = True
    while more:
        packetizer.start_batch()
        count = 0
        for payload in packetizer.packets(memoryview(data)):
            count += 1
            yield bytes(payload)
        assert count <= TURN // PACKET, "a turn without an end"
        data, more = b"", packetizer.unfinished and not packetizer.held
        _check(packetizer.budget, unfinished=more)


def events(engine: Engine, data: bytes) -> Iterator[bytes | Event]:
    """Give `data` to an engine; return what comes out, payloads as copies."""
    packetizer = engine.packetizer
    more = True
    while more:
        packetizer.start_batch()
        for event in engine.receive(memoryview(data)):
            yield bytes(event) if isinstance(event, memoryview) else event
        data, more = b"", packetizer.unfinished and not packetizer.held
        _check(packetizer.budget, unfinished=more)


def receive(connection: Connection, pieces: list[bytes]) -> None:
    """Give `pieces` to a connection, in one batch as far as its budget goes."""
    connection.start_batch()
    for piece in pieces:
        connection.receive(memoryview(piece))
        while connection.unfinished and not connection.paused:
            _check(connection.budget, unfinished=True)
            connection.end_batch()
            connection.start_batch()
            connection.receive(memoryview(b""))
    _check(connection.budget, unfinished=False)
    connection.end_batch()


def filter_frames(
    frames: FrameFilter, data: bytes, sink: Callable[[memoryview], None]
) -> Iterator[bytes]:
    """Give `data` to a frame filter; return the control frames of each turn."""
    more = True
    while more:
        frames.budget.begin()
        yield frames.feed(memoryview(data), sink)
        data, more = b"", frames.unfinished
        _check(frames.budget, unfinished=more)


def _check(budget: Budget, *, unfinished: bool) -> None:
    """Check that a turn has done what it could, and not more."""
    assert budget.left > -_COSTLIEST, f"{-budget.left} units beyond the turn"
    assert budget.left <= 0 or not unfinished, f"it stopped with {budget.left} units left"
