"""The SSH connection: an engine, its channels and requests, and the carrier underneath.

Nothing here has a task of its own.  The carrier calls `Connection.start_batch`, `receive` and
`end_batch` for each of its reads, in one go; the bytes of channels are delivered before
`end_batch` returns, and all that they make us send goes out as one piece.  The half that sends is
`cotun_trio.ssh.sender`.

What arrived before the end counts: an answer that came in the same read as a DISCONNECT is
returned, not the error of the end, and the bytes of channels are delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.counts import meters
from cotun_trio.errors import AuthenticationFailed, ConnectionLost, ProtocolError
from cotun_trio.protocol.dialect import is_cotun_trio
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel_table import ChannelTable
from cotun_trio.ssh.engine import KeysAgreed, KeysRenewed, LoggedIn, LoginRequested
from cotun_trio.ssh.global_requests import GlobalRequests, RequestHandler
from cotun_trio.ssh.openings import OpenHandler
from cotun_trio.ssh.sender import Sender
from cotun_trio.ssh.window import RoundTrip

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.engine import Engine, Event
    from cotun_trio.ssh.openings import OutgoingOpen
    from cotun_trio.ssh.protocols import Carrier


class Handler(OpenHandler, RequestHandler, Protocol):
    """Takes the news of a connection: its session.

    It is called in the middle of a read: nothing may block.
    """

    def login_requested(self, user: str, password: str) -> None:
        """A client wants in: `Connection.answer_login` has to follow, and nothing else does."""

    def fail(self, failure: CotunError) -> None:
        """End the session."""


class Connection:
    """One SSH connection, for either role.

    `channel_type` is the type that our own channels are opened with; `max_channels` is the number
    of channels that there may be, those being opened included.
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
        self.failure: CotunError | None = None
        """Why the connection ended, once it has."""
        self.round_trip = RoundTrip()
        self.logged_in = trio.Event()
        """Set when the login is done."""
        self.budget = engine.packetizer.budget
        """The work that the peer may cause in a turn."""
        self.sender = Sender(engine, carrier, handler.fail)
        self._host_key = b""
        self._keys_agreed = trio.Event()
        self._packetizer = engine.packetizer
        self._handler = handler
        self._resumed = trio.lowlevel.ParkingLot()  # where the carrier waits for a verdict
        table = self._table = ChannelTable(
            self.sender,
            self.budget,
            self.round_trip,
            handler,
            peer_is_ours=lambda: self.peer_is_ours,
            kind=channel_type,
            limit=max_channels,
        )
        self.channels = table.channels
        """Our open channels by their number."""
        requests = self._requests = GlobalRequests(self.sender.send_control, handler, self.budget)
        self._handle: dict[int, Callable[[memoryview], None]] = {
            messages.GLOBAL_REQUEST: requests.on_request,
            messages.REQUEST_SUCCESS: requests.on_answer,
            messages.REQUEST_FAILURE: requests.on_answer,
            messages.CHANNEL_OPEN: table.on_open,
            messages.CHANNEL_OPEN_CONFIRMATION: table.on_open_confirmation,
            messages.CHANNEL_OPEN_FAILURE: table.on_open_failure,
            messages.CHANNEL_WINDOW_ADJUST: table.on_window_adjust,
            messages.CHANNEL_DATA: table.on_data,
            messages.CHANNEL_EXTENDED_DATA: table.on_extended_data,
            messages.CHANNEL_EOF: table.on_eof,
            messages.CHANNEL_CLOSE: table.on_close,
            messages.CHANNEL_REQUEST: table.on_request,
        }

    @property
    def peer_is_ours(self) -> bool:
        """Whether the peer is a cotun-trio, too."""
        return is_cotun_trio(self.engine.peer_version)

    # ---- the carrier's side

    def start(self) -> None:
        """Send our version line and KEXINIT."""
        self.sender.flush()

    def start_batch(self) -> None:
        """Begin a turn: the messages that it makes us send wait for `end_batch`."""
        self._packetizer.start_batch()
        self.sender.cork()

    def receive(self, data: memoryview) -> None:
        """Process bytes of the peer, valid until `end_batch`.  Raises `CotunError`.

        The part that the turn's budget does not allow is kept, see `unfinished`.
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
            self._table.deliver()  # what came before counts
            self.disconnect(messages.DISCONNECT_PROTOCOL_ERROR, str(error))
            raise
        except ConnectionLost:
            self.end_batch()  # the messages before the peer's DISCONNECT count
            raise

    def end_batch(self) -> None:
        """End a turn: deliver the bytes that it brought, and send the messages collected."""
        try:
            self._table.deliver()
        finally:
            self.sender.uncork()

    @property
    def unfinished(self) -> bool:
        """Whether a part of the bytes received has to wait for another turn.

        `receive` has to be given nothing until that is done.
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
        self.sender.on_lost()
        self._table.on_lost(failure)
        self._requests.on_lost()
        self._keys_agreed.set()
        self.logged_in.set()

    def disconnect(self, code: int, reason: str) -> None:
        """Send a DISCONNECT, once.  The peer may not read it any more."""
        self.sender.disconnect(code, reason)

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
            self.sender.on_keys_renewed()

    async def agree_keys(self) -> bytes:
        """Wait for the first key exchange; return the public key that the server proved to hold.

        Raises the error that ended the connection before.
        """
        await self._keys_agreed.wait()
        self._check_alive(unless=self._host_key)
        return self._host_key

    async def log_in(self, user: str, password: str) -> None:
        """Log in to the server.

        Raises `AuthenticationFailed`, or another error that ended the connection.
        """
        self._check_alive()
        self.engine.log_in(user, password)
        self.sender.flush()
        await self.logged_in.wait()
        self._check_alive(unless=self.engine.authenticated)

    def answer_login(self, *, accepted: bool) -> None:
        """Give the verdict on a login, and process the bytes that the client sent after it.

        Raises `AuthenticationFailed` where that was the last try, and as `receive` does.
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

    def _check_alive(self, *, unless: object = False) -> None:
        if self.failure is not None and not unless:
            raise self.failure

    # ---- global requests

    async def request(
        self, kind: str, payload: bytes = b"", granted: Callable[[bytes], None] | None = None
    ) -> tuple[bool, bytes]:
        """Make a global request; return whether it succeeded, and the raw payload of the answer.

        `granted` is called with that of a success before what the peer has sent behind it is read.
        Raises the error that ended the connection.  When cancelled, the answer is awaited silently:
        it must not be taken for that of the next request.
        """
        self._check_alive()
        pending = self._requests.make(kind, payload, granted)
        await pending.ended.wait()
        self._check_alive(unless=pending.answered)
        return pending.success, pending.payload

    async def ping(self) -> None:
        """Ask for a sign of life, and wait for it.  Raises the error that ended the connection."""
        since = trio.current_time()
        await self.request("ping")
        seconds = trio.current_time() - since
        self.round_trip.measured(seconds)
        meters().pings.add(seconds)

    # ---- channels

    async def open_channel(self, extra: bytes) -> Channel:
        """Open a channel to the target that `extra` names: `ask`, and `answer`."""
        return await self.answer(self.ask(extra))

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """Ask for a channel to the target that `extra` names; `answer` has to follow.

        `opened` is called with the channel in the very read that brings it.
        """
        return self._table.ask(extra, opened)

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """Wait for the peer's answer, and return the open channel.

        Raises `OpenRefused`, or the error that ended the connection.  When cancelled, the channel
        is closed as soon as the peer has opened it.
        """
        return await self._table.answer(pending)

    @property
    def has_rest(self) -> bool:
        """Whether a stream that has come to its end has bytes here that nobody has taken yet."""
        return self._table.has_rest

    async def wait_no_channels(self) -> None:
        """Wait until no channel is open: both ends have closed each of them."""
        await self._table.wait_empty()
