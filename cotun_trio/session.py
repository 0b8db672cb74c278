"""One session: a connection between a client and a server with all its forwards, for either role.

A session is a nursery.  In it run the reader (trio-websocket's, which pumps the network into the
SSH connection), the writer, the keepalive, and one child per forwarded connection.  Its cancel
scope is the only way that it ends: the peer is lost, a rule is broken, a ping goes unanswered, it
has been drained, or it is cancelled from outside.  The first of them is the session's `failure`,
and everything in the nursery is gone when `Session.run` returns.

To drain a session is to let it end by itself: open connections go on, and when the last of them has
ended, so does the session.  A peer of our own kind is told by a global request, and from then on
opens nothing more in it: a client looks for another session, a server stops listening for this one.
A Go peer cannot be told; channels that it still opens are carried like the others, since to refuse
them would lose them for certain.

The roles differ in how a session is established, and in the requests that the peer may send: see
`cotun_trio.client.session` and `cotun_trio.server.session`.
"""

from __future__ import annotations

import abc
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.escape import escape
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.forwarder import Forwarder
from cotun_trio.net.names import share_of
from cotun_trio.ssh import messages
from cotun_trio.ssh.connection import Connection
from cotun_trio.ssh.keepalive import keep_alive

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Hashable

    from cotun_trio.forwards.forwarder import Rights
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.quota import Quota
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.forwards.visitor import Visitor
    from cotun_trio.logs import Context
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.engine import Engine
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.openings import IncomingOpen
    from cotun_trio.websocket.wire_protocol import WireProtocol


DRAIN = "drain@cotun-trio"
"""The global request that says: open nothing more here, the session is about to end."""
CHANGE = "config@cotun-trio"
"""The global request for other remotes than those of the config request, with the same payload and
the same answer.  All that is the same goes on."""
NO_LIMIT = 2**32
"""Of channels: there are no more numbers."""
PARTING = 1.0
"""Seconds for the peer to take the last bytes, the reason of the end included; and for sockets here
to take those that came before the end."""


@attrs.frozen
class About:
    """The peer of an open session, and what it is open for."""

    peer: str
    """The address that a client comes from, or the URL of the server."""
    user: str
    """The user that has logged in; empty where there are no users."""
    version: str
    """The version that the peer gives, as it came."""
    remotes: tuple[str, ...]
    """Each in full."""
    seconds: float
    """For how long it has been open."""


class Session(abc.ABC):
    """A session on `wire`, which it owns, with a peer that has these `rights`.

    It carries up to `max_connections` (0: no limit), and all sessions together what `quota` allows.
    """

    def __init__(
        self,
        wire: WireProtocol,
        engine: Engine,
        dialect: Dialect,
        rights: Rights,
        *,
        number: int,
        keepalive: float,
        timings: Timings,
        max_connections: int,
        quota: Quota,
        log: Context,
        traffic_of: Callable[[Target | Remote], Traffic | None] | None = None,
    ) -> None:
        self.connection = Connection(
            engine,
            wire.carrier,
            self,
            channel_type=dialect.channel_type,
            max_channels=max_connections or NO_LIMIT,
        )
        self.failure: CotunError | None = None
        """Why the session ended, once it has."""
        self.number = number
        """Its number in this process, as in the log."""
        self.flows = Flows(quota, traffic_of, limit=max_connections)
        self.log = log
        self.rights = rights
        self._forwarder = Forwarder(self, rights, timings)
        self.timings = timings
        self.wire = wire
        self._keepalive = keepalive
        self._nursery: trio.Nursery | None = None
        self._speaks_ssh = False
        self._farewell = "closing"  # the reason that the peer is given
        self._drain_asked = trio.Event()
        self.draining = False
        """Whether nothing should be opened any more."""

    # ---- methods of the roles

    @abc.abstractmethod
    async def establish(self, nursery: trio.Nursery) -> None:
        """Get to the point where forwards are allowed.  Raises `CotunError`."""

    @property
    @abc.abstractmethod
    def was_open(self) -> bool:
        """Whether the remotes have ever been accepted."""

    @property
    @abc.abstractmethod
    def about(self) -> About:
        """The peer, and what it is open for; only once it `was_open`."""

    @abc.abstractmethod
    async def verify_login(self, user: str, password: str) -> bool:
        """Return whether a client may come in.

        Raises `CotunError` where the password is right, and the session has to end all the same.
        """

    @abc.abstractmethod
    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""

    @property
    @abc.abstractmethod
    def peer_identity(self) -> Hashable:
        """The peer, once it is known: all sessions of the same peer share some limits."""

    @abc.abstractmethod
    def leave(self, reason: str) -> None:
        """Take no more connections here, because of `reason`.  Can be called again."""

    @abc.abstractmethod
    def role_request(self, request: GlobalRequest) -> None:
        """Answer a global request that only one of the roles knows."""

    # ---- life

    async def run(self, *, deadline: float) -> None:
        """Live until the session ends, which always raises: `failure`, or `trio.Cancelled`.

        `deadline`, a time of Trio's clock, is that of `establish`.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.wire.run_writer)
                nursery.start_soon(self._watch_wire)
                try:
                    with trio.fail_at(deadline):
                        await self.establish(nursery)
                    interval = self._keepalive
                    timeout = self.timings.ping_timeout or interval
                    nursery.start_soon(
                        keep_alive, self.connection, interval, timeout, self.wire.fail
                    )
                    await self._drain_asked.wait()
                    await self._drain()
                    self.fail(ConnectionLost(self._farewell))
                except trio.TooSlowError:
                    self.fail(ConnectionLost("the login took too long"))
                except CotunError as error:
                    self.fail(error)
        finally:
            self._nursery = None
            self.leave(str(self.failure or self._farewell))
            if self._speaks_ssh:  # or the peer would get frames in place of its HTTP
                self.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, self._farewell)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + PARTING):
                    await self.wire.part()
            self.connection.on_lost(self.failure or ConnectionLost("the session was closed"))
            self.wire.close()
        assert self.failure is not None
        raise self.failure

    def fail(self, failure: CotunError) -> None:
        """End the session because of `failure`, unless it is ending already."""
        if self.failure is None:
            self.failure = failure
        self.leave(str(failure))
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def kick(self, reason: str) -> None:
        """End the session at once; the peer is told why."""
        self.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, reason)
        self.fail(ConnectionLost(reason))

    async def _watch_wire(self) -> None:
        await self.wire.ended.wait()
        failure = self.wire.failure or ConnectionLost(self._farewell)
        # The tasks that the last read woke run first: an answer in it counts more than the end.
        await trio.lowlevel.checkpoint()
        # Streams that have ended are still to be written to sockets here; all others break off.
        if self.draining or self.connection.has_rest or self.flows.lingering:
            self.failure = self.failure or failure
            self.leave(str(failure))
            self.connection.on_lost(failure)
            with trio.move_on_after(self.timings.shutdown_grace if self.draining else PARTING):
                await self.flows.wait_idle()
        self.fail(failure)

    # ---- draining

    def drain(self, reason: str) -> None:
        """End the session because of `reason` when all that is open has ended.

        One that is not established yet is so at once when it is.
        """
        if not self._drain_asked.is_set():
            self._farewell = reason
            self.draining = True
            self.leave(reason)
            self._drain_asked.set()

    async def _drain(self) -> None:
        """Wait until there is nothing open.  Raises `CotunError`."""
        self.flows.cut(lambda flow: not flow.endless)
        if self.connection.peer_is_ours:
            await self.connection.request(DRAIN, self._farewell.encode())
        await self.wait_quiet()

    async def wait_quiet(self) -> None:
        """Wait until nothing is open."""
        while not self.quiet:
            await self.flows.wait_idle()
            await self.connection.wait_no_channels()

    @property
    def quiet(self) -> bool:
        """Whether nothing is open, and nothing is being opened."""
        return self.flows.idle and not self.connection.channels

    def peer_drains(self, reason: str) -> None:
        """Open nothing more: the peer is going to end the session.  Called once."""
        self.log.debug("the peer drains the session: %s", reason)
        self.draining = True
        self.leave(reason)
        self.flows.cut(lambda flow: not flow.endless)

    def start_ssh(self) -> None:
        """Begin to speak SSH on the wire."""
        self._speaks_ssh = True
        self.wire.attach(self.connection)
        self.connection.start()

    def trust_peer(self) -> None:
        """Raise the limits: the peer has logged in."""
        self.wire.trust_peer(is_go=not self.connection.peer_is_ours)

    # ---- forwards

    def forward(self, sock: socket.socket, visitor: Visitor, remote: Remote) -> None:
        """Carry a connection that was accepted here to the other side.  Owns `sock` from now on."""
        self._forwarder.forward(sock, visitor, remote)

    @cached_property
    def share(self) -> Share:
        """The share of name look-ups for the peer, once that is known."""
        return share_of(self.peer_identity)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run `function` as a child of the session."""
        assert self._nursery is not None
        self._nursery.start_soon(function, *args)

    # ---- calls of the connection (its Handler)

    def login_requested(self, user: str, password: str) -> None:
        """Judge a login in a task of its own: it may take time."""
        self.start_soon(self._judge_login, user, password)

    async def _judge_login(self, user: str, password: str) -> None:
        try:
            accepted = await self.verify_login(user, password)
            if accepted:
                self.log = self.log.within(user=escape(user) or "-")
                self.trust_peer()
            self.connection.answer_login(accepted=accepted)
        except CotunError as error:
            self.fail(error)

    def channel_requested(self, opening: IncomingOpen) -> None:
        """Dial the target of a channel, or refuse it."""
        self._forwarder.channel_requested(opening)

    def request_received(self, request: GlobalRequest) -> None:
        """Answer a global request."""
        if request.kind == "ping":
            request.reply(b"pong", success=True)
        elif request.kind == DRAIN and self.was_open and not self.draining:
            self.peer_drains(escape(request.payload))
            request.reply(success=True)
        else:
            self.role_request(request)

    def refuse_request(self, request: GlobalRequest) -> None:
        """Answer a request of an unknown kind."""
        self.log.debug("unknown request '%s'", escape(request.kind))
        request.reply(success=False)
