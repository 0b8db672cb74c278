"""The SSH connection: an engine, its channels and requests, and the carrier underneath.

Nothing here has a task of its own.  The carrier calls `start_batch`, `receive` and `end_batch` for
each of its reads, in one go; what that yields is delivered before `end_batch` returns, and all that
it gave us to say goes out as one piece.  Whoever produces data sends it on the carrier themselves
(`send_data`), waiting beforehand until the carrier has no backlog; control messages may always be
sent, because their number is bounded by what the peer sent.

While keys are exchanged, the connection protocol has to be silent (RFC 4253 section 7.1): data
stays where it is, since `can_send` is false, and control messages are kept in order here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import OPEN, PACKET, REFUSAL, REQUEST, TINY
from cotun_trio.errors import AuthenticationFailed, ConnectionLost, OpenRefused, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.dialect import is_cotun_trio
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel import Channel
from cotun_trio.ssh.engine import KeysAgreed, KeysRenewed, LoggedIn, LoginRequested
from cotun_trio.ssh.global_requests import GlobalRequests
from cotun_trio.ssh.messages import Reader
from cotun_trio.ssh.openings import IncomingOpen, OutgoingOpen
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import WINDOW, Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.engine import Engine, Event
    from cotun_trio.ssh.protocols import Carrier, Handler

MAX_HELD_BYTES = 1024 * 1024
"""Bytes of control messages that may wait for the end of a key exchange."""

DATA_HEAD = struct.Struct(">BII")
"""Message type, channel and length of the data."""


class Connection:
    """One SSH connection, for either role.

    `channel_type` is the type that our own channels are opened with; `max_channels` is how many
    there may be, those being opened included.
    """

    def __init__(
        self,
        engine: Engine,
        carrier: Carrier,
        handler: Handler,
        *,
        channel_type: bytes,
        max_channels: int,
    ) -> None:
        self.engine = engine
        self.max_channels = max_channels
        self.channels: dict[int, Channel] = {}
        """Our open channels by their number."""
        self.failure: CotunError | None = None
        """Why the connection ended, once it has."""
        self.link = Link()
        self.batch = 0
        """The number of the present or the last turn; what a turn makes us do has limits."""
        self.small_sends = 0  # of channels, so small that somebody may be waiting for them
        self._host_key = b""
        self._keys_agreed = trio.Event()
        self.logged_in = trio.Event()
        """Set when the login is done."""
        self._packetizer = engine.packetizer
        self.budget = engine.packetizer.budget
        """What the peer may have us do in a turn."""
        self.data_slots = engine.packetizer.data_slots
        """See `Packetizer.data_slots`."""
        self.carrier = carrier
        self._handler = handler
        self._channel_type = channel_type
        self._opens: dict[int, OutgoingOpen] = {}
        self._openings = 0  # of the peer's, not answered yet
        self._next_number = 0
        self._requests = GlobalRequests(self.send_control, handler, self.budget)
        self._touched: list[Channel] = []
        self._corked = self._disconnected = False
        self._held: list[bytes] = []  # control messages that wait for the end of a key exchange
        self._held_size = 0
        self._no_channels = trio.lowlevel.ParkingLot()
        self._keys = trio.lowlevel.ParkingLot()  # who waits for the end of a key exchange
        self._resumed = trio.lowlevel.ParkingLot()  # where the carrier waits for a verdict
        self._handle = {
            messages.GLOBAL_REQUEST: self._requests.on_request,
            messages.REQUEST_SUCCESS: self._requests.on_answer,
            messages.REQUEST_FAILURE: self._requests.on_answer,
            messages.CHANNEL_OPEN: self._on_open,
            messages.CHANNEL_OPEN_CONFIRMATION: self._on_open_confirmation,
            messages.CHANNEL_OPEN_FAILURE: self._on_open_failure,
            messages.CHANNEL_WINDOW_ADJUST: self._on_window_adjust,
            messages.CHANNEL_DATA: self._on_data,
            messages.CHANNEL_EXTENDED_DATA: self._on_extended_data,
            messages.CHANNEL_EOF: self._on_eof,
            messages.CHANNEL_CLOSE: self._on_close,
            messages.CHANNEL_REQUEST: self._on_channel_request,
        }

    @property
    def peer_is_ours(self) -> bool:
        """Whether the peer is a cotun-trio, too."""
        return is_cotun_trio(self.engine.peer_version)

    # ---- the carrier's side

    def start(self) -> None:
        """Send our version line and KEXINIT."""
        self._flush()

    def start_batch(self) -> None:
        """Begin a turn: what it makes us say waits for `end_batch`."""
        self._packetizer.start_batch()
        self._corked = True
        self.batch += 1

    def receive(self, data: memoryview) -> None:
        """Process bytes of the peer's; valid until `end_batch`.  Raises `CotunError`.

        What the turn's budget does not allow is kept, see `unfinished`.
        """
        handle = self._handle
        try:
            for event in self.engine.receive(data):
                if event.__class__ is memoryview:
                    method = handle.get(event[0])
                    if method is None:
                        self.engine.answer_unimplemented()
                    else:
                        method(event)
                else:
                    self._on_event(event)  # type: ignore[arg-type]
        except ProtocolError as error:
            self.disconnect(messages.DISCONNECT_PROTOCOL_ERROR, str(error))
            raise
        except ConnectionLost:
            self.end_batch()  # what came before the peer's DISCONNECT counts
            raise

    def end_batch(self) -> None:
        """End a read: deliver what it brought, and send what that makes us say."""
        try:
            touched = self._touched
            if touched:
                self._touched = []
                for channel in touched:
                    channel.deliver()
        finally:
            self._corked = False
        self._after_traffic()

    @property
    def unfinished(self) -> bool:
        """Whether some of what was received has to wait for another turn: `receive` nothing then.

        Nothing else is to be received before that is done.
        """
        return self._packetizer.unfinished

    @property
    def paused(self) -> bool:
        """Whether the carrier has to stop reading: a login waits for its verdict."""
        return self._packetizer.held

    async def wait_resumed(self) -> None:
        """Wait until reading may go on."""
        while self._packetizer.held:
            await self._resumed.park()

    def on_lost(self, failure: CotunError) -> None:
        """End everything: the carrier is gone, or has to go.  Only the first failure counts."""
        if self.failure is not None:
            return
        self.failure = failure
        self.engine.may_send = False
        for channel in list(self.channels.values()):
            channel.on_lost()
        self.channels.clear()
        self._no_channels.unpark_all()
        for pending in self._opens.values():
            pending.fail(failure)
        self._requests.on_lost()
        self._keys_agreed.set()
        self.logged_in.set()
        self._keys.unpark_all()

    # ---- sending

    @property
    def can_send(self) -> bool:
        """Whether data may be sent now: no key exchange is under way, and the carrier is idle."""
        return self.engine.may_send and not self.carrier.busy

    async def wait_can_send(self, *, urgent: bool) -> None:
        """Wait until `can_send`; who is `urgent` goes first.  Raises `trio.BrokenResourceError`."""
        while not self.can_send:
            if self.failure is not None:
                raise trio.BrokenResourceError("the connection is lost")
            if self.engine.may_send:
                await self.carrier.wait_idle(urgent=urgent)
            else:
                await self._keys.park()

    def send_data(self, recipient: int, count: int) -> None:
        """Send the first `count` bytes of `data_slots` to the peer's channel `recipient`."""
        packetizer = self._packetizer
        if packetizer.out:
            self._flush()
        self.carrier.send(packetizer.seal_data(recipient, count))
        if packetizer.need_rekey():
            self._after_traffic()

    def send_control(self, *messages: bytes) -> None:
        """Send other messages of the connection protocol, as soon as that is allowed."""
        if self.failure is not None:
            return
        if self.engine.may_send:
            for message in messages:
                self._packetizer.send_payload(message)
            if not self._corked:
                self._after_traffic()
            return
        self._held += messages
        self._held_size += sum(map(len, messages))
        if self._held_size > MAX_HELD_BYTES:
            # Not raised: whoever sends may be a forward, which has nothing to do with it.
            self._handler.fail(ProtocolError("a key exchange that does not come to its end"))

    def disconnect(self, code: int, reason: str) -> None:
        """Send a DISCONNECT, for what it is worth: the peer may not read it any more."""
        if self.failure is None and not self._disconnected:
            self._disconnected = True
            self._packetizer.send_payload(messages.disconnect(code, reason))
            self._flush()

    def _after_traffic(self) -> None:
        packetizer = self._packetizer
        if packetizer.need_rekey():
            self.engine.start_rekey()
        if packetizer.out:
            self._flush()

    def _flush(self) -> None:
        out = self._packetizer.out
        if out:
            self.carrier.send(out)
            out.clear()

    # ---- login

    def _on_event(self, event: Event) -> None:
        if isinstance(event, KeysAgreed):
            self._host_key = event.host_key
            self._keys_agreed.set()
        elif isinstance(event, LoginRequested):
            self._handler.login_requested(event.user, event.password)
        elif isinstance(event, LoggedIn):
            self.logged_in.set()
        else:
            assert isinstance(event, KeysRenewed)
            held, self._held, self._held_size = self._held, [], 0
            for message in held:
                self._packetizer.send_payload(message)
            self._keys.unpark_all()

    async def agree_keys(self) -> bytes:
        """Wait for the first key exchange; return the public key that the server proved to hold.

        Raises what ended the connection before.
        """
        await self._keys_agreed.wait()
        self._check_alive()
        return self._host_key

    async def log_in(self, user: str, password: str) -> None:
        """Log in to the server.

        Raises `AuthenticationFailed` or whatever else ended the connection.
        """
        self.engine.log_in(user, password)
        self._flush()
        await self.logged_in.wait()
        self._check_alive()

    def answer_login(self, *, accepted: bool) -> None:
        """Give the verdict on a login, and process what the client sent after it.

        Raises `AuthenticationFailed` where that was the last try, and what `receive` raises.
        """
        if self.failure is not None:
            return
        try:
            self.engine.answer_login(accepted=accepted)
        except AuthenticationFailed as error:
            self.disconnect(messages.DISCONNECT_NO_MORE_AUTH_METHODS, str(error))
            raise
        if accepted:
            self.logged_in.set()
        self.start_batch()
        try:
            self.receive(memoryview(b""))
        finally:
            self.end_batch()
        self._resumed.unpark_all()

    def _check_alive(self) -> None:
        if self.failure is not None:
            raise self.failure

    # ---- global requests

    async def request(self, kind: str, payload: bytes = b"") -> tuple[bool, bytes]:
        """Make a global request; return whether it succeeded, and the raw payload of the answer.

        When cancelled, the answer is awaited silently: it must not be taken for the next one's.
        """
        self._check_alive()
        pending = self._requests.make(kind, payload)
        await pending.answered.wait()
        self._check_alive()
        return pending.success, pending.payload

    async def ping(self) -> None:
        """Ask for a sign of life, and wait until it comes.  Raises what ended the connection."""
        since = trio.current_time()
        await self.request("ping")
        self.link.measured(trio.current_time() - since)

    # ---- channels

    async def open_channel(self, extra: bytes) -> Channel:
        """Open a channel to what `extra` names: `ask`, and `answer`."""
        return await self.answer(self.ask(extra))

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """Ask for a channel to what `extra` names; `answer` has to follow.

        `opened` is called with the channel in the very read that brings it.
        """
        pending = OutgoingOpen(Channel(self, self._new_number()), opened)
        if self.failure is not None:
            pending.fail(self.failure)
        elif self._too_many_channels():
            pending.fail(OpenRefused(messages.OPEN_RESOURCE_SHORTAGE, "too many channels"))
        else:
            number = pending.channel.number
            self._opens[number] = pending
            self.send_control(
                messages.channel_open(self._channel_type, number, WINDOW, MAX_PACKET, extra)
            )
        return pending

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """Wait for the peer's answer, and return the open channel.

        Raises `OpenRefused`, or whatever ended the connection.  When cancelled, the channel is
        closed as soon as the peer has opened it.
        """
        channel = pending.channel
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            pending.abandoned = True
            if not channel.lost and channel.number in self.channels:
                channel.close()  # it was opened while we were being cancelled
            raise
        if pending.failure is not None:
            raise pending.failure
        self._check_alive()
        return channel

    async def wait_no_channels(self) -> None:
        """Wait until no channel is open, which the peer knows of each."""
        while self.channels:
            await self._no_channels.park()

    def _too_many_channels(self) -> bool:
        return len(self.channels) + len(self._opens) + self._openings >= self.max_channels

    def _new_number(self) -> int:
        while self._next_number in self.channels or self._next_number in self._opens:
            self._next_number = (self._next_number + 1) & 0xFFFFFFFF
        number = self._next_number
        self._next_number = (number + 1) & 0xFFFFFFFF
        return number

    def _pending_open(self, number: int) -> OutgoingOpen:
        # It stays until its whole answer is read: where that is wrong, `on_lost` has to find it.
        if number not in self._opens:
            raise ProtocolError("an answer to the opening of a channel that nobody opened")
        return self._opens[number]

    def _on_open_confirmation(self, payload: memoryview) -> None:
        reader = Reader(payload)
        pending = self._pending_open(reader.u32())
        channel = pending.channel
        channel.set_peer(reader.u32(), reader.u32(), reader.u32())
        del self._opens[channel.number]
        self.channels[channel.number] = channel
        pending.succeed()

    def _on_open_failure(self, payload: memoryview) -> None:
        reader = Reader(payload)
        pending = self._pending_open(reader.u32())
        code, reason = reader.u32(), bytes(reader.string())
        reader.string()  # the language of the reason
        reader.end()
        del self._opens[pending.channel.number]
        pending.fail(OpenRefused(code, escape(reason)))

    def _on_open(self, payload: memoryview) -> None:
        self.budget.be_busy(OPEN)
        opening = IncomingOpen.read(self, payload)
        too_many = self._too_many_channels()
        self._openings += 1
        if too_many:
            opening.refuse(messages.OPEN_RESOURCE_SHORTAGE, "too many channels")
        else:
            self._handler.channel_requested(opening)

    def confirm(self, opening: IncomingOpen) -> Channel:
        """See `IncomingOpen.confirm`."""
        self._openings -= 1
        channel = Channel(self, self._new_number())
        channel.set_peer(opening.peer_number, opening.window, opening.max_packet)
        if self.failure is not None:
            channel.on_lost()
            return channel
        self.channels[channel.number] = channel
        self.send_control(
            messages.open_confirmation(opening.peer_number, channel.number, WINDOW, MAX_PACKET)
        )
        return channel

    def refuse(self, opening: IncomingOpen, code: int, reason: str) -> None:
        """See `IncomingOpen.refuse`."""
        self._openings -= 1
        self.budget.wasted += REFUSAL
        self.send_control(messages.open_failure(opening.peer_number, code, reason))

    # ---- messages of a channel

    def _channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise ProtocolError(f"a message for channel {number}, which is not open")
        return channel

    def _touch(self, channel: Channel) -> None:
        if not channel.pending:
            channel.pending = True
            self._touched.append(channel)

    def _on_data(self, payload: memoryview) -> None:
        # Written out rather than with a Reader: this runs for every 32 KiB.
        if len(payload) < DATA_HEAD.size:
            raise ProtocolError("a channel data message that is cut short")
        _, number, size = DATA_HEAD.unpack_from(payload)
        if len(payload) - DATA_HEAD.size != size:
            raise ProtocolError("a channel data message of the wrong length")
        if size < TINY:
            self._note_tiny(size)
        channel = self.channels.get(number) or self._channel(number)
        channel.on_data(payload[DATA_HEAD.size :])
        self._touch(channel)

    def _note_tiny(self, size: int) -> None:
        # Nothing at all is waste.  A few bytes are a person who types, or a program that sends
        # many short commands.
        if size:
            self.budget.busy += PACKET
        else:
            self.budget.wasted += PACKET

    def _on_extended_data(self, payload: memoryview) -> None:
        self.budget.wasted += PACKET
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.u32()
        channel.on_extended_data(len(reader.string()))
        reader.end()

    def _on_window_adjust(self, payload: memoryview) -> None:
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        count = reader.u32()
        if count < TINY:
            self._note_tiny(count)
        channel.on_window_adjust(count)
        reader.end()

    def _on_eof(self, payload: memoryview) -> None:
        channel = self._only_channel(payload)
        channel.eof_received = True
        self._touch(channel)

    def _on_close(self, payload: memoryview) -> None:
        channel = self._only_channel(payload)
        channel.on_close(broken=not channel.eof_received and self.peer_is_ours)
        del self.channels[channel.number]
        if not self.channels:
            self._no_channels.unpark_all()
        self._touch(channel)

    def _only_channel(self, payload: memoryview) -> Channel:
        """Return the channel of a message that has no other field."""
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.end()
        return channel

    def _on_channel_request(self, payload: memoryview) -> None:
        """Refuse: a forwarded stream has nothing to request (no shell, no terminal)."""
        self.budget.waste(REQUEST)
        reader = Reader(payload)
        channel = self._channel(reader.u32())
        reader.string()
        if reader.boolean() and not channel.close_sent:
            self.send_control(messages.about_channel(messages.CHANNEL_FAILURE, channel.peer_number))
