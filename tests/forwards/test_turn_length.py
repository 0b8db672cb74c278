"""How long the turns of a relay are, as a table of what came before."""

from __future__ import annotations

import pytest

from cotun_trio.forwards.turn_length import CALM, LONG_TURN, SHORT_TURN, TurnLength
from cotun_trio.ssh.scratch import MAX_PACKET


def limit_after(*turns: int | None) -> int:
    """Return the limit after these turns: for a filled one the small sends by then, else None."""
    length = TurnLength()
    for small_sends in turns:
        if small_sends is None:
            length.not_filled()
        else:
            length.filled(small_sends)
    return length.limit


@pytest.mark.parametrize(
    ("turns", "limit"),
    [
        pytest.param([], MAX_PACKET, id="the first is one packet"),
        pytest.param([0], SHORT_TURN, id="behind a packet there is more"),
        pytest.param([0, None], MAX_PACKET, id="a turn that was not filled ends it"),
        pytest.param([0] * (CALM - 1), SHORT_TURN, id="long turns begin after a while"),
        pytest.param([0] * CALM, LONG_TURN, id="long turns in the calm"),
        pytest.param([0] * 100, LONG_TURN, id="and they stay long"),
        pytest.param([0] * 100 + [1], SHORT_TURN, id="a small send ends the calm"),
        pytest.param([0] * 100 + [1] * CALM, SHORT_TURN, id="it has to be calm again for as long"),
        pytest.param([0] * 100 + [1] * (CALM + 1), LONG_TURN, id="and then turns are long again"),
        pytest.param([5] * CALM, SHORT_TURN, id="small sends of before count as one"),
        pytest.param([5] * (CALM + 1), LONG_TURN, id="but only once"),
        pytest.param(range(100), SHORT_TURN, id="beside a steady chat turns stay short"),
        pytest.param([0] * 100 + [None, 0], LONG_TURN, id="a pause alone does not end the calm"),
    ],
)
def test_the_next_turn_follows_from_those_before(turns: list[int | None], limit: int) -> None:
    assert limit_after(*turns) == limit
