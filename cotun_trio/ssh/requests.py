"""What one end asks of the other: a channel, or a global request (RFC 4254 sections 4 and 5.1)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.errors import OpenRefused
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.connection import Connection

MAX_OPEN = 4096
"""Bytes of a CHANNEL_OPEN, which is kept until it is answered.  Its type has 64 at the most (RFC
4250 section 4.6.1), and nothing that can be dialled has a name of more than 255."""
MAX_UNANSWERED = 64
"""Global requests that a peer may have waiting for our answer; ours have one or two."""


@attrs.define(eq=False)
class Opening:
    """A peer's wish to open a channel: answer it by `confirm` or by `refuse`, once."""

    _connection: Connection
    kind: bytes
    """The channel type."""
    extra: bytes
    """The type-specific data."""
    peer_number: int
    window: int
    """Bytes that we may send at first."""
    max_packet: int
    answered: bool = False
    opened: Callable[[Channel], None] | None = None
    """To be told of the channel, once there is one."""

    @classmethod
    def read(cls, connection: Connection, payload: memoryview) -> Opening:
        """Read a CHANNEL_OPEN."""
        if len(payload) > MAX_OPEN:
            raise ProtocolError(f"a wish for a channel of over {MAX_OPEN} bytes")
        reader = Reader(payload)
        kind = bytes(reader.string())
        number, window, max_packet = reader.u32(), reader.u32(), reader.u32()
        if not max_packet:
            raise ProtocolError("a channel with a maximum packet size of 0")
        return cls(connection, kind, bytes(reader.rest()), number, window, max_packet)

    def confirm(self) -> Channel:
        """Open the channel."""
        self.answered = True
        channel = self._connection.confirm(self)
        if self.opened is not None:
            self.opened(channel)
        return channel

    def refuse(self, code: int, reason: str) -> None:
        """Say no, with a reason code of RFC 4254 section 5.1."""
        self.answered = True
        self._connection.refuse(self, code, reason)


@attrs.define(eq=False)
class PendingOpen:
    """Our own wish to open a channel, until the peer has answered it."""

    channel: Channel
    answered: trio.Event = attrs.field(factory=trio.Event)
    refusal: OpenRefused | None = None
    abandoned: bool = False
    """Whether whoever asked has gone: the channel is closed as soon as it opens."""


@attrs.define(eq=False)
class GlobalRequest:
    """A peer's global request that wants an answer: give it by `reply`, once."""

    _queue: RequestQueue
    kind: str
    payload: bytes
    answer: bytes | None = None

    def reply(self, payload: bytes = b"", *, success: bool) -> None:
        """Answer with success or failure, and a raw payload."""
        kind = messages.REQUEST_SUCCESS if success else messages.REQUEST_FAILURE
        self.answer = bytes((kind,)) + payload
        self._queue.flush()


class RequestQueue:
    """Answers a peer's global requests in the order in which they came, as RFC 4254 section 4
    demands, however long each takes."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._unanswered: deque[GlobalRequest] = deque()

    def add(self, kind: str, payload: bytes) -> GlobalRequest:
        """Return a new request.  Raises `ProtocolError` where too many wait already."""
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise ProtocolError(f"more than {MAX_UNANSWERED} global requests without an answer")
        request = GlobalRequest(self, kind, payload)
        self._unanswered.append(request)
        return request

    def flush(self) -> None:
        """Send the answers that are next in turn."""
        unanswered = self._unanswered
        while unanswered and unanswered[0].answer is not None:
            self._send(unanswered[0].answer)
            unanswered.popleft()


@attrs.define(eq=False)
class PendingRequest:
    """Our own global request, until the peer has answered it."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    success: bool = False
    payload: bytes = b""
