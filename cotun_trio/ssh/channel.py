"""One stream through a connection: an SSH channel (RFC 4254 section 5), with its two windows.

A channel moves bytes between the connection and its user here, without copying them and without
awaiting anything on the way:

* outwards, `Channel.send_from` lends its caller the very memory that is going to be encrypted,
  once `wait_sendable` says that the window, the carrier and the keys allow it;
* inwards, a `Sink` is given the decrypted bytes of a batch while they are still in the receive
  buffer.  The part that it does not take at once is copied into the backlog, and the sink is told.

The peer's window is opened again only by as much as was really taken, so a reader that stalls costs
one window here and one at the peer, and nobody else notices.

Closing: EOF ends one direction, CLOSE both.  A channel's number is free when CLOSE has gone both
ways; after our own CLOSE not a byte more may be sent for it (Go drops the whole connection
otherwise).  A CLOSE with no EOF before it is a good end from a Go program, which sends no other;
from a program of ours it means that the stream broke off, and its end here has to break off as
well.

`cotun_trio.ssh.stream` makes a `trio.abc.HalfCloseableStream` of a channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.backlog import MAX_VIEWS, Backlog
from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.scratch import MAX_PACKET, SLOTS
from cotun_trio.ssh.sender import SMALL
from cotun_trio.ssh.window import STEPS, WINDOW, Growth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.budget import Budget
    from cotun_trio.ssh.protocols import Sink
    from cotun_trio.ssh.sender import Sender
    from cotun_trio.ssh.window import SharedGrowth

MAX_WINDOW = 2**32 - 1
"""RFC 4254 section 5.2."""


class _NoSink:
    """Takes nothing: the sink of a channel that has none yet, whose bytes wait in the backlog."""

    def write(self, views: Sequence[memoryview]) -> int:  # noqa: ARG002
        return 0

    def backlog_waits(self) -> None:
        pass

    def end(self) -> None:
        pass

    def closed(self) -> None:
        pass


_NO_SINK = _NoSink()


class Channel:
    """One channel of a connection: from `Connection.open_channel`, or `IncomingOpen.confirm`."""

    __slots__ = (
        "_backlog",
        "_closed_told",
        "_consumed",
        "_credit_step",
        "_discard",
        "_end_told",
        "_growth",
        "_rests",
        "_senders",
        "_shared_growth",
        "_sink",
        "_touched",
        "_urgent",
        "_views",
        "budget",
        "bytes_in",
        "bytes_out",
        "close_received",
        "close_sent",
        "eof_received",
        "eof_sent",
        "lost",
        "number",
        "out_max",
        "out_window",
        "peer_number",
        "sender",
        "window",
    )

    def __init__(
        self,
        sender: Sender,
        budget: Budget,
        shared_growth: SharedGrowth,
        number: int,
        rests: set[Channel],
    ) -> None:
        self.sender = sender
        """The sending half of the connection."""
        self.budget = budget
        """The work that the peer causes here."""
        self.number = number
        self.peer_number = 0
        """The peer's number for this channel."""
        self.window = WINDOW
        """Bytes that the peer may still send."""
        self.out_window = 0
        """Bytes that we may still send."""
        self.out_max = 0
        """Bytes of data in the largest packet that the peer takes."""
        self.eof_sent = self.eof_received = self.close_sent = self.close_received = False
        self.lost = False
        """Whether it broke off: at the peer, or with the connection."""
        self.bytes_in = self.bytes_out = 0
        """Bytes received from the peer and sent to it."""
        self._touched = False  # this batch brought something that `deliver` has to pass on
        self._consumed = 0  # taken by the sink, but not yet given back to the peer's window
        self._credit_step = WINDOW // STEPS  # as much of that is worth a message
        self._shared_growth = shared_growth
        self._growth: Growth | None = None  # of a channel that carries more than a little
        self._views: list[memoryview] = []  # received in this batch
        self._backlog = Backlog()
        self._rests = rests  # this one is in it from its good end on, until all of it is taken
        self._sink: Sink = _NO_SINK
        self._senders = trio.lowlevel.ParkingLot()
        self._urgent = True  # it has not sent much at once, and goes before channels that have
        self._end_told = self._closed_told = False
        self._discard = False  # we have closed: nobody wants the bytes that still come

    # ---- outwards

    async def wait_sendable(self) -> None:
        """Wait until `send_from` may be called; a checkpoint only where it has to wait.

        Raises `trio.BrokenResourceError` once the channel cannot send any more.
        """
        sender = self.sender
        while True:
            if self.close_received or self.close_sent:
                raise trio.BrokenResourceError("the channel is closed")
            if not self.out_window:
                await self._senders.park()
            elif not sender.can_send:
                await sender.wait_can_send(urgent=self._urgent)
            else:
                return

    @property
    def sendable(self) -> bool:
        """Whether `wait_sendable` would return at once."""
        closed = self.close_received or self.close_sent
        return self.out_window > 0 and self.sender.can_send and not closed

    def send_from(self, fill: Callable[[list[memoryview]], int], limit: int) -> int:
        """Send the bytes that `fill` puts into the buffers it is given, up to `limit` of them.

        `fill` returns how many bytes it wrote, filling the buffers in order; 0 sends nothing.  An
        error of it passes through, with nothing sent.  Only to be called while `sendable`.
        """
        sender = self.sender
        window = self.out_window
        count = fill(sender.data_slots(limit if limit < window else window, self.out_max))
        if count:
            self.out_window = window - count
            self.bytes_out += count
            self._urgent = count < SMALL
            sender.send_data(self.peer_number, count)
        return count

    @property
    def at_once(self) -> int:
        """Bytes that `send_now` would take at this moment."""
        if not self.sendable:
            return 0
        most = SLOTS * MAX_PACKET if self.out_max >= MAX_PACKET else self.out_max
        return min(self.out_window, most)

    def send_now(self, data: bytes | memoryview) -> None:
        """Send all of `data`: no more than `at_once`."""
        count = self.send_from(copier(memoryview(data)), len(data))
        assert count == len(data)

    def send_some(self, views: Sequence[memoryview]) -> int:
        """Send bytes of `views` in one piece, as many as go at once; return how many those were."""
        limit = min(self.at_once, self.sender.carrier.turn, sum(map(len, views)))
        return self.send_from(copier(*views), limit) if limit else 0

    def send_eof(self, *, close: bool = False) -> None:
        """Say that we send no more data.  Does nothing once the channel is closing.

        With `close`, the CLOSE goes out with it, in one piece; `close` has to be called all the
        same.
        """
        if self.eof_sent or self.close_sent or self.close_received:
            return
        self.eof_sent = True
        eof = messages.about_channel(messages.CHANNEL_EOF, self.peer_number)
        if close:
            self.close_sent = True
            self._tell(eof, messages.about_channel(messages.CHANNEL_CLOSE, self.peer_number))
            self._senders.unpark_all()
        else:
            self._tell(eof)

    def close(self) -> None:
        """End both directions, and drop the bytes that nobody took.  Can be called again."""
        self._discard = True
        self._views = []
        if self._backlog:
            self._backlog.clear()
            self._rests.discard(self)
        if self._growth is not None:
            self._growth.give_back()
        if not self.close_sent:
            self.close_sent = True
            if not self.lost:
                self._tell(messages.about_channel(messages.CHANNEL_CLOSE, self.peer_number))
            self._senders.unpark_all()

    def _tell(self, *payloads: bytes) -> None:
        self.sender.send_control(*payloads)

    # ---- inwards

    def attach(self, sink: Sink) -> None:
        """Give the bytes of the backlog, and all that are still to come, to `sink`.

        It takes the place of an earlier one: that of a handshake, whose work is done.
        """
        self._sink = sink
        self._end_told = self._closed_told = False
        if not self.flush_backlog():
            sink.backlog_waits()
        if self.close_received:
            self._tell_closed()

    @property
    def backlog(self) -> int:
        """Bytes that the sink has not taken yet."""
        return len(self._backlog)

    def flush_backlog(self) -> bool:
        """Offer the backlog to the sink; return whether all of it was taken."""
        sink, backlog = self._sink, self._backlog
        while backlog:
            views = backlog.views()
            size = sum(map(len, views))
            taken = sink.write(views)
            del views
            backlog.advance(min(taken, len(backlog)))  # closing in between has emptied it
            self._credit(taken)
            if taken < size:
                return False
        self._tell_end()
        return True

    def take(self, limit: int) -> bytes:
        """Remove and return up to `limit` bytes of the backlog."""
        data = self._backlog.take(limit)
        self._credit(len(data))
        self._tell_end()
        return data

    def _credit(self, taken: int) -> None:
        """Open the peer's window by the bytes that were taken, when that is worth a message."""
        self._consumed += taken
        if self._consumed >= self._credit_step and not (self.close_sent or self.eof_received):
            credit = self._consumed + self._grow(self._consumed)
            self._consumed = 0
            self.window += credit
            self._tell(messages.window_adjust(self.peer_number, credit))

    def _grow(self, taken: int) -> int:
        """Return by how many bytes the peer's window should be wider than it is."""
        shared = self._shared_growth
        if shared.round_trip.shortest is None:
            return 0
        now = trio.current_time()
        if self._growth is None:
            self._growth = Growth(shared, now)
            return 0
        more = self._growth.taken(taken, now)
        self._credit_step = self._growth.size // STEPS
        return more

    def _tell_end(self) -> None:
        if self.eof_received and not self._backlog and not self._end_told:
            self._end_told = True
            self._rests.discard(self)
            self._sink.end()

    # ---- called by the channel table

    def set_peer(self, number: int, window: int, max_packet: int) -> None:
        """Note the peer's number, window and packet size for this channel."""
        if not max_packet:
            raise ProtocolError("a channel with a maximum packet size of 0")
        self.peer_number, self.out_window, self.out_max = number, window, max_packet

    def on_data(self, view: memoryview) -> bool:
        """Take data of this batch; it is passed on by `deliver`.

        Return whether it is the first of this batch: `deliver` has to be called then.
        """
        if self.eof_received:
            raise ProtocolError("channel data after EOF")
        self.window -= len(view)
        if self.window < 0:
            raise ProtocolError("channel data beyond the window")
        if view and not self._discard:
            self._views.append(view)
        first, self._touched = not self._touched, True
        return first

    def on_extended_data(self, size: int) -> None:
        """Pass over data of a second stream, which has no use here."""
        self.window -= size
        if self.eof_received or self.window < 0:
            raise ProtocolError("channel data beyond the window")
        self._credit(size)

    def on_window_adjust(self, count: int) -> None:
        """Let more be sent."""
        self.out_window += count
        if self.out_window > MAX_WINDOW:
            raise ProtocolError("a channel window of more than 2³² - 1 bytes")
        self._senders.unpark_all()

    def on_eof(self) -> bool:
        """Note the peer's EOF; return as `on_data`."""
        self.eof_received = True
        first, self._touched = not self._touched, True
        return first

    def on_close(self, *, broken: bool) -> bool:
        """Note the peer's CLOSE, and answer it; return as `on_data`.

        `broken` says that the stream did not come to its end before.
        """
        self.lost = broken
        self.eof_received = self.eof_received or not broken
        self.close_received = True
        if not self.close_sent:
            self._tell(messages.about_channel(messages.CHANNEL_CLOSE, self.peer_number))
            self.close_sent = True
        self._senders.unpark_all()
        first, self._touched = not self._touched, True
        return first

    def on_lost(self) -> None:
        """Break off: the connection is gone."""
        self.lost = self.close_received = True
        self._senders.unpark_all()
        self._tell_closed()

    def deliver(self) -> None:
        """Pass on the bytes of the batch, at its end."""
        self._touched = False
        views, sink = self._views, self._sink
        if views:
            self._views = []
            size = len(views[0]) if len(views) == 1 else sum(map(len, views))
            self.bytes_in += size
            if len(views) > MAX_VIEWS:
                # A byte in each packet: the system would not take so many at once.
                views = [memoryview(b"".join(views))]
            taken = 0 if self._backlog else sink.write(views)
            if taken:
                self._credit(taken)
            if taken < size:
                self._backlog.append_rest(views, taken)
                sink.backlog_waits()
        if self.eof_received:
            self._tell_end()
        if self.close_received:
            self._tell_closed()

    def _tell_closed(self) -> None:
        if not self._closed_told:
            self._closed_told = True
            if self._backlog and not self.lost:
                self._rests.add(self)
            self._sink.closed()


def copier(*views: memoryview) -> Callable[[list[memoryview]], int]:
    """Return a function that fills the buffers of `Channel.send_from` with the bytes of `views`.

    Each call goes on behind the bytes of the one before it.
    """
    left = list(reversed(views))

    def fill(slots: list[memoryview]) -> int:
        done = 0
        for slot in slots:
            at, size = 0, len(slot)
            while left and at < size:
                view = left.pop()
                room = size - at
                if len(view) > room:
                    left.append(view[room:])
                    view = view[:room]
                end = at + len(view)
                slot[at:end] = view
                at = end
            done += at
        return done

    return fill
