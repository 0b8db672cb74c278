"""The wire: a TCP socket with a WebSocket on it, at full speed.

A `Wire` is the `trio.abc.Stream` that trio-websocket sits on, and the carrier that the SSH
connection sends on.  Reading happens where trio-websocket's reader task calls `receive_some`: one
read into a shared buffer, payload straight to the receiver, control frames to trio-websocket.
Sending happens where the data is produced, on the spot; only what the kernel does not take is
copied into a backlog, for the one task that waits for the socket to become writable.  Producers
of data wait for that backlog to be gone, those that send little going first, and take turns of a
length that the link decides (`cotun_trio.websocket.pace`).  Readers never wait for writers: two
ends that both waited for the other to read would wait for ever.  They take turns, too, whose length
is that of the work in it (`cotun_trio.websocket.turns`).

Plain sockets and `trio.lowlevel.wait_readable` are used rather than Trio's own streams, which cost
a quarter of the throughput and of the round trip here.

The wire ends by `Wire.fail` (somebody broke a rule), by the peer, by the network or by `close`;
`ended` is set, and `failure` says why.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import re
import socket
from typing import TYPE_CHECKING, Protocol

import trio
from trio.lowlevel import ParkingLot, checkpoint, notify_closing, wait_readable, wait_writable

from cotun_trio.backlog import Backlog
from cotun_trio.errors import (
    ConnectionLost,
    CotunError,
    ProtocolError,
    TlsFailed,
    UpgradeRefused,
)
from cotun_trio.net.descriptors import is_reserved
from cotun_trio.net.tls import MAX_LEFT
from cotun_trio.websocket.frames import (
    GO_FRAMES,
    MAX_MESSAGE,
    POLICY_VIOLATION,
    FrameError,
    FrameFilter,
    Framer,
    close_frame,
)
from cotun_trio.websocket.pace import Pace
from cotun_trio.websocket.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.budget import Budget
    from cotun_trio.net.tls import AnyTls

MAX_HEAD = 8 * 1024
"""Bytes of the server's HTTP response head."""
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
"""Bytes up to which a frame in one piece is cheaper than a gathering write."""

_NOTHING = memoryview(b"")
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# As h11 sees them: it takes bare line feeds, and a status without a reason.
_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?: |\r?\n)")


class Receiver(Protocol):
    """Takes the bytes that travel in binary messages."""

    @property
    def budget(self) -> Budget:
        """What a turn may do."""

    @property
    def unfinished(self) -> bool:
        """Whether it has not processed all that it was given, for want of budget.

        It has to be given nothing, in another turn, until that is done.
        """

    @property
    def paused(self) -> bool:
        """Whether nothing should be read at present."""

    async def wait_resumed(self) -> None:
        """Wait until reading may go on."""

    def start_batch(self) -> None:
        """A turn begins, and its budget."""

    def receive(self, data: memoryview) -> None:
        """Take bytes, valid until `end_batch`.  Raises `CotunError` to end the wire."""

    def end_batch(self) -> None:
        """The turn is over."""


class Wire(trio.abc.Stream):
    """One WebSocket's socket, which it owns.

    `area` is where reads go; it is only in use between two awaits and can be shared by any number
    of wires.  `head` is what the front has already read of a client: the HTTP head to show to
    trio-websocket, and `early`, the bytes behind it.  `tls` is TLS behind its handshake; all else
    here is the same with it, since it is only a step on the way from and to the socket.  `unread`
    has already come on the socket (and out of TLS), and nobody has looked at it.
    """

    def __init__(
        self,
        sock: socket.socket,
        area: memoryview,
        *,
        client: bool,
        head: bytes = b"",
        early: bytes = b"",
        tls: AnyTls | None = None,
        unread: bytes = b"",
    ) -> None:
        set_nonblocking_and_nodelay(sock)
        self.ended = trio.Event()
        """Set when nothing will be received any more."""
        self.failure: CotunError | None = None
        """Why, once `ended` is set."""
        self.busy = False
        """Whether the kernel has not taken all that was sent."""
        self.bytes_in = self.bytes_out = 0
        """Bytes read from and written to the socket."""
        self.frames = FrameFilter(from_client=not client)
        self.framer = Framer(mask=client)
        self._turns = Turns(self.frames.budget)
        self._max_backlog = MAX_BACKLOG_BEFORE_LOGIN
        self._sock = sock
        self._tls = tls
        self._unread = unread
        self._unfinished = bool(early or unread)  # there is work that needs nothing of the network
        self._area = area
        self._client = client
        self._replay = head  # to be shown to trio-websocket as if it had just arrived
        self._early = early  # received, but not yet looked at: frames
        self._upgraded = not client
        self._response = bytearray()  # what came of the HTTP response
        self._receiver: Receiver | None = None
        self._attached = trio.Event()
        self._backlog = Backlog()
        self._work = ParkingLot()  # where the writer waits for a backlog
        self._idle = ParkingLot()  # where producers wait for its end
        self._urgent = ParkingLot()  # the same for those who go first
        self._pace = Pace()
        self._busy_since = (0.0, 0)  # when, and how many bytes were in the network's hands by then
        self._set_turn()

    @property
    def in_reserve(self) -> bool:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`."""
        return is_reserved(self._sock)

    def attach(self, receiver: Receiver) -> None:
        """Give what came behind the handshake, and all that is still to come, to `receiver`."""
        self._receiver = receiver
        self.frames.budget = self._turns.budget = receiver.budget
        self._attached.set()

    def trust_peer(self, *, is_go: bool) -> None:
        """Take larger messages, and send frames as a Go peer reads them: it has logged in."""
        self.frames.max_message = MAX_MESSAGE
        self._max_backlog = MAX_BACKLOG
        self._turns.logged_in()
        if is_go:
            self.framer.sizes = GO_FRAMES

    # ---- what trio-websocket calls

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """Read on, and return what trio-websocket has to see: the handshake and control frames.

        Returns ``b""`` when the peer has closed its end.  Raises `trio.BrokenResourceError` when
        the wire has failed, and `trio.ClosedResourceError` when it was closed here.
        """
        if self._replay:
            await checkpoint()
            head, self._replay = self._replay, b""
            return head
        if not self._upgraded:
            return await self._receive_response()
        if self._receiver is None:
            await self._attached.wait()
        receiver, turns = self._receiver, self._turns
        assert receiver is not None
        while True:
            if self.frames.closed:
                # Answered by trio-websocket, and over, whether the peer goes now or stays.
                self._end(ConnectionLost("the peer closed the WebSocket"))
                return b""
            if receiver.paused:
                await receiver.wait_resumed()
            if self._unfinished:
                await checkpoint()
            elif self._sock.fileno() < 0:
                raise trio.ClosedResourceError
            else:
                await wait_readable(self._sock)
            if not turns.slow:
                control = self._take_turn(receiver)
            else:
                await turns.enter()
                try:
                    control = self._take_turn(receiver)
                finally:
                    turns.leave()
            if control is not None:
                return control

    def _take_turn(self, receiver: Receiver) -> bytes | None:
        """Read, and process as much as a turn allows.

        Return the control frames that need an answer, ``b""`` at the end of the peer, None where
        there is nothing to return yet.
        """
        if receiver.unfinished or self.frames.unfinished:
            data = _NOTHING
        elif self._early:
            data, self._early = memoryview(self._early), b""
        else:
            received = self._receive()
            if not received:
                self._unfinished = self._tls is not None and self._tls.unfinished
                return None if received is None else b""
            data = received
        control = b""
        receiver.start_batch()
        try:
            if receiver.unfinished:
                receiver.receive(data)
            else:
                control = self.frames.feed(data, receiver.receive)
            receiver.end_batch()
            if self._turns.too_much(self.bytes_in):
                raise FrameError(POLICY_VIOLATION, "more than a login takes")
        except CotunError as error:
            self.fail(error)
            raise trio.BrokenResourceError from error
        tls, budget = self._tls, receiver.budget
        self._unfinished = (tls is not None and tls.unfinished) or (
            budget.left <= 0 and (receiver.unfinished or self.frames.unfinished)
        )
        self._turns.done(unfinished=self._unfinished)
        return control or None

    async def _receive_response(self) -> bytes:
        """Return what has come of the server's response; frames behind it are kept for later."""
        data = await self._read()
        response = self._response
        response += data
        blank = _BLANK_LINE.search(response)
        end = blank.end() if blank else len(response)
        if end > MAX_HEAD:
            self.fail(ProtocolError(f"an HTTP response head of over {MAX_HEAD} bytes"))
            raise trio.BrokenResourceError
        if blank and (line := _STATUS_LINE.match(response)):
            if line[1] != b"101":
                # Now, not behind a body that nobody reads: it may end late, badly or never.
                self.fail(UpgradeRefused(int(line[1])))
                raise trio.BrokenResourceError
            self._upgraded = True
            self._early = bytes(response[end:])
            self._unfinished = bool(self._early) or (self._tls is not None and self._tls.unfinished)
        return bytes(data[: len(data) - len(self._early)])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the handshake, or whole control frames."""
        self._push([memoryview(data)])
        await checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Return: `send_all` never blocks."""
        await checkpoint()

    async def aclose(self) -> None:
        """See `close`."""
        self.close()
        await checkpoint()

    # ---- reading

    async def _read(self) -> memoryview:
        """Return what one read of the socket gave; nothing where the peer has closed its end."""
        while True:
            if self._unread or (self._tls is not None and self._tls.unfinished):
                await checkpoint()
            elif self._sock.fileno() < 0:
                raise trio.ClosedResourceError
            else:
                await wait_readable(self._sock)
            data = self._receive()
            if data is not None:
                return data

    def _receive(self) -> memoryview | None:
        """Return what one read of the socket gives.

        It is nothing where the peer has closed its end, and None where it takes more to get any.
        """
        if self.ended.is_set():
            raise trio.BrokenResourceError("the connection is lost")
        if self._unread:
            data, self._unread = memoryview(self._unread), b""
            return data
        try:
            size = self._receive_into(self._area)
        except BlockingIOError:
            return None
        except OSError as error:
            self._end(ConnectionLost(f"connection lost: {error.strerror}"))
            raise trio.BrokenResourceError from error
        except TlsFailed as error:
            self._end(error)
            raise trio.BrokenResourceError from error
        if not size:
            self._end(ConnectionLost("the peer closed the connection"))
        return self._area[:size]

    def _receive_into(self, area: memoryview) -> int:
        """Read the socket; return how many bytes are in `area` then, 0 at the end.

        Raises `BlockingIOError` where it takes more to get any.
        """
        tls, turns = self._tls, self._turns
        # TLS copies what it is fed; that, and what waits for the rest of its record, fit the area.
        most = len(area) if tls is None else len(area) - MAX_LEFT
        if tls is None or not tls.unfinished:
            wanted = turns.read_size
            size = self._sock.recv_into(area, wanted if wanted < most else most)
            self.bytes_in += size
            if size >= wanted:
                turns.read(size, most)
            if tls is None:
                return size
            if size:
                tls.feed(area[:size])
            else:
                tls.feed_eof()
        size = tls.decrypt_into(area)
        if out := tls.take_out():  # an answer of TLS itself, such as new keys
            self._write([out])
        if not size and not tls.ended:
            raise BlockingIOError
        return size

    # ---- sending

    @property
    def turn(self) -> int:
        """How many bytes one sender may send before others have their turn."""
        return self._pace.turn

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """Wait until the kernel has taken all of the backlog; who is `urgent` goes first.

        Raises `trio.BrokenResourceError` when that will never be.
        """
        while self.busy:
            await (self._urgent if urgent else self._idle).park()
        if self.ended.is_set():
            raise trio.BrokenResourceError("the connection is lost")

    def send(self, data: memoryview | bytearray) -> None:
        """Send `data` as binary messages.  Once the wire has ended, do nothing."""
        if len(data) > SMALL:
            self._push(self.framer.frames(data))
        else:
            self._push([self.framer.small(data)])

    def _push(self, parts: Sequence[memoryview | bytes]) -> None:
        """Send whole frames."""
        if self.ended.is_set():
            return
        if self._tls is not None:
            try:
                # One frame is not copied together; of many, each piece would be a record of TLS.
                pieces = parts if len(parts) <= ONE_FRAME else [b"".join(parts)]
                parts = [self._tls.encrypt(*pieces)]
            except TlsFailed as error:
                self._end(error)
                return
        self._write(parts)

    def _write(self, parts: Sequence[memoryview | bytes]) -> None:
        """Write now, as far as the kernel takes it, and keep the rest."""
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
                self._end(ConnectionLost(f"connection lost: {error.strerror}"))
                return
            self.bytes_out += written
        if written == size:
            if size >= self._pace.turn and self._pace.taken_at_once(size):
                self._set_turn()
        else:
            self._backlog.append_rest(parts, written)
            if not self.busy:
                self.busy = True
                self._busy_since = (trio.current_time(), self._sent())
                self._work.unpark()
            if len(self._backlog) > self._max_backlog:
                self.fail(ProtocolError("the peer does not read what it asks for"))

    async def run_writer(self) -> None:
        """Write the backlog whenever there is one.  Returns when the wire has ended."""
        backlog, sock = self._backlog, self._sock
        while not self.ended.is_set():
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
                self._end(ConnectionLost(f"connection lost: {error}"))
                return
            self.bytes_out += written
            backlog.advance(written)

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
        """Have the kernel keep no more than a turn of what is not sent yet."""
        if _NOTSENT_LOWAT is not None and self._sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # it is closed
                self._sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, self._pace.turn)

    # ---- ending

    def fail(self, error: CotunError) -> None:
        """End the wire because of `error`; tell a peer that broke RFC 6455 what it did."""
        if isinstance(error, FrameError):
            self.say_goodbye(error.code, error.reason)
        self._end(error)

    def say_goodbye(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, if the kernel takes it at once, without waiting for an answer."""
        if self._upgraded and not self._backlog and not self.ended.is_set():
            frame = close_frame(code, reason, mask=self._client)
            with contextlib.suppress(OSError, TlsFailed):
                self._sock.send(frame if self._tls is None else self._tls.encrypt(frame))

    async def part(self) -> None:
        """Send what is left and a close frame, and wait for the peer to close its end.

        A socket that is closed with bytes unread is reset, and what the peer has not got by then is
        lost: what still comes is read and dropped.  Only for when `run_writer` and the reader do
        not run any more.  Returns at once where the wire has ended; waits for ever for a peer that
        does nothing.
        """
        sock, backlog = self._sock, self._backlog
        with contextlib.suppress(OSError, trio.ClosedResourceError):
            while backlog and not self.ended.is_set():
                await wait_writable(sock)
                with contextlib.suppress(BlockingIOError):
                    written = sock.sendmsg(backlog.views())
                    self.bytes_out += written
                    backlog.advance(written)
            if self.ended.is_set():
                return
            self.say_goodbye()
            sock.shutdown(socket.SHUT_WR)
            while True:
                await wait_readable(sock)
                with contextlib.suppress(BlockingIOError):
                    if not sock.recv_into(self._area):
                        return

    def close(self) -> None:
        """Close the socket.  What the kernel has taken is still sent."""
        self._end(ConnectionLost("the connection was closed"))
        if self._sock.fileno() >= 0:
            notify_closing(self._sock)
            self._sock.close()

    def _end(self, failure: CotunError) -> None:
        if self.failure is None:
            self.failure = failure
        self.ended.set()
        self._backlog.clear()
        self.busy = False
        self._work.unpark_all()
        self._urgent.unpark_all()
        self._idle.unpark_all()


def set_nonblocking_and_nodelay(sock: socket.socket) -> None:
    """Have a socket never block, and a TCP socket send at once."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
