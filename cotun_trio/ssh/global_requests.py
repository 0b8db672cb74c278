"""Global requests (RFC 4254 section 4) of both ends, until they are answered.

Answers carry no number: each belongs to the oldest request that has none yet.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.budget import REQUEST
from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.budget import Budget

MAX_UNANSWERED = 64
"""Global requests that a peer may have waiting for our answer; ours have one or two."""


class RequestHandler(Protocol):
    """Answers the global requests of a peer."""

    def request_received(self, request: GlobalRequest) -> None:
        """The peer made a global request and wants an answer."""


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

    granted: Callable[[bytes], None] | None = None
    """Called with the payload of a success, in the very read that brings it."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set by the answer, and by the end of the connection."""
    answered: bool = False
    success: bool = False
    payload: bytes = b""

    def take_answer(self, payload: memoryview) -> None:
        """Note the peer's answer, and wake the task that waits for it."""
        self.success = payload[0] == messages.REQUEST_SUCCESS
        self.payload = bytes(payload[1:])
        self.answered = True
        if self.success and self.granted is not None:
            self.granted(self.payload)
        self.ended.set()

    def give_up(self) -> None:
        """Wake the task that waits: there will be no answer."""
        self.ended.set()


class GlobalRequests:
    """The global requests of a connection that are not answered yet.

    `send` sends a message; `handler` is given the peer's requests, and `budget` their work.
    """

    def __init__(
        self, send: Callable[[bytes], None], handler: RequestHandler, budget: Budget
    ) -> None:
        self._send = send
        self._budget = budget
        self._handler = handler
        self._ours: deque[PendingRequest] = deque()
        self._peers: deque[GlobalRequest] = deque()

    def make(
        self, kind: str, payload: bytes, granted: Callable[[bytes], None] | None = None
    ) -> PendingRequest:
        """Send a request of ours; `granted` is called with the payload of a success."""
        pending = PendingRequest(granted)
        self._ours.append(pending)
        self._send(messages.global_request(kind.encode(), payload, want_reply=True))
        return pending

    def on_answer(self, payload: memoryview) -> None:
        """Take an answer of the peer.  Raises `ProtocolError` where nothing was asked."""
        if not self._ours:
            raise ProtocolError("an answer to a request that nobody made")
        self._ours.popleft().take_answer(payload)

    def on_request(self, payload: memoryview) -> None:
        """Take a request of the peer.  Raises `ProtocolError` where too many wait already."""
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
        self._budget.note_waste(REQUEST)

    def send_answers(self) -> None:
        """Send the answers that are next in turn; later ones wait for an earlier one."""
        peers = self._peers
        while peers and peers[0].answer is not None:
            self._send(peers[0].answer)
            peers.popleft()

    def on_lost(self) -> None:
        """Wake the tasks that wait for an answer: the connection is gone."""
        for pending in self._ours:
            pending.give_up()
