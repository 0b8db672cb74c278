"""The channels of a connection: their numbers, their opening, and the messages about them.

Each end gives a channel a number of its own (RFC 4254 section 5.1).  Ours is given to a channel of
ours when we ask for it, and to one of the peer when we confirm it.  A number is free again when
CLOSE has gone both ways.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import DIAL, OPEN, PACKET, REFUSAL, REQUEST, TINY
from cotun_trio.counts import meters
from cotun_trio.errors import OpenRefused, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel import Channel
from cotun_trio.ssh.messages import Reader
from cotun_trio.ssh.openings import IncomingOpen, OutgoingOpen
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import WINDOW, SharedGrowth

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.budget import Budget
    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.openings import OpenHandler
    from cotun_trio.ssh.sender import Sender
    from cotun_trio.ssh.window import RoundTrip

OUTCOMES = {
    messages.OPEN_CONNECT_FAILED: "unreachable",
    messages.OPEN_RESOURCE_SHORTAGE: "too_many",
    messages.OPEN_GONE: "unreachable",
}
"""What a refusal of ours counts as (`cotun_trio.counts.Meters`); all others are denials."""
DATA_HEAD = struct.Struct(">BII")
"""Message type, channel and length of the data."""


class ChannelTable:
    """The open channels of a connection, and the channels that one of the two ends asks for.

    `handler` is given the opens of the peer, and `budget` their work.  `kind` is the channel type
    that we ask for; `limit` is the number of channels that there may be, those being opened
    included.
    """

    def __init__(
        self,
        sender: Sender,
        budget: Budget,
        round_trip: RoundTrip,
        handler: OpenHandler,
        *,
        peer_is_ours: Callable[[], bool],
        kind: bytes,
        limit: int,
    ) -> None:
        self.channels: dict[int, Channel] = {}
        """The open channels by their number."""
        self._sender = sender
        self._budget = budget
        self._growth = SharedGrowth(round_trip)
        self._handler = handler
        self._peer_is_ours = peer_is_ours
        self._kind = kind
        self._limit = limit
        self._opens: dict[int, OutgoingOpen] = {}
        self._incoming = 0  # opens of the peer that are not answered yet
        self._next_number = 0
        self._rests: set[Channel] = set()  # closed channels with bytes that are not taken yet
        self._touched: list[Channel] = []  # channels that have to `deliver` at the end of the turn
        self._failure: CotunError | None = None
        self._outcomes = meters().channels
        self._no_channels = trio.lowlevel.ParkingLot()

    # ---- opening, by us

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None) -> OutgoingOpen:
        """See `cotun_trio.ssh.connection.Connection.ask`."""
        opening = OutgoingOpen(self._new_channel(), opened)
        if self._failure is not None:
            opening.fail(self._failure)
        elif self._full:
            opening.fail(OpenRefused(messages.OPEN_RESOURCE_SHORTAGE, "too many channels"))
        else:
            number = opening.channel.number
            self._opens[number] = opening
            self._sender.send_control(
                messages.channel_open(self._kind, number, WINDOW, MAX_PACKET, extra)
            )
        return opening

    async def answer(self, opening: OutgoingOpen) -> Channel:
        """See `cotun_trio.ssh.connection.Connection.answer`."""
        channel = opening.channel
        try:
            await opening.answered.wait()
        except trio.Cancelled:
            opening.abandon()
            if not channel.lost and channel.number in self.channels:
                channel.close()  # it was opened in the moment of the cancellation
            raise
        if opening.failure is not None:
            raise opening.failure
        return channel  # though the connection may be lost by now: what came in it counts

    def _new_channel(self) -> Channel:
        while self._next_number in self.channels or self._next_number in self._opens:
            self._next_number = (self._next_number + 1) & 0xFFFFFFFF
        number = self._next_number
        self._next_number = (number + 1) & 0xFFFFFFFF
        return Channel(self._sender, self._budget, self._growth, number, self._rests)

    @property
    def _full(self) -> bool:
        return len(self.channels) + len(self._opens) + self._incoming >= self._limit

    def _outgoing(self, number: int) -> OutgoingOpen:
        # It stays until its whole answer is read: where that is wrong, `on_lost` has to find it.
        if number not in self._opens:
            raise ProtocolError("an answer to the opening of a channel that nobody opened")
        return self._opens[number]

    def on_open_confirmation(self, payload: memoryview) -> None:
        """Take the peer's CHANNEL_OPEN_CONFIRMATION."""
        reader = Reader(payload)
        opening = self._outgoing(reader.u32())
        channel = opening.channel
        channel.set_peer(reader.u32(), reader.u32(), reader.u32())
        del self._opens[channel.number]
        self.channels[channel.number] = channel
        self._outcomes.add("opened")
        opening.succeed()

    def on_open_failure(self, payload: memoryview) -> None:
        """Take the peer's CHANNEL_OPEN_FAILURE."""
        reader = Reader(payload)
        opening = self._outgoing(reader.u32())
        code, reason = reader.u32(), bytes(reader.string())
        reader.string()  # the language of the reason
        reader.end()
        del self._opens[opening.channel.number]
        self._outcomes.add("refused_by_peer")
        opening.fail(OpenRefused(code, escape(reason)))

    # ---- opening, by the peer

    def on_open(self, payload: memoryview) -> None:
        """Take a CHANNEL_OPEN, and refuse it where there are too many channels."""
        self._budget.be_busy(OPEN)
        self._budget.spend(DIAL)
        opening = IncomingOpen.read(self, payload)
        full = self._full
        self._incoming += 1
        if full:
            opening.refuse(messages.OPEN_RESOURCE_SHORTAGE, "too many channels")
        else:
            self._handler.channel_requested(opening)

    def confirm(self, opening: IncomingOpen) -> Channel:
        """See `IncomingOpen.confirm`."""
        self._incoming -= 1
        channel = self._new_channel()
        channel.set_peer(opening.peer_number, opening.window, opening.max_packet)
        if self._failure is not None:
            channel.on_lost()
            return channel
        self.channels[channel.number] = channel
        self._outcomes.add("opened")
        self._sender.send_control(
            messages.open_confirmation(opening.peer_number, channel.number, WINDOW, MAX_PACKET)
        )
        return channel

    def refuse(self, opening: IncomingOpen, code: int, reason: str) -> None:
        """See `IncomingOpen.refuse`."""
        self._incoming -= 1
        self._outcomes.add(OUTCOMES.get(code, "denied"))
        self._budget.note_waste(REFUSAL)
        self._sender.send_control(messages.open_failure(opening.peer_number, code, reason))

    # ---- messages of a channel

    def _channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise ProtocolError(f"a message for channel {number}, which is not open")
        return channel

    def _only_channel(self, payload: memoryview) -> Channel:
        """Return the channel of a message that has no other field."""
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.end()
        return channel

    def on_data(self, payload: memoryview) -> None:
        """Take a CHANNEL_DATA."""
        # Written out rather than with a Reader: this runs for every 32 KiB.
        if len(payload) < DATA_HEAD.size:
            raise ProtocolError("a channel data message that is cut short")
        _, number, size = DATA_HEAD.unpack_from(payload)
        if len(payload) - DATA_HEAD.size != size:
            raise ProtocolError("a channel data message of the wrong length")
        if size < TINY:
            self._budget.note_tiny(size)
        channel = self.channels.get(number) or self._channel(number)
        if channel.on_data(payload[DATA_HEAD.size :]):
            self._touched.append(channel)

    def on_extended_data(self, payload: memoryview) -> None:
        """Take a CHANNEL_EXTENDED_DATA."""
        self._budget.note_waste(PACKET)
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.u32()
        channel.on_extended_data(len(reader.string()))
        reader.end()

    def on_window_adjust(self, payload: memoryview) -> None:
        """Take a CHANNEL_WINDOW_ADJUST."""
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        count = reader.u32()
        if count < TINY:
            self._budget.note_tiny(count)
        channel.on_window_adjust(count)
        reader.end()

    def on_eof(self, payload: memoryview) -> None:
        """Take a CHANNEL_EOF."""
        channel = self._only_channel(payload)
        if channel.on_eof():
            self._touched.append(channel)

    def on_close(self, payload: memoryview) -> None:
        """Take a CHANNEL_CLOSE: the number is free."""
        channel = self._only_channel(payload)
        first = channel.on_close(broken=not channel.eof_received and self._peer_is_ours())
        del self.channels[channel.number]
        if not self.channels:
            self._no_channels.unpark_all()
        if first:
            self._touched.append(channel)

    def on_request(self, payload: memoryview) -> None:
        """Refuse a CHANNEL_REQUEST: a forwarded stream has no shell and no terminal."""
        self._budget.waste(REQUEST)
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.string()
        if reader.boolean() and not channel.close_sent:
            self._sender.send_control(
                messages.about_channel(messages.CHANNEL_FAILURE, channel.peer_number)
            )

    # ---- all of them

    def deliver(self) -> None:
        """Have each channel pass on its bytes, at the end of a turn."""
        touched = self._touched
        if touched:
            self._touched = []
            for channel in touched:
                channel.deliver()

    @property
    def has_rest(self) -> bool:
        """See `cotun_trio.ssh.connection.Connection.has_rest`."""
        return bool(self._rests)

    async def wait_empty(self) -> None:
        """See `cotun_trio.ssh.connection.Connection.wait_no_channels`."""
        while self.channels:
            await self._no_channels.park()

    def on_lost(self, failure: CotunError) -> None:
        """End all channels, and all opens of ours, because of `failure`."""
        self._failure = failure
        for channel in list(self.channels.values()):
            channel.on_lost()
        self.channels.clear()
        self._no_channels.unpark_all()
        for opening in self._opens.values():
            opening.fail(failure)
