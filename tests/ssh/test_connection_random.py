"""Two connections that do whatever a schedule has them do: every byte arrives once, in order.

The schedule decides who sends how much on which channel, in what pieces it is carried, who takes
what was received, who wants new keys and when, and when an end is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cotun_trio.ssh import messages
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.ssh.window import WINDOW
from tests.support.ssh import OTHER, tap
from tests.support.ssh_connection import ConnectionPair, RecordingSink, send

if TYPE_CHECKING:
    from cotun_trio.ssh.channel import Channel
    from tests.support.ssh import Side

CHANNELS = 2
sides = st.sampled_from(["client", "server"])
sizes = st.one_of(st.integers(1, 40), st.sampled_from([32_767, 32_768, 32_769, 300_000]))
pieces = st.one_of(st.integers(1, 100), st.sampled_from([10_000, 2**18]))
channels = st.integers(0, CHANNELS - 1)


@attrs.define(eq=False)
class End:
    """One end of a channel, and what has to come out of it."""

    channel: Channel
    sink: RecordingSink
    peer: End | None = None
    sent: bytearray = attrs.field(factory=bytearray)


def pattern(start: int, size: int) -> bytes:
    """Return bytes that tell where in a stream they belong."""
    first = start // 4
    count = size // 4 + 2
    numbers = b"".join(number.to_bytes(4, "big") for number in range(first, first + count))
    return numbers[start % 4 : start % 4 + size]


class Mux(RuleBasedStateMachine):
    """The schedule."""

    pings = 0

    @initialize(
        limit=st.sampled_from([None, 20_000, 200_000]),
        capacity=st.sampled_from([100, 2**16, 2**22]),
    )
    def begin(self, limit: int | None, capacity: int) -> None:
        limits = RekeyLimit(bytes=limit) if limit else None
        self.pair = ConnectionPair(rekey_limit=limits, capacity=capacity)
        self.said: dict[Side, list[bytes]] = {
            side: tap(self.pair.connections[OTHER[side]].engine) for side in OTHER
        }
        for handler in self.pair.handlers.values():
            handler.request_received = lambda request: request.reply(success=True)  # type: ignore[method-assign]
        self.ends: dict[Side, list[End]] = {"client": [], "server": []}
        for i in range(CHANNELS):
            opener: Side = "server" if i % 2 else "client"
            asked, given = trio.run(self.pair.open, opener)
            ends = (End(asked, RecordingSink(0)), End(given, RecordingSink(0)))
            for end, other, side in zip(ends, ends[::-1], (opener, OTHER[opener]), strict=True):
                end.peer = other
                end.channel.attach(end.sink)
                self.ends[side].append(end)

    @rule(side=sides, which=channels, size=sizes)
    def send_data(self, side: Side, which: int, size: int) -> None:
        end = self.ends[side][which]
        if not end.channel.eof_sent:
            data = pattern(len(end.sent), size)
            end.sent += data[: send(end.channel, data)]

    @rule(side=sides, which=channels)
    def send_eof(self, side: Side, which: int) -> None:
        self.ends[side][which].channel.send_eof()

    @rule(side=sides, which=channels, room=sizes)
    def take(self, side: Side, which: int, room: int) -> None:
        end = self.ends[side][which]
        end.sink.room = room
        end.channel.flush_backlog()

    @rule(side=sides, which=channels, room=sizes)
    def make_room(self, side: Side, which: int, room: int) -> None:
        self.ends[side][which].sink.room = room  # and nobody has noticed yet

    @rule(side=sides, size=pieces, count=st.integers(1, 5))
    def carry(self, side: Side, size: int, count: int) -> None:
        self.pair.move(side, size, min(count, 2**18 // size or 1))

    @rule(size=pieces)
    def carry_much(self, size: int) -> None:
        for _ in range(20):
            self.pair.move("client", size)
            self.pair.move("server", size)

    @rule(side=sides)
    def renew_keys(self, side: Side) -> None:
        self.pair.connections[side].engine.start_rekey()
        self.pair.connections[side].start()

    @rule(side=sides)
    @precondition(lambda self: self.pings < 50)
    def ping(self, side: Side) -> None:
        self.pings += 1
        self.pair.connections[side]._requests.make("ping", b"")  # no task waits for its answer

    @rule(side=sides)
    def clog(self, side: Side) -> None:
        self.pair.carriers[side].clogged = True

    @rule(side=sides)
    def unclog(self, side: Side) -> None:
        self.pair.carriers[side].unclog()

    @invariant()
    def what_has_arrived_is_the_beginning_of_what_was_sent(self) -> None:
        for end in self.all_ends():
            assert end.peer
            assert end.peer.sent.startswith(end.sink.data)
            if "end" in end.sink.told:
                assert end.sink.data == end.peer.sent
                assert end.peer.channel.eof_sent

    @invariant()
    def no_window_is_overdrawn(self) -> None:
        for end in self.all_ends():
            assert 0 <= end.channel.window <= WINDOW
            assert 0 <= end.channel.out_window <= WINDOW
            assert len(end.channel._backlog) <= WINDOW

    def all_ends(self) -> list[End]:
        return [end for ends in getattr(self, "ends", {}).values() for end in ends]

    def teardown(self) -> None:
        if not self.all_ends():
            return
        for carrier in self.pair.carriers.values():
            carrier.unclog()
        for end in self.all_ends():
            end.channel.send_eof()
            end.sink.room = 2**40
            end.channel.flush_backlog()
        self.pair.pump()
        for end in self.all_ends():
            assert end.peer
            assert end.sink.data == end.peer.sent
            assert end.sink.told.count("end") == 1
            assert end.sink.told[-1] == "end"
            assert end.channel.window + end.channel._consumed == WINDOW
            assert end.channel.window == end.peer.channel.out_window
        for end in self.ends["client"]:
            end.channel.close()
        self.pair.pump()
        for side, connection in self.pair.connections.items():
            assert connection.channels == {}
            assert not connection._requests._ours
            assert not connection.sender._held
            assert connection.sender.can_send
            check_silence(self.said[side])


def check_silence(said: list[bytes]) -> None:
    """Check that nothing of the connection protocol is between a KEXINIT and its NEWKEYS."""
    exchanging = False
    for payload in said:
        if payload[0] in (messages.KEXINIT, messages.NEWKEYS):
            exchanging = payload[0] == messages.KEXINIT
        assert not (exchanging and payload[0] >= messages.USERAUTH_REQUEST)


@pytest.mark.slow
def test_every_byte_arrives_in_order_whatever_the_schedule() -> None:
    run_state_machine_as_test(
        Mux, settings=settings(max_examples=60, stateful_step_count=100, deadline=None)
    )
