"""A connection before and after its data path: a socket, and TLS on it or not.

For connections before they become a WebSocket, and for others: simple, and not for speed.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable, wait_writable

from cotun_trio.errors import ConnectionLost, TlsFailed
from cotun_trio.net.lane import slow_lane
from cotun_trio.net.tls import MAX_LEFT

if TYPE_CHECKING:
    from cotun_trio.net.tls import AnyTls

SMALL_READ = 16 * 1024
"""Bytes asked of the network at once: twice the size that the head of a message may have."""
LARGE_READ = 64 * 1024
"""The same for the bodies behind them."""


class Transport:
    """A non-blocking socket, which stays its caller's, and perhaps TLS."""

    def __init__(self, sock: socket.socket, tls: AnyTls | None = None) -> None:
        self.sock = sock
        self.tls = tls
        self.unread = b""
        """Bytes that were received before, and are the first to be returned."""
        self.read_size = SMALL_READ
        """Bytes to ask of the network."""

    def begin_tls(self, tls: AnyTls) -> None:
        """Speak TLS, from the first byte on that was put back; `shake_hands` comes next."""
        self.tls = tls
        if data := self.take_unread():
            tls.feed(data)

    def put_back(self, data: bytes) -> None:
        """Have `data`, which was received, returned by the next `receive`."""
        self.unread = data

    def take_unread(self) -> bytes:
        """Remove and return the bytes that were put back."""
        data, self.unread = self.unread, b""
        return data

    def read_bodies(self) -> None:
        """Read more at once from now on: bodies of messages, too."""
        self.read_size = LARGE_READ

    async def shake_hands(self) -> None:
        """Do the TLS handshake, if there is one.

        Raises `TlsFailed`, after telling the peer why, and `ConnectionLost`.
        """
        tls = self.tls
        if tls is None:
            return
        try:
            while not await self._shake_hands(tls):
                await self._write(tls.take_out())
                data = await self._read()
                if data:
                    tls.feed(data)
                else:
                    tls.feed_eof()
        except TlsFailed:
            with contextlib.suppress(ConnectionLost):
                await self._write(tls.take_out())  # the alert
            raise
        await self._write(tls.take_out())

    async def _shake_hands(self, tls: AnyTls) -> bool:
        # A step of it can take milliseconds, and a stranger has it for nothing.
        lane = slow_lane()
        await lane.enter(self, late=True)
        try:
            return tls.shake_hands()
        finally:
            lane.leave()

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end.  Raises `ConnectionLost`."""
        tls = self.tls
        if self.unread:
            return self.take_unread()
        if tls is None:
            return await self._read()
        area = memoryview(bytearray(self.read_size + MAX_LEFT))
        while True:
            if tls.unfinished:
                await trio.lowlevel.checkpoint()
            size = tls.decrypt_into(area)
            if size or tls.ended:
                return bytes(area[:size])
            if tls.unfinished:
                continue
            data = await self._read()
            if data:
                tls.feed(data)
            else:
                tls.feed_eof()

    async def send_all(self, data: bytes, *, idle: float = math.inf) -> None:
        """Send all of `data`.

        Raises `ConnectionLost`, and `trio.TooSlowError` where the peer takes nothing of it for
        `idle` seconds.
        """
        await self._write(data if self.tls is None else self.tls.encrypt(data), idle)

    async def send_eof(self) -> None:
        """Say that there is no more.  Raises `ConnectionLost`."""
        if self.tls is not None:
            await self._write(self.tls.close())
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from None

    async def _read(self) -> bytes:
        while True:
            await wait_readable(self.sock)
            try:
                return self.sock.recv(self.read_size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"connection lost: {error.strerror}") from None

    async def _write(self, data: bytes, idle: float = math.inf) -> None:
        left = memoryview(data)
        while left:
            try:
                with trio.fail_after(idle):
                    await wait_writable(self.sock)
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"connection lost: {error.strerror}") from None
        await trio.lowlevel.checkpoint_if_cancelled()
