"""The wire: a TCP socket with a WebSocket on it, at full speed.

A `Wire` is the `trio.abc.Stream` that trio-websocket sits on.  Reading happens where
trio-websocket's reader task calls `receive_some`: one read into a shared buffer, payload straight
to the receiver, control frames to trio-websocket.  Sending is the business of its
`cotun_trio.websocket.writer`, which is also the carrier of the SSH connection.  Readers never wait
for writers: two ends that both waited for the other to read would wait for ever.  They take turns,
whose length is that of the work in it (`cotun_trio.websocket.turns`).

Plain sockets and `trio.lowlevel.wait_readable` are used rather than Trio's own streams, which cost
a quarter of the throughput and of the round trip here.

The wire ends by `Wire.fail` (one of the two ends broke a rule), by the peer, by the network or by
`close`; `ended` is set, and `failure` says why.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import checkpoint, wait_readable

from cotun_trio.errors import (
    ConnectionLost,
    CotunError,
    ProtocolError,
    TlsFailed,
    UpgradeRefused,
)
from cotun_trio.net.descriptors import is_reserved
from cotun_trio.net.poller import notify_closing, while_readable
from cotun_trio.net.sockets import peer_address, set_nonblocking_and_nodelay
from cotun_trio.net.tls import MAX_LEFT
from cotun_trio.protocol.http_answer import (
    MAX_PAGE,
    advice,
    read_fields,
    retry_after,
    what_it_is,
)
from cotun_trio.websocket.answer import BLANK_LINE
from cotun_trio.websocket.frames import (
    BAD_GATEWAY,
    POLICY_VIOLATION,
    FrameError,
    FrameFilter,
    close_frame,
)
from cotun_trio.websocket.turns import Turns
from cotun_trio.websocket.writer import Writer

if TYPE_CHECKING:
    from cotun_trio.net.tls import AnyTls
    from cotun_trio.websocket.wire_protocol import Receiver

MAX_HEAD = 8 * 1024
"""Bytes of the server's HTTP response head: nginx passes on no more by default.  Of an answer that
is no upgrade, such as a login page with a long policy, the first ones say enough."""

_NOTHING = memoryview(b"")
_LEAVE = b"leave"  # no bytes of the peer: it is compared by identity
# As h11 sees it: it takes a status without a reason.
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?: |\r?\n)")


class Wire(trio.abc.Stream):
    """One WebSocket's socket, which it owns.

    `area` is where reads go; it is only in use between two awaits and can be shared by any number
    of wires.  `head` is the HTTP head that the front has already read of a client, to be shown to
    trio-websocket, and `early` the frames behind it.  `tls` is TLS behind its handshake; all else
    here is the same with it, since it is only a step on the way from and to the socket.  `unread`
    are bytes of a client's socket (and out of TLS) that nobody has looked at.
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
        self.bytes_in = 0
        """Bytes read from the socket."""
        self.carrier = Writer(sock, tls, self._end, mask=client)
        """The half that sends."""
        self.frames = FrameFilter(from_client=not client)
        self._turns = Turns(self.frames.budget)
        self._sock = sock
        self._tls = tls
        self._unread = early or unread  # received, but not yet looked at
        self._unfinished = bool(self._unread)  # there is work that needs nothing of the network
        self._area = area
        # TLS copies the bytes that it is fed; they, and the beginning of a record that waits for
        # its rest, fit the area.
        self._most = len(area) if tls is None else len(area) - MAX_LEFT
        self._client = client
        self._replay = head  # to be shown to trio-websocket as if it had just arrived
        self._upgraded = not client
        self._response = bytearray()  # the HTTP response, as far as it has come
        self._receiver: Receiver | None = None
        self._attached = trio.Event()

    @property
    def bytes_out(self) -> int:
        """Bytes written to the socket."""
        return self.carrier.bytes_out

    @property
    def peer_address(self) -> str:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`."""
        return peer_address(self._sock)

    @property
    def response_head(self) -> bytes:
        """The head of the server's answer to a client, once it has come; at first, empty."""
        return bytes(self._response).partition(b"\r\n\r\n")[0] if self._upgraded else b""

    @property
    def in_reserve(self) -> bool:
        """See `cotun_trio.websocket.wire_protocol.WireProtocol`."""
        return is_reserved(self._sock)

    def attach(self, receiver: Receiver) -> None:
        """Give the frames behind the handshake, and all that are still to come, to `receiver`."""
        self._receiver = receiver
        self.frames.use_budget(receiver.budget)
        self._turns.use_budget(receiver.budget)
        self._attached.set()

    def trust_peer(self, *, is_go: bool) -> None:
        """Take larger messages, and send more at once: the peer has logged in."""
        self.frames.trust_peer()
        self._turns.logged_in()
        self.carrier.trust_peer(is_go=is_go)

    # ---- called by trio-websocket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """Read on, and return the bytes for trio-websocket: the handshake and control frames.

        Returns ``b""`` when the peer has closed its end.  Raises `trio.BrokenResourceError` when
        the wire has failed, and `trio.ClosedResourceError` when it was closed here.
        """
        if self._replay or not self._upgraded:
            return await self._receive_head()
        receiver, turns = self._receiver or await self._wait_attached(), self._turns
        while not self.frames.closed:
            if receiver.paused:
                await receiver.wait_resumed()
            control = (
                await self._take_slow_turn(receiver)
                if turns.slow or self._unfinished
                else await while_readable(self._sock, self._take_quick_turn, self.carrier)
            )
            if control is not None and control is not _LEAVE:
                return control
        # Answered by trio-websocket, and over, whether the peer goes now or stays.
        self._end(ConnectionLost("the peer closed the WebSocket"))
        return b""

    async def _wait_attached(self) -> Receiver:
        await self._attached.wait()
        assert self._receiver is not None
        return self._receiver

    async def _take_slow_turn(self, receiver: Receiver) -> bytes | None:
        """Take a turn that may have to wait for others; return as `_take_turn`."""
        if self._unfinished:
            await checkpoint()
        elif self._sock.fileno() < 0:
            raise trio.ClosedResourceError
        else:
            await wait_readable(self._sock)
        if not self._turns.slow:
            return self._take_turn(receiver)
        await self._turns.enter()
        try:
            return self._take_turn(receiver)
        finally:
            self._turns.leave()

    def _take_quick_turn(self) -> bytes | None:
        """Take a turn that has to wait for nobody; return as `_take_turn`.

        `_LEAVE` says that the next one, or this one, has to wait.
        """
        receiver, turns = self._receiver, self._turns
        assert receiver is not None
        if not turns.slow:
            control = self._take_turn(receiver)
        elif turns.enter_now():
            try:
                control = self._take_turn(receiver)
            finally:
                turns.leave()
        else:
            return _LEAVE
        if control is None and (self._unfinished or receiver.paused or self.frames.closed):
            return _LEAVE
        return control

    def _take_turn(self, receiver: Receiver) -> bytes | None:
        """Read, and process as much as a turn allows.

        Return the control frames that need an answer, ``b""`` at the end of the peer, None where
        there is nothing to return yet.
        """
        tls = self._tls
        if receiver.unfinished or self.frames.unfinished:
            data = _NOTHING
        else:
            received = self._receive()
            if not received:
                self._unfinished = tls is not None and tls.unfinished
                return None if received is None else b""
            data = received
        control = b""
        receiver.start_batch()
        try:
            if receiver.unfinished:
                receiver.receive(data)
            else:
                try:
                    control = self.frames.feed(data, receiver.receive)
                except FrameError:
                    receiver.end_batch()  # what came before counts
                    raise
            receiver.end_batch()
            if self._turns.too_much(self.bytes_in):
                raise FrameError(POLICY_VIOLATION, "more than a login takes")
        except CotunError as error:
            self.fail(error)
            raise trio.BrokenResourceError from error
        # Whatever of them is left over: nothing else may come that would have us look at it.
        self._unfinished = (
            receiver.unfinished or self.frames.unfinished or (tls is not None and tls.unfinished)
        )
        self._turns.done(unfinished=self._unfinished)
        if not control:
            return None
        return self._without_bad_gateway(control)

    def _without_bad_gateway(self, control: bytes) -> bytes | None:
        """Return `control`, or None where that closes with 1014, which is then answered.

        wsproto would take it for an error.
        """
        if self.frames.close_code != BAD_GATEWAY:
            return control
        self.say_goodbye(BAD_GATEWAY)
        return None

    async def _receive_head(self) -> bytes:
        """Return the client's request, or the next bytes of the server's response.

        Frames behind a response are kept for later.
        """
        if self._replay:
            await checkpoint()
            head, self._replay = self._replay, b""
            return head
        data = await self._read()
        response = self._response
        response += data
        blank = BLANK_LINE.search(response)
        end = blank.end() if blank else len(response)
        line = _STATUS_LINE.match(response) if blank or end > MAX_HEAD else None
        if (fault := _fault(response, end, line and line[1])) is not None:
            self.fail(fault)
            raise trio.BrokenResourceError
        if line:
            self._upgraded = True
            self._unread = bytes(response[end:])
            self._unfinished = bool(self._unread) or (
                self._tls is not None and self._tls.unfinished
            )
        return bytes(data[: len(data) - len(self._unread)])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the handshake, or whole control frames."""
        self.carrier.send_frames([memoryview(data)])
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
        """Return the bytes of one read of the socket; none where the peer has closed its end."""
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
        """Return the bytes of one read of the socket.

        There are none where the peer has closed its end; None says that more has to come first.
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

        Raises `BlockingIOError` where more has to come first.
        """
        tls, turns, most = self._tls, self._turns, self._most
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
            self.carrier.write([out])
        if not size and not tls.ended:
            raise BlockingIOError
        return size

    # ---- sending

    async def run_writer(self) -> None:
        """Write the bytes that the kernel did not take at once.

        Returns when the wire has ended.
        """
        await self.carrier.run()

    # ---- ending

    def fail(self, error: CotunError) -> None:
        """End the wire because of `error`; name its error to a peer that broke RFC 6455."""
        if isinstance(error, FrameError):
            self.say_goodbye(error.code, error.reason)
        self._end(error)

    def say_goodbye(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, if the kernel takes it at once, without waiting for an answer."""
        if self._upgraded:
            self.carrier.send_at_once(close_frame(code, reason, mask=self._client))

    async def part(self) -> None:
        """Send the rest and a close frame, and wait for the peer to close its end.

        A socket that is closed with bytes unread is reset, and the bytes that the peer has not got
        by then are lost: the ones that still come are read and dropped.  Only for when `run_writer`
        and the reader do not run any more.  Returns at once where the wire has ended; waits for
        ever for a peer that does nothing.
        """
        sock = self._sock
        with contextlib.suppress(OSError, trio.ClosedResourceError):
            await self.carrier.drain()
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
        """Close the socket.  The bytes that the kernel has taken are still sent."""
        self._end(ConnectionLost("the connection was closed"))
        if self._sock.fileno() >= 0:
            notify_closing(self._sock)
            self._sock.close()

    def _end(self, failure: CotunError) -> None:
        if self.failure is None:
            self.failure = failure
        self.ended.set()
        self.carrier.end()


def _fault(response: bytearray, end: int, status: bytes | None) -> CotunError | None:
    """Return what is wrong with a response, as far as it has come; its head is up to `end`.

    `status` is None where the head has not come yet.
    """
    too_long = f"an HTTP response head of over {MAX_HEAD} bytes" if end > MAX_HEAD else ""
    if status not in (None, b"101"):
        # Now, not behind a body that nobody reads: it may end late, badly or never.
        code, fields = int(status), read_fields(bytes(response[:end]))
        body = bytes(response[end : end + MAX_PAGE])
        return UpgradeRefused(
            code,
            "; ".join(filter(None, (advice(code, fields, body), too_long))),
            retry_after=retry_after(code, fields),
            fields=fields,
            body=body,
        )
    if too_long:
        return ProtocolError(too_long)
    if what_is_it := what_it_is(bytes(response)):
        return ProtocolError(f"Bad HTTP: {what_is_it}")
    return None
