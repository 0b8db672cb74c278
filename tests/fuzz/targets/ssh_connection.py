"""The SSH messages of a connection that has logged in, with channels at both ends."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tests.fuzz.conversation import MAX_STEPS, Conversation
from tests.fuzz.oracle import Program, Work, ways_to_cut

if TYPE_CHECKING:
    from tests.support.ssh import Side

LONGEST = 1024
_MOST_PIECES = 40


def run(data: bytes) -> None:
    """The first byte says which role, and what the peer is; the rest are steps of both sides."""
    flags = data[0] if data else 0
    side: Side = "server" if flags & 1 else "client"
    results = []
    for way in range(3):
        cut = functools.partial(_cut, way)
        conversation = Conversation(side, cut, ours=bool(flags & 2))
        with Work(at_most=100_000 + 8000 * min(len(data), MAX_STEPS)):
            conversation.run(Program(data[1:]))
        results.append(conversation.notes)
    assert results[0] == results[1] == results[2], results


def _cut(way: int, said: bytes) -> list[bytes]:
    pieces = list(ways_to_cut(said))[way] if way != 1 or len(said) <= _MOST_PIECES else []
    step = -(-len(said) // _MOST_PIECES)
    return pieces or [said[at : at + step] for at in range(0, len(said), step)]
