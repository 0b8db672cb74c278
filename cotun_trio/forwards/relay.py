"""The relay: bytes between an SSH channel and a socket, both ways, as they come.

Each direction ends by itself: the socket's end of file becomes the channel's EOF, and the channel's
EOF shuts the socket down for writing, after the last byte.  The relay is over when both have ended.
A break (a reset, a lost session, a cancelled task) is no end: it resets the socket, so that nobody
takes half a file for a whole one.

Outwards, from the socket, bytes are sent whenever it is readable (`cotun_trio.net.poller`); a task
waits for the end, and for the channel where it has to.  The turns have the length that
`cotun_trio.forwards.turn_length` says.  Inwards there is no task at
all as long as the socket takes the bytes that come: the connection's reader writes to it directly
(`Relay.write`).  Only while the socket is full does a second task wait.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_writable

from cotun_trio.forwards.turn_length import TurnLength
from cotun_trio.net.poller import notify_closing, while_readable
from cotun_trio.net.sockets import close
from cotun_trio.ssh.scratch import MAX_PACKET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.ssh.channel import Channel


class Relay:
    """Carries one connection.  It owns the channel and the socket, and closes both at its end."""

    def __init__(self, channel: Channel, sock: socket.socket) -> None:
        self.channel = channel
        self._sock = sock
        self._turns = TurnLength()
        self._begun = False
        self._owes_drain = False  # the socket was full before there was a task to wait for it
        self._outward_ended = False  # the socket's end of file was passed on
        self._inward_ended = trio.Event()
        self._stopped = False  # nothing more is taken from the socket
        self._broken = False
        self._siblings: trio.Nursery | None = None  # while `run` does
        self._draining: trio.CancelScope | None = None

    def begin(self) -> None:
        """Take the channel, and send the bytes that have come on the socket; `run` has to follow.

        A program that connects to us and speaks first has spoken by the time that there is a
        channel.  Called in the read that brings the channel, this saves a turn of Trio's loop, 3 %
        of a short connection.
        """
        self._begun = True
        channel = self.channel
        channel.attach(self)
        if channel.sendable and not self._stopped:
            try:
                if not channel.send_from(self._fill, MAX_PACKET):
                    self._pass_end_on()
            except BlockingIOError:
                pass
            except OSError:
                self._break()

    async def run(self) -> None:
        """Relay until both directions have ended, or one of the two ends is broken.

        When cancelled, and when either end breaks, the socket is reset.
        """
        clean = False
        # A nursery of its own would be idle mostly, and costs a tenth of a short connection.
        self._siblings = trio.lowlevel.current_task().parent_nursery
        try:
            if not self._begun:
                self.channel.attach(self)
            elif self._owes_drain:
                self.backlog_waits()
            try:
                await self._move_outwards()
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                # The socket was reset, or the channel closed: the other direction's end decides.
                if not self.channel.close_received:
                    self._break()
            if not self._inward_ended.is_set():
                await self._inward_ended.wait()
            clean = True
        finally:
            self._siblings = None
            if self._draining is not None:
                self._draining.cancel()
            self.channel.close()
            close(self._sock, reset=self._broken or not clean)

    # ---- outwards: from the socket to the channel

    async def _move_outwards(self) -> None:
        """Send until the socket's end of file, or until the channel takes no more.

        Raises `OSError`, `trio.BrokenResourceError` or `trio.ClosedResourceError`.
        """
        channel, sock = self.channel, self._sock
        while not (self._stopped or self._outward_ended):
            await while_readable(sock, self._send, channel.sender.carrier)
            # The socket may have been reset when there was something to wait for.
            if not (self._stopped or self._outward_ended):
                await channel.wait_sendable()

    def _send(self) -> bool | None:
        """Send the bytes that the socket has; return True at its end, and where none can be sent.

        Raises `OSError`.
        """
        channel = self.channel
        if not channel.sendable:
            return True
        turns, sender = self._turns, channel.sender
        limit, allowed = turns.limit, sender.carrier.turn
        if limit > allowed:
            limit = allowed
        try:
            count = channel.send_from(self._fill, limit)
        except BlockingIOError:
            return None
        if count >= limit or count >= MAX_PACKET:
            turns.filled(sender.small_sends)
        elif not count:
            self._pass_end_on()
            return True
        elif turns.limit != MAX_PACKET:  # asked first: a call for each small send adds up
            turns.not_filled()
        return None

    def _pass_end_on(self) -> None:
        self._outward_ended = True
        self.channel.send_eof(close=self._inward_ended.is_set())

    def _fill(self, slots: list[memoryview]) -> int:
        if len(slots) == 1:
            return self._sock.recv_into(slots[0])
        return os.readv(self._sock.fileno(), slots)

    # ---- inwards: from the channel to the socket (a channel's Sink)

    def write(self, views: Sequence[memoryview]) -> int:
        """Write to the socket as many bytes as it takes at once."""
        try:
            return self._sock.send(views[0]) if len(views) == 1 else self._sock.sendmsg(views)
        except BlockingIOError:
            return 0
        except OSError:
            self._break()
            return sum(map(len, views))  # nobody will read them

    def backlog_waits(self) -> None:
        """Wait for the socket to take more, in a task of its own."""
        if self._siblings is None:
            self._owes_drain = True
        elif self._draining is None:
            self._draining = trio.CancelScope()
            self._siblings.start_soon(self._drain, self._draining)

    async def _drain(self, scope: trio.CancelScope) -> None:
        with scope:
            done = False
            while not done and self._siblings is not None:  # or else the socket is closed
                try:
                    await wait_writable(self._sock)
                except trio.ClosedResourceError:
                    continue  # perhaps only the reading has stopped
                done = self.channel.flush_backlog()
        self._draining = None

    def end(self) -> None:
        """Pass the channel's EOF on."""
        if not self._outward_ended:  # if it has: the socket is closed at once, which says as much
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._break()
        self._inward_ended.set()

    def closed(self) -> None:
        """Stop reading the socket: the channel takes no more.  A backlog is still written."""
        self._stop()
        if self.channel.lost:
            self._break()

    def _stop(self) -> None:
        if not (self._stopped or self._outward_ended):
            self._stopped = True
            if self._siblings is not None:
                notify_closing(self._sock)  # wakes the tasks that wait for it

    def _break(self) -> None:
        self._broken = True
        self._stop()
        self.channel.close()  # wakes the task that waits to send
        self._inward_ended.set()
