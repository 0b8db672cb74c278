"""Channels that one end asks for, until the other has answered (RFC 4254 section 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh.messages import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.channel import Channel

MAX_OPEN = 4096
"""Bytes of a CHANNEL_OPEN, which is kept until it is answered.  Its type has 64 at the most (RFC
4250 section 4.6.1), and nothing that can be dialled has a name of more than 255."""


class Answers(Protocol):
    """Sends the answers to the opens of a peer."""

    def confirm(self, opening: IncomingOpen) -> Channel:
        """See `IncomingOpen.confirm`."""

    def refuse(self, opening: IncomingOpen, code: int, reason: str) -> None:
        """See `IncomingOpen.refuse`."""


class OpenHandler(Protocol):
    """Decides about the opens of a peer."""

    def channel_requested(self, opening: IncomingOpen) -> None:
        """The peer wants to open a channel."""


@attrs.define(eq=False)
class IncomingOpen:
    """A peer's request to open a channel: answer it by `confirm` or by `refuse`, once."""

    _answers: Answers
    kind: bytes
    """The channel type."""
    extra: bytes
    """The type-specific data."""
    peer_number: int
    window: int
    """Bytes that we may send at first."""
    max_packet: int
    answered: bool = False
    _opened: Callable[[Channel], None] | None = None

    @classmethod
    def read(cls, answers: Answers, payload: memoryview) -> IncomingOpen:
        """Read a CHANNEL_OPEN.  Raises `ProtocolError`."""
        if len(payload) > MAX_OPEN:
            raise ProtocolError(f"a CHANNEL_OPEN of over {MAX_OPEN} bytes")
        reader = Reader(payload)
        kind = bytes(reader.string())
        number, window, max_packet = reader.u32(), reader.u32(), reader.u32()
        if not max_packet:
            raise ProtocolError("a channel with a maximum packet size of 0")
        return cls(answers, kind, bytes(reader.rest()), number, window, max_packet)

    def notify(self, opened: Callable[[Channel], None]) -> None:
        """Have `confirm` call `opened` with the channel."""
        self._opened = opened

    def confirm(self) -> Channel:
        """Open the channel."""
        self.answered = True
        channel = self._answers.confirm(self)
        if self._opened is not None:
            self._opened(channel)
        return channel

    def refuse(self, code: int, reason: str) -> None:
        """Refuse it, with a reason code of RFC 4254 section 5.1."""
        self.answered = True
        self._answers.refuse(self, code, reason)


@attrs.define(eq=False)
class OutgoingOpen:
    """Our own request to open a channel, until the peer has answered it."""

    channel: Channel
    opened: Callable[[Channel], None] | None = None
    """Called as soon as it is open: bytes that are sent then go out with no task being woken."""
    answered: trio.Event = attrs.field(factory=trio.Event)
    failure: CotunError | None = None
    """Why there is no channel."""
    abandoned: bool = False
    """Whether the task that asked has gone: the channel is closed as soon as it opens."""

    def abandon(self) -> None:
        """Close the channel as soon as it opens: nobody waits for it any more."""
        self.abandoned = True

    def succeed(self) -> None:
        """Pass the open channel on."""
        if self.abandoned:
            self.channel.close()
        elif self.opened is not None:
            self.opened(self.channel)
        self.answered.set()

    def fail(self, failure: CotunError) -> None:
        """Give up, because of `failure`."""
        self.failure = failure
        self.answered.set()
