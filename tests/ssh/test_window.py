"""Windows: they grow where they limit a stream on a long link, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import MAX_GROWTH, WINDOW, Growth, RoundTrip, SharedGrowth
from tests.support.ssh import OTHER, channel_data
from tests.support.ssh_connection import ConnectionPair, Dialogue, RecordingSink

if TYPE_CHECKING:
    from tests.support.ssh import Side

MiB = 1024 * 1024


def link(seconds: float | None) -> SharedGrowth:
    """Return what the windows of a connection with such a round trip may grow by."""
    round_trip = RoundTrip()
    if seconds is not None:
        round_trip.measured(seconds)
    return SharedGrowth(round_trip)


# ---- the rule


def test_a_window_doubles_when_more_than_half_of_it_is_taken_in_a_round_trip() -> None:
    growth = Growth(link(0.25), now=10.0)
    assert growth.taken(WINDOW // 2 + 1, now=10.25) == WINDOW
    assert growth.size == 2 * WINDOW
    assert growth.taken(WINDOW, now=10.5) == 0
    assert growth.taken(WINDOW + 1, now=10.75) == 2 * WINDOW


def test_nothing_is_concluded_from_less_than_a_round_trip() -> None:
    growth = Growth(link(0.25), now=0.0)
    assert growth.taken(WINDOW, now=0.125) == 0
    assert growth.taken(WINDOW, now=0.24) == 0
    assert growth.taken(1, now=0.25) == WINDOW


def test_it_is_the_rate_that_counts_and_not_how_long_it_was_measured() -> None:
    growth = Growth(link(0.25), now=0.0)
    assert growth.taken(4 * WINDOW, now=2.0) == 0  # half a window in each round trip
    assert growth.taken(5 * WINDOW, now=4.0) == WINDOW


def test_a_fast_stream_on_a_short_link_keeps_its_window() -> None:
    growth = Growth(link(0.0002), now=0.0)
    for step in range(1, 1000):  # a gigabyte a second
        assert growth.taken(MiB // 2, now=step * 0.0005) == 0


def test_the_shortest_round_trip_counts() -> None:
    round_trip = RoundTrip()
    for seconds in (0.3, 0.2, 5.0):
        round_trip.measured(seconds)
    assert round_trip.shortest == 0.2


def test_without_a_known_round_trip_or_any_time_nothing_grows() -> None:
    assert Growth(link(None), now=0.0).taken(2**30, now=1.0) == 0
    assert Growth(link(0.0), now=1.0).taken(2**30, now=1.0) == 0


def test_all_windows_together_grow_up_to_a_limit_and_one_that_is_closed_leaves_its_part() -> None:
    shared = link(1.0)
    one, two = Growth(shared, now=0.0), Growth(shared, now=0.0)
    for now in range(1, 20):
        one.taken(one.size, now=now)
    assert one.size == WINDOW + MAX_GROWTH
    assert two.taken(WINDOW, now=1.0) == 0
    one.give_back()
    one.give_back()
    assert two.taken(WINDOW, now=2.0) == WINDOW
    assert shared.left == MAX_GROWTH - WINDOW


# ---- in a channel


async def test_what_a_window_grows_by_is_part_of_an_adjustment(
    autojump: trio.testing.MockClock,
) -> None:
    dialogue = Dialogue()
    dialogue.connection.round_trip.measured(0.2)
    channel = dialogue.accept()
    channel.attach(RecordingSink())
    opened = []
    for _ in range(4):
        for _ in range(WINDOW // MAX_PACKET):
            dialogue.say(channel_data(0, bytes(MAX_PACKET)))
        await trio.sleep(0.2)
        opened += [int.from_bytes(message[5:], "big") for message in dialogue.heard()]
    # A window in each round trip: it grows once, and is wide enough then.
    assert dialogue.connection._table._growth.left == MAX_GROWTH - WINDOW
    assert channel.window == WINDOW + sum(opened) - 4 * WINDOW
    assert 5 * WINDOW - MiB < sum(opened) <= 5 * WINDOW
    channel.close()
    assert dialogue.connection._table._growth.left == MAX_GROWTH


@pytest.mark.slow
async def test_a_stalled_reader_does_not_make_its_window_grow(
    autojump: trio.testing.MockClock,
) -> None:
    dialogue = Dialogue()
    dialogue.connection.round_trip.measured(0.2)
    channel = dialogue.accept()
    channel.attach(RecordingSink(room=MAX_PACKET))
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
        await trio.sleep(0.2)
    assert dialogue.heard() == []
    assert channel.window == 0


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_ping_measures_the_link(side: Side, autojump: trio.testing.MockClock) -> None:
    pair = ConnectionPair()
    connection, other = pair.connections[side], pair.handlers[OTHER[side]]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.ping)
        await trio.sleep(0.15)
        pair.pump()
        (request,) = other.requests
        request.reply(b"pong", success=True)
        await trio.sleep(0.05)
        pair.pump()
    assert connection.round_trip.shortest == pytest.approx(0.2)
