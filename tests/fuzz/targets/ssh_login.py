"""An SSH engine before the login, in both roles: before there are keys, and behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.ssh.engine import LoggedIn, LoginRequested
from tests.fuzz import turns
from tests.fuzz.engines import engine_and_peer
from tests.fuzz.oracle import Program, Work, outcome, ways_to_cut
from tests.support.ssh import PASSWORD, USER, plain_packet, take_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.ssh.engine import Engine
    from tests.fuzz.engines import Stage
    from tests.fuzz.oracle import Feed
    from tests.support.ssh import Side

LONGEST = 4096
_LINE = b"SSH-chisel-v3-other\r\n"
_RIGHT = "right"
"""The password that a server takes."""
_ANSWER = 4096
"""Bytes that one message can make an engine say: a key exchange is the longest."""


def run(data: bytes) -> None:
    """The first byte says which role and which stage; packets are made as `_stream` has them."""
    flags = data[0] if data else 0
    side: Side = "server" if flags & 1 else "client"
    stage: Stage = "keys agreed" if flags & 2 else "new"
    stream = _stream(side, stage, data[1:], raw=bool(flags & 4))
    # Keys are random, and some errors are about them.
    with Work(at_most=100_000 + 600 * len(stream)):
        results = [_hear(side, stage, pieces) for pieces in ways_to_cut(stream)]
    assert results[0] == results[1] == results[2], results


def _stream(side: Side, stage: Stage, data: bytes, *, raw: bool) -> bytes:
    """Return `data` as it is, or as packets: a length before each payload, their type in it."""
    if raw:
        return data
    program = Program(data)
    payloads = []
    while program:
        # Key exchange messages have parts of over 255 bytes.
        payloads.append(program.take(program.number(2) & 0x7FF) or b"\2")
    if stage == "new":
        return _LINE + b"".join(map(plain_packet, payloads))
    _, peer = engine_and_peer(side, stage)
    for payload in payloads:
        peer.packetizer.send_payload(payload)
    return take_out(peer)


def _hear(side: Side, stage: Stage, pieces: list[bytes]) -> list[object]:
    """Return what comes of `pieces`; logins are answered as they come."""
    engine, _ = engine_and_peer(side, stage)
    if side == "client" and stage == "keys agreed":
        engine.log_in(USER, PASSWORD)
    take_out(engine)
    found = outcome(_feeder(engine), pieces)
    packets = engine.packetizer._packets + 2
    assert len(engine.packetizer.out) <= packets * _ANSWER, "it says too much"
    assert sum(isinstance(thing, LoggedIn) for thing in found) <= 1
    for thing in found[-1:]:
        if isinstance(thing, tuple):
            assert thing[1].isprintable()
            # The library's words about random keys are not the same each time.
            found[-1] = thing[0]
    return found


def _feeder(engine: Engine) -> Feed:
    def feed(piece: bytes) -> Iterator[object]:
        yield from turns.events(engine, piece)
        while engine.packetizer.held:
            engine.answer_login(accepted=last.password == _RIGHT)
            yield from turns.events(engine, b"")

    last = LoginRequested("", "")

    def feed_and_note(piece: bytes) -> Iterator[object]:
        nonlocal last
        for event in feed(piece):
            if isinstance(event, LoginRequested):
                assert engine.packetizer.held
                last = event
            yield event

    return feed_and_note
