"""One session: a connection between a client and a server with all its forwards, for either role.

A session is a nursery.  In it run the reader (trio-websocket's, which pumps the network into the
SSH connection), the writer, the keepalive, and one child per forwarded connection.  Its cancel
scope is the only way that it ends: the peer is lost, a rule is broken, a ping goes unanswered, it
has been drained, or somebody outside cancels.  Whichever comes first is the session's `failure`,
and everything in the nursery is gone when `Session.run` returns.

To drain a session is to let it end by itself: what is open goes on, and when the last of it has
ended, so does the session.  A peer of our own kind is told by a global request, and from then on
opens nothing more in it: a client looks for another session, a server stops listening for this one.
A Go peer cannot be told; what it still opens is carried like the rest, since to refuse it would
lose it for certain.

What differs between the roles is in `cotun_trio.client.session` and `cotun_trio.server.session`:
how a session is established, and what the peer may ask for.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import trio

from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.carry import carry_in, carry_out
from cotun_trio.forwards.running import Counted, Forwards
from cotun_trio.net.names import share_of
from cotun_trio.net.sockets import close
from cotun_trio.protocol.target import parse_target
from cotun_trio.ssh import messages
from cotun_trio.ssh.connection import Connection
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Hashable

    from cotun_trio.forwards.carry import Rest
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.running import Forward, Quota, Tally
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
TOO_MANY = "too many connections"
NO_LIMIT = 2**32
"""Of channels: there are no more numbers."""
PARTING = 1.0
"""Seconds for the peer to take what it has not got yet, the reason of the end included."""


class Rights(Protocol):
    """What the peer may have."""

    def refuses(self, target: Target) -> str | None:
        """Return why the peer may not have a channel to `target`; None if it may."""

    @property
    def asks_first(self) -> bool:
        """Whether `ask` has to be called for each connection: it may take time."""

    async def ask(self, target: Target, log: Context) -> str | None:
        """Return why the peer may not have a connection to `target`; None if it may."""

    def allows_by_socks(self, target: Target) -> bool:
        """Return whether the peer's SOCKS clients may have a connection to `target`."""

    def still_allows(self, forward: Forward) -> bool:
        """Return whether what `forward` is connected to is allowed at present."""


class Session(abc.ABC):
    """A session on `wire`, which it owns, with a peer that has these `rights`.

    It carries up to `max_connections` at a time (0: no limit), and what `quota` leaves of those of
    all sessions.
    """

    def __init__(
        self,
        wire: WireProtocol,
        engine: Engine,
        dialect: Dialect,
        rights: Rights,
        *,
        keepalive: float,
        timings: Timings,
        max_connections: int,
        quota: Quota,
        log: Context,
        tally_of: Callable[[Target | Remote], Tally | None] | None = None,
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
        self.forwards = Forwards(quota, tally_of, limit=max_connections)
        self.log = log
        self.rights = rights
        self.timings = timings
        self.wire = wire
        self._keepalive = keepalive
        self._share: Share | None = None
        self._nursery: trio.Nursery | None = None
        self._speaks_ssh = self._link_measured = False
        self._conns = itertools.count(1)
        self._farewell = "closing"  # the reason that the peer is given
        self._drain_asked = trio.Event()
        self.draining = False
        """Whether nothing should be opened any more."""

    # ---- what the roles define

    @abc.abstractmethod
    async def establish(self, nursery: trio.Nursery) -> None:
        """Get to the point where forwards are allowed.  Raises `CotunError`."""

    @property
    @abc.abstractmethod
    def was_open(self) -> bool:
        """Whether the remotes have ever been accepted."""

    @abc.abstractmethod
    async def verify_login(self, user: str, password: str) -> bool:
        """Return whether a client may come in.

        Raises `CotunError` where the password is right, and the session has to end all the same.
        """

    @abc.abstractmethod
    def inbox(self, target: Target) -> Inbox | None:
        """Return who takes connections to `target` in this process; None to dial it."""

    @property
    @abc.abstractmethod
    def peer_identity(self) -> Hashable:
        """Who is at the other end, once that is known: all sessions of the same peer share some
        limits."""

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
                    nursery.start_soon(self._keep_alive)
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

    async def _watch_wire(self) -> None:
        await self.wire.ended.wait()
        failure = self.wire.failure
        assert failure is not None
        if self.draining:
            # What has come whole is still to be written to sockets here; all else breaks off.
            self.connection.on_lost(failure)
            with trio.move_on_after(self.timings.shutdown_grace):
                await self.forwards.wait_idle()
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
        self.forwards.cut(lambda forward: not forward.endless)
        if self.connection.peer_is_ours:
            await self.connection.request(DRAIN, self._farewell.encode())
        while not self.quiet:
            await self.forwards.wait_idle()
            await self.connection.wait_no_channels()

    @property
    def quiet(self) -> bool:
        """Whether nothing is open, and nothing is being opened."""
        return self.forwards.idle and not self.connection.channels

    def peer_drains(self, reason: str) -> None:
        """Open nothing more: the peer is going to end the session.  Called once."""
        self.log.debug("the peer drains the session: %s", reason)
        self.draining = True
        self.leave(reason)
        self.forwards.cut(lambda forward: not forward.endless)

    def start_ssh(self) -> None:
        """Begin to speak SSH on the wire."""
        self._speaks_ssh = True
        self.wire.attach(self.connection)
        self.connection.start()

    def trust_peer(self) -> None:
        """Raise the limits: the peer has logged in."""
        self.wire.trust_peer(is_go=not self.connection.peer_is_ours)

    async def _keep_alive(self) -> None:
        """Ping the peer until it does not answer in time; that ends the wire."""
        if not self._keepalive:
            return
        timeout = self.timings.ping_timeout or self._keepalive
        try:
            while True:
                await trio.sleep(self._keepalive)
                with trio.fail_after(timeout):
                    await self.connection.ping()
        except trio.TooSlowError:
            reason = f"no answer to a ping in {format_duration(timeout)}"
            self.wire.fail(ConnectionLost(reason))
        except CotunError:
            pass  # the connection has ended, and the session knows why

    # ---- forwards

    def forward(self, sock: socket.socket, peer: str, remote: Remote) -> None:
        """Carry a connection that was accepted here to the other side.  Owns `sock` from now on."""
        log = self.log.within(conn=next(self._conns), source=peer, remote=remote)
        if not self.forwards.make_room():
            log.info("refused: %s", TOO_MANY)
            close(sock, reset=True)
            return
        self._measure_link()
        forward = self.forwards.begin(remote)
        link = self if forward.tally is None else Counted(self, forward)
        self.start_soon(self._carry_out, forward, carry_out(link, sock, remote, log))

    async def _carry_out(self, forward: Forward, rest: Rest) -> None:
        with forward:
            await rest()

    def _begin_in(
        self, opening: IncomingOpen, forward: Forward, target: Target, log: Context
    ) -> Rest:
        """Begin with a connection to `target`, which the peer may have; return the rest."""
        if (inbox := self.inbox(target)) is not None:
            return partial(inbox.deliver, opening, log)

        async def refusal(by_socks: Target) -> str | None:
            forward.by_socks = by_socks
            if not self.rights.allows_by_socks(by_socks):
                return "access denied"
            return await self.rights.ask(by_socks, log)

        return carry_in(self, opening, target, refusal, self.timings, log)

    async def _carry_in(
        self,
        opening: IncomingOpen,
        forward: Forward,
        target: Target,
        log: Context,
        rest: Rest | None,
    ) -> None:
        with forward:
            if rest is not None:
                await rest()
            elif (reason := await self.rights.ask(target, log)) is not None:
                log.info("refused: %s", reason)
                opening.refuse(messages.OPEN_PROHIBITED, reason)
            else:
                await self._begin_in(opening, forward, target, log)()
        if not opening.answered:  # it was cut before
            opening.refuse(messages.OPEN_PROHIBITED, "not allowed any more")

    def _measure_link(self) -> None:
        """Ping the peer before the first connection, which would make the round trip longer."""
        if not self._link_measured:
            self._link_measured = True
            self.start_soon(self._ping)

    async def _ping(self) -> None:
        with contextlib.suppress(CotunError):  # the session knows why
            await self.connection.ping()

    @property
    def share(self) -> Share:
        """What the peer may have looked up at once."""
        if self._share is None:
            self._share = share_of(self.peer_identity)
        return self._share

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run `function` as a child of the session."""
        assert self._nursery is not None
        self._nursery.start_soon(function, *args)

    # ---- what the connection tells us (its Handler)

    def login_requested(self, user: str, password: str) -> None:
        """Judge a login in a task of its own: it may take time."""
        self.start_soon(self._judge_login, user, password)

    async def _judge_login(self, user: str, password: str) -> None:
        try:
            accepted = await self.verify_login(user, password)
        except CotunError as error:
            self.fail(error)
            return
        if accepted:
            self.log = self.log.within(user=escape(user) or "-")
            self.trust_peer()
        try:
            self.connection.answer_login(accepted=accepted)
        except CotunError as error:
            self.fail(error)

    def channel_requested(self, opening: IncomingOpen) -> None:
        """Dial the target of a channel, or refuse it."""
        try:
            target = parse_target(opening.extra)
        except ProtocolError as error:
            self.log.info("refused a channel: %s", error)
            opening.refuse(messages.OPEN_PROHIBITED, str(error))
            return
        log = self.log.within(conn=next(self._conns), target=target)
        if (reason := self.rights.refuses(target)) is not None:
            log.info("refused: %s", reason)
            opening.refuse(messages.OPEN_PROHIBITED, reason)
            return
        if not self.forwards.make_room():
            log.info("refused: %s", TOO_MANY)
            opening.refuse(messages.OPEN_RESOURCE_SHORTAGE, TOO_MANY)
            return
        self._measure_link()
        forward = self.forwards.begin(target, endless=target.udp)
        opening.notify(forward.carries)
        rest = None if self.rights.asks_first else self._begin_in(opening, forward, target, log)
        self.start_soon(self._carry_in, opening, forward, target, log, rest)

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
        """Say that we do not know what a request wants."""
        self.log.debug("unknown request '%s'", escape(request.kind))
        request.reply(success=False)
