"""Global requests (RFC 4254 section 4): what the two ends ask of each other beside channels.

Answers carry no number: each belongs to the oldest request that has none yet.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.budget import REQUEST
from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.budget import Budget
    from cotun_trio.ssh.protocols import Handler

MAX_UNANSWERED = 64
"""Global requests that a peer may have waiting for our answer; ours have one or two."""


@attrs.define(eq=False)
class GlobalRequest:
    """A peer's global request that wants an answer: give it by `reply`, once."""

    _requests: GlobalRequests
    kind: str
    payload: bytes
    answer: bytes | None = None

    def reply(self, payload: bytes = b"", *, success: bool) -> None:
        """Answer with success or failure, and a raw payload."""
        kind = messages.REQUEST_SUCCESS if success else messages.REQUEST_FAILURE
        self.answer = bytes((kind,)) + payload
        if not success or self.kind == "ping":
            self._requests.note_waste()
        self._requests.send_answers()


@attrs.define(eq=False)
class PendingRequest:
    """Our own global request, until the peer has answered it."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    success: bool = False
    payload: bytes = b""


class GlobalRequests:
    """Those of both ends of a connection that are not answered yet.

    `send` sends a message, `handler` is told of what the peer asks, and `budget` of the work.
    """

    def __init__(self, send: Callable[[bytes], None], handler: Handler, budget: Budget) -> None:
        self._send = send
        self._budget = budget
        self._handler = handler
        self._ours: deque[PendingRequest] = deque()
        self._peers: deque[GlobalRequest] = deque()

    def make(self, kind: str, payload: bytes) -> PendingRequest:
        """Send a request of ours."""
        pending = PendingRequest()
        self._ours.append(pending)
        self._send(messages.global_request(kind.encode(), payload, want_reply=True))
        return pending

    def on_answer(self, payload: memoryview) -> None:
        """Take an answer of the peer's.  Raises `ProtocolError` where nothing was asked."""
        if not self._ours:
            raise ProtocolError("an answer to a request that nobody made")
        pending = self._ours.popleft()
        pending.success = payload[0] == messages.REQUEST_SUCCESS
        pending.payload = bytes(payload[1:])
        pending.answered.set()

    def on_request(self, payload: memoryview) -> None:
        """Take a request of the peer's.  Raises `ProtocolError` where too many wait already."""
        self._budget.be_busy(REQUEST)
        reader = Reader(payload)
        kind, want_reply, rest = reader.text(), reader.boolean(), reader.rest()
        if not want_reply:
            self.note_waste()
            return
        if len(self._peers) >= MAX_UNANSWERED:
            raise ProtocolError(f"more than {MAX_UNANSWERED} global requests without an answer")
        request = GlobalRequest(self, kind, bytes(rest))
        self._peers.append(request)
        self._handler.request_received(request)

    def note_waste(self) -> None:
        """Note a request that was of no use, or a ping: a good peer has few of either."""
        self._budget.wasted += REQUEST

    def send_answers(self) -> None:
        """Send the answers that are next in turn, however long each took."""
        peers = self._peers
        while peers and peers[0].answer is not None:
            self._send(peers[0].answer)
            peers.popleft()

    def on_lost(self) -> None:
        """Wake whoever waits for an answer: the connection is gone."""
        for pending in self._ours:
            pending.answered.set()
