"""The splice: bytes between two SSH channels, of two connections, both ways, as they come.

It is what a relay (`cotun_trio.forwards.relay`) is with a channel in the place of the socket: EOF
goes on as EOF after the last byte, and a break as a break, so that the far ends see the same as
without us.  The reader of one connection sends to the other directly, as much as the window there
takes.  The rest stays in the backlog of the channel that it came by, whose peer then has a full
window and stops: back-pressure crosses the splice.  Only then does a task wait for room.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.ssh.channel import Channel


class Splice:
    """Joins two channels.  It owns both, and closes them at its end."""

    def __init__(self, one: Channel, other: Channel) -> None:
        self._halves = _Half(self, one, other), _Half(self, other, one)
        self._news = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Carry bytes until both directions have ended, or one of the two channels is broken.

        When cancelled, and when either channel breaks, both break off.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for half in self._halves:
                    half.near.attach(half)
                while not self._over:
                    await self._news.wait()
                    self._news = trio.Event()
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            for half in self._halves:
                half.near.close()

    @property
    def _over(self) -> bool:
        return any(half.near.lost for half in self._halves) or all(
            half.is_over for half in self._halves
        )

    def changed(self) -> None:
        """Look whether it is over."""
        self._news.set()

    def start_soon(self, half: _Half) -> None:
        """Have `half` wait for room, unless all is over."""
        if self._nursery is not None:
            self._nursery.start_soon(half.drain)


class _Half:
    """One direction: the sink of the channel `near`, which sends to the channel `far`."""

    def __init__(self, splice: Splice, near: Channel, far: Channel) -> None:
        self.near = near
        self._far = far
        self._splice = splice
        self._ended = False  # all has been sent, with the EOF
        self._draining = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to be sent, or nobody who takes it."""
        return self._ended or self._far.close_received

    def write(self, views: Sequence[memoryview]) -> int:
        """Send as many bytes as the far channel takes at once, all of a batch in one piece."""
        return self._far.send_some(views)

    def backlog_waits(self) -> None:
        """Wait for room, in a task of its own."""
        if not self._draining:
            self._draining = True
            self._splice.start_soon(self)

    async def drain(self) -> None:
        """Wait for room, and send, until there is no backlog; or nobody who takes it."""
        done = False
        while not done and not self._far.close_received:
            with contextlib.suppress(trio.BrokenResourceError):
                await self._far.wait_sendable()
                # A peer that takes packets of one byte only, and has a window of gigabytes, would
                # leave other tasks no turn.
                await trio.lowlevel.checkpoint()
            done = self.near.flush_backlog()
        self._draining = False

    def end(self) -> None:
        """Pass the EOF on."""
        self._ended = True
        self._far.send_eof()
        self._splice.changed()

    def closed(self) -> None:
        """Nothing more can be sent to the near channel.  A backlog of it still goes to the far."""
        self._splice.changed()
