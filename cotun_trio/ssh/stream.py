"""A channel as a Trio stream, for a user that wants bytes rather than a socket at its end."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import trio

from cotun_trio.ssh.channel import copier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.ssh.channel import Channel

DEFAULT_RECEIVE = 64 * 1024
"""Bytes returned by `ChannelStream.receive_some` at the most, unless it is told otherwise."""
_SEND_LIMIT = 256 * 1024


class ChannelStream(trio.abc.HalfCloseableStream):
    """A `trio.abc.HalfCloseableStream` over a `Channel`, which it owns.

    Closing it closes the channel in both directions at once; `send_eof` ends only ours.  At most a
    window of bytes waits to be received.  Cancelling a `send_all` leaves an unknown part of the
    data sent; cancelling `receive_some` loses nothing.
    """

    def __init__(self, channel: Channel) -> None:
        self.peer_closed = trio.Event()
        """Set when the peer takes no more data."""
        self.over = trio.Event()
        """Set when nothing can be sent any more, and when it is closed."""
        self._channel = channel
        self._readable = trio.lowlevel.ParkingLot()
        self._sending = self._receiving = False
        self._closed = self._eof_sent = self._ended = self._broken = False
        channel.attach(self)

    # ---- the sink of the channel: everything waits in the channel's backlog

    def write(self, views: Sequence[memoryview]) -> int:  # noqa: ARG002
        """Take nothing: `receive_some` takes it from the backlog."""
        return 0

    def backlog_waits(self) -> None:
        """Wake the receiver."""
        self._readable.unpark_all()

    def end(self) -> None:
        """Wake the receiver for the end."""
        self._ended = True
        self._readable.unpark_all()

    def closed(self) -> None:
        """Wake the receiver: there may be no more."""
        self.peer_closed.set()
        self.over.set()
        self._readable.unpark_all()

    # ---- the stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream.send_all`."""
        self._check_sending()
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            rest = memoryview(data).cast("B")
            while rest:
                await self._wait_sendable()
                count = self._channel.send_from(copier(rest), _SEND_LIMIT)
                rest = rest[count:]
                if rest:
                    # The peer may take a byte in a packet, and a window of gigabytes of them.
                    await trio.lowlevel.checkpoint()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream.wait_send_all_might_not_block`."""
        self._check_sending()
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._wait_sendable()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream.send_eof`."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        self._channel.send_eof()
        self._eof_sent = True
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream.receive_some`."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            # Nothing can be taken of a stream that was closed or broken off here.
            while not (data := self._channel.take(max_bytes or DEFAULT_RECEIVE)):
                if self._nothing_follows():
                    break
                await self._readable.park()
            return data
        finally:
            self._receiving = False

    def _nothing_follows(self) -> bool:
        """Return whether the peer's EOF has come.  Raises where the stream is over without one."""
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        if not self._ended and (self._channel.lost or self._broken):
            raise trio.BrokenResourceError("the stream broke off")
        return self._ended

    async def aclose(self) -> None:
        """Close both directions, and tell the peer, without waiting for it."""
        if not self._closed:
            self._closed = True
            self._end()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """End it from outside: its user and the peer see a stream that broke off."""
        self._broken = True
        self._end()

    def _end(self) -> None:
        self._channel.close()
        self.over.set()
        self._readable.unpark_all()

    def _check_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed or self._eof_sent:
            raise trio.ClosedResourceError("this stream is closed for sending")

    async def _wait_sendable(self) -> None:
        try:
            await self._channel.wait_sendable()
        except trio.BrokenResourceError:
            if self._closed:
                raise trio.ClosedResourceError("another task closed this stream") from None
            raise
