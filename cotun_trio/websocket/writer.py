"""The sending half of a wire: frames, and a backlog while the socket is full.

Data is sent on the spot, by the task that produces it.  Only the part that the kernel does not take
is copied into a backlog, for the one task that waits for the socket to become writable (`run`).
Producers of data wait for that backlog to be gone, those that send little going first, and take
turns of a length that the link decides (`cotun_trio.websocket.pace`).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import ParkingLot, checkpoint, wait_writable

from cotun_trio.backlog import Backlog
from cotun_trio.errors import ConnectionLost, ProtocolError, TlsFailed
from cotun_trio.net.poller import poller
from cotun_trio.websocket.frames import Framer
from cotun_trio.websocket.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.errors import CotunError
    from cotun_trio.net.tls import AnyTls

MAX_BACKLOG = 4 * 1024 * 1024
"""Bytes that may wait for a peer that does not read.  Data does not get near it, since producers
wait; a peer that asks and asks and never reads the answers does."""
MAX_BACKLOG_BEFORE_LOGIN = 64 * 1024
"""The same for a peer that has not logged in: all that we say until then is 4 KiB."""
SIOCOUTQNSD = 0x894B
"""The request for the bytes in the kernel that are not sent yet (linux/sockios.h)."""
ONE_FRAME = 2
"""Parts of one frame: its header and its payload."""
SMALL = 4096
"""Bytes up to which a frame in one piece is cheaper than a gathering write, and up to which it is
held back in a round."""
MOST_HELD = 16 * 1024
"""Bytes that are held back.  More than this is as cheap in two pieces."""

_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Writer:
    """Writes to `sock`, which belongs to the wire; through `tls`, if there is any.

    `mask` says that we are a client; `failed` is called with the error that ends the wire.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: AnyTls | None,
        failed: Callable[[CotunError], None],
        *,
        mask: bool,
    ) -> None:
        self.busy = False
        """Whether the kernel has not taken all that was sent."""
        self.bytes_out = 0
        """Bytes written to the socket."""
        self._sock = sock
        self._tls = tls
        self._failed = failed
        self._framer = Framer(mask=mask)
        self._cork = poller().cork
        self._held = bytearray()  # for one frame, until the end of a round
        self._ended = False
        self._backlog = Backlog()
        self._max_backlog = MAX_BACKLOG_BEFORE_LOGIN
        self._work = ParkingLot()  # where `run` waits for a backlog
        self._idle = ParkingLot()  # where producers wait for its end
        self._urgent = ParkingLot()  # the same for those that go first
        self._pace = Pace()
        self._busy_since = (0.0, 0)  # when, and how many bytes were in the network's hands by then
        self._set_turn()

    def trust_peer(self, *, is_go: bool) -> None:
        """Keep more for the peer, which has logged in, and make frames for Go if it `is_go`."""
        self._max_backlog = MAX_BACKLOG
        if is_go:
            self._framer.cut_for_go()

    # ---- the carrier of an SSH connection (`cotun_trio.websocket.wire_protocol.Carrier`)

    @property
    def turn(self) -> int:
        """How many bytes one sender may send before others have their turn."""
        return self._pace.turn

    @property
    def backlog(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self._backlog)

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """Wait until the kernel has taken all of the backlog; `urgent` senders go first.

        Raises `trio.BrokenResourceError` when it never will.
        """
        while self.busy:
            await (self._urgent if urgent else self._idle).park()
        if self._ended:
            raise trio.BrokenResourceError("the connection is lost")

    def send(self, data: memoryview | bytearray) -> None:
        """Send `data` as binary messages.  Once the wire has ended, do nothing.

        In a round, a small message is held back until its end (`cotun_trio.net.poller`).
        """
        size, held = len(data), self._held
        if self._cork.on and size <= SMALL:
            if not held:
                self._cork.holding.append(self)
            held += data
            if len(held) > MOST_HELD:
                self._send_held()
            return
        if held:
            self._send_held()
        if size > SMALL:
            self.send_frames(self._framer.frames(data))
        else:
            self.send_frames([self._framer.small(data)])

    def uncork(self) -> None:
        """Send the bytes that were held back."""
        if self._held:
            self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, bytearray()
        if len(held) > SMALL:
            self._send_frames(self._framer.frames(memoryview(held)))
        else:
            self._send_frames([self._framer.small(held)])

    # ---- for the wire

    def send_frames(self, parts: Sequence[memoryview | bytes]) -> None:
        """Send whole frames, in pieces.  Once the wire has ended, do nothing."""
        if self._held:
            self._send_held()
        self._send_frames(parts)

    def _send_frames(self, parts: Sequence[memoryview | bytes]) -> None:
        if self._ended:
            return
        if self._tls is not None:
            try:
                # One frame is not copied together; of many, each piece would be a record of TLS.
                pieces = parts if len(parts) <= ONE_FRAME else [b"".join(parts)]
                parts = [self._tls.encrypt(*pieces)]
            except TlsFailed as error:
                self._failed(error)
                return
        self.write(parts)

    def write(self, parts: Sequence[memoryview | bytes]) -> None:
        """Write bytes of the socket's own protocol, TLS or not, and keep the rest."""
        single = parts[0] if len(parts) == 1 else None
        size = len(single) if single is not None else sum(map(len, parts))
        written = 0
        if not self.busy:
            try:
                if single is not None:
                    written = self._sock.send(single)
                else:
                    written = self._sock.sendmsg(parts)
            except BlockingIOError:
                pass
            except OSError as error:
                self._failed(ConnectionLost(f"connection lost: {error.strerror}"))
                return
            self.bytes_out += written
        if written < size:
            self._keep(parts, written)
        elif size >= self._pace.turn and self._pace.taken_at_once(size):
            self._set_turn()

    def _keep(self, parts: Sequence[memoryview | bytes], written: int) -> None:
        """Keep all but the first `written` bytes for `run`."""
        self._backlog.append_rest(parts, written)
        if not self.busy:
            self.busy = True
            self._busy_since = (trio.current_time(), self._sent())
            self._work.unpark()
        if len(self._backlog) > self._max_backlog:
            self._failed(ProtocolError("the peer does not read the answers to its messages"))

    async def run(self) -> None:
        """Write the backlog whenever there is one.  Returns when the wire has ended."""
        backlog, sock = self._backlog, self._sock
        while not self._ended:
            if not backlog:
                if self.busy:
                    self._follow_pace()
                self.busy = False
                if self._urgent:
                    self._urgent.unpark_all()
                    await checkpoint()
                if not self.busy:
                    # All of the producers: the first one may go and wait for its own socket.
                    self._idle.unpark_all()
                    await self._work.park()
                continue
            try:
                await wait_writable(sock)
                written = sock.sendmsg(backlog.views())
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError) as error:
                self._failed(ConnectionLost(f"connection lost: {error}"))
                return
            self.bytes_out += written
            backlog.advance(written)

    async def drain(self) -> None:
        """Write the backlog to its end, in place of `run`.

        Raises `OSError`, and `trio.ClosedResourceError` where the socket is closed.
        """
        backlog, sock = self._backlog, self._sock
        while backlog and not self._ended:
            await wait_writable(sock)
            with contextlib.suppress(BlockingIOError):
                written = sock.sendmsg(backlog.views())
                self.bytes_out += written
                backlog.advance(written)

    def send_at_once(self, frame: bytes) -> None:
        """Send a whole frame if the kernel takes it at once, and otherwise never."""
        self.uncork()
        if not self._backlog and not self._ended:
            with contextlib.suppress(OSError, TlsFailed):
                self._sock.send(frame if self._tls is None else self._tls.encrypt(frame))

    def end(self) -> None:
        """Drop the backlog, and wake all tasks that wait.  Can be called again."""
        self._ended = True
        self._backlog.clear()
        self.busy = False
        self._work.unpark_all()
        self._urgent.unpark_all()
        self._idle.unpark_all()

    # ---- the pace

    def _follow_pace(self) -> None:
        """Learn from the time that the backlog took."""
        since, sent = self._busy_since
        if self._pace.taken_in(trio.current_time() - since, self._sent() - sent):
            self._set_turn()

    def _sent(self) -> int:
        """Return how many bytes have left the kernel: all, where it does not tell."""
        unsent = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._sock.fileno(), SIOCOUTQNSD, unsent)
        return self.bytes_out - unsent[0]

    def _set_turn(self) -> None:
        """Have the kernel keep no more than a turn of unsent bytes."""
        if _NOTSENT_LOWAT is not None and self._sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # it is closed
                self._sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, self._pace.turn)
