"""The server's side of a session: from the login to the accepted remotes and their listeners, and
the requests of the client afterwards."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.access.sources import source_of
from cotun_trio.counts import meters
from cotun_trio.errors import (
    ConnectionLost,
    CotunError,
    NotNow,
    ProtocolError,
    SameServer,
)
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.dialect import MARK
from cotun_trio.protocol.refusal import ConfigRefusal
from cotun_trio.server.admission import Admission
from cotun_trio.server.client_remotes import ClientRemotes
from cotun_trio.server.rights import Rights
from cotun_trio.server.visitors import admission_by
from cotun_trio.session import CHANGE, About, Session
from cotun_trio.ssh.engine import Engine
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.ssh.trace import packetizer_for
from cotun_trio.units import format_duration, show_bytes
from cotun_trio.websocket import handshake

if TYPE_CHECKING:
    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.access.startups import Startup
    from cotun_trio.access.user_sessions import UserSessions
    from cotun_trio.access.users import Users
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.quota import Quota
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.target import Target
    from cotun_trio.server.authorisation import Authorisation
    from cotun_trio.server.logins import Logins
    from cotun_trio.server.peers import Peers
    from cotun_trio.server.reverse_listeners import Listeners
    from cotun_trio.settings import ServerSettings
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.openings import IncomingOpen
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire_protocol import WireProtocol

PASSING = ": EOF"
"""The end of the reason for a Go client, which tells errors apart by their text: a UDP remote of
its that gets one without this ends the whole client, and does not wait for the next session."""


class ServerHost(Protocol):
    """The server, as its sessions see it."""

    settings: ServerSettings
    logins: Logins
    listeners: Listeners
    peers: Peers
    """The other servers of a fleet."""
    scratch: Scratch
    quota: Quota
    """Of the connections of all sessions."""
    user_sessions: UserSessions
    """Of the sessions of each user."""
    authorisation: Authorisation | None
    """The hook that is asked besides the access lists."""
    node: str
    """The server's identity, see `cotun_trio.server.shared.SharedState`."""

    @property
    def host_key(self) -> HostKey:
        """The server's key, by which clients know it."""

    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""

    def sessions_changed(self) -> None:
        """A session has opened, or one that was open has ended."""


class ServerSession(Session):
    """A client's session.

    `host` is the address that its connection comes from, and `startup` its place among the
    connections that have not logged in.
    """

    def __init__(
        self,
        owner: ServerHost,
        wire: WireProtocol,
        dialect: Dialect,
        log: Context,
        *,
        number: int,
        host: str,
        startup: Startup,
    ) -> None:
        settings = owner.settings
        engine = Engine(
            dialect.server_version + MARK,
            owner.scratch,
            host_key=owner.host_key,
            rekey_limit=RekeyLimit(bytes=settings.timings.rekey_bytes),
            packetizer_class=packetizer_for(log),
        )
        self.rights = rights = Rights(settings, host, owner.authorisation)
        super().__init__(
            wire,
            engine,
            dialect,
            rights,
            number=number,
            keepalive=settings.keepalive,
            timings=settings.timings,
            max_connections=settings.max_session_connections,
            quota=owner.quota,
            log=log,
        )
        self.rights: Rights  # the same, and more of them than a `Session` knows
        self._owner = owner
        self._dialect = dialect
        self._config: GlobalRequest | None = None
        self._config_came = trio.Event()
        self._began = trio.current_time()
        self._open_since: float | None = None
        self.client_remotes = ClientRemotes(self, self.rights, owner.listeners)
        self.host = host
        self._admission = Admission(self, startup, owner.logins, owner.user_sessions)
        self._version = ""  # of the client, as it came
        self.identity = ""
        """The client's own, that it said with its config request."""
        self.has_others = False
        """Whether the client keeps sessions with several servers."""

    async def run(self, *, deadline: float) -> None:
        """See `Session.run`; logs the end."""
        try:
            await super().run(deadline=deadline)
        except CotunError as error:
            if self._open_since is None:
                self.log.refused(error, "closed before it was open: %s", logging.INFO)
            else:
                self._log_end(str(error))
        except (trio.Cancelled, BaseExceptionGroup) as error:
            # A nursery puts everything into a group, a cancellation too.
            others = BaseExceptionGroup("", [error]).split(trio.Cancelled)[1]
            if self._open_since is not None:
                self._log_end("internal error" if others else "the server is shutting down")
            raise
        finally:
            self._admission.leave()

    @property
    def was_open(self) -> bool:
        """See `Session.was_open`."""
        return self._open_since is not None

    @property
    def about(self) -> About:
        """See `Session.about`."""
        user = "" if self.rights.user is None else self.rights.user.name
        remotes = tuple(remote.encode() for remote in self.client_remotes.accepted)
        lasted = trio.current_time() - self.open_since
        return About(self.host, user, self._version, remotes, lasted)

    @property
    def open_since(self) -> float:
        """When the remotes were accepted, by Trio's clock."""
        assert self._open_since is not None
        return self._open_since

    def _log_end(self, reason: str) -> None:
        _log_closed(self.log, self.wire, trio.current_time() - self.open_since, reason)

    # ---- life

    async def establish(self, nursery: trio.Nursery) -> None:
        """Wait for the client's login and its config request, and answer both."""
        await handshake.accept(nursery, self.wire, protocol=self._dialect.token, log=self.log)
        self.start_ssh()
        await self.connection.logged_in.wait()
        request, config = await self._receive_config()
        self.identity, self._version = config.identity, config.version
        self.has_others = config.several
        try:
            reply = await self.client_remotes.open(config, self._owner.node)
        except CotunError as error:
            _refuse(request, error, marked=bool(self.identity))
            raise
        self._open_since = trio.current_time()
        meters().handshakes.add(self._open_since - self._began)
        if not self.connection.peer_is_ours:
            self.connection.sender.end_reasons(PASSING)
        self._owner.sessions_changed()
        # From here on, and not before: no channel can be opened before the client is told.
        self.flows.use(config.extensions)
        reply = attrs.evolve(reply, extensions=config.extensions)
        # A Go client takes any payload for an error; ours is told where the server listens.
        request.reply(reply.encode() if self.identity else b"", success=True)

    async def _receive_config(self) -> tuple[GlobalRequest, Config]:
        with trio.move_on_after(self.timings.config_timeout):
            await self._config_came.wait()
        if (request := self._config) is None:
            raise ProtocolError("no config request after the login")
        try:
            return request, Config.decode(request.payload)
        except ProtocolError as error:
            request.reply(str(error).encode(), success=False)
            raise

    async def _change_remotes(self, request: GlobalRequest) -> None:
        """Answer a client whose remotes have changed."""
        try:
            reply = await self.client_remotes.change(Config.decode(request.payload))
        except CotunError as error:
            _refuse(request, error, marked=True)  # only clients of our kind make this request
        else:
            request.reply(reply.encode(), success=True)

    async def serve_listener(self, listener: Listener) -> None:
        """Carry connections to a listener to the client, until the listener is closed."""
        await listener.serve(
            lambda remote, sock, visitor: self.forward(sock, visitor, remote),
            lambda: self,
            udp_max_size=self.timings.udp_max_size,
            log=self.log,
            admission=admission_by(self._owner.settings),
        )

    # ---- as the owner of reverse listeners

    @property
    def user_name(self) -> str | None:
        """The user that has logged in; None where there are no users."""
        user = self.rights.user
        return None if user is None or self._owner.logins.everybody else user.name

    @property
    def peer_identity(self) -> tuple[str, str]:
        """See `Session.peer_identity`: the user, or where everybody may come in, the source.

        One user can have many sessions, and must not have many shares for that.
        """
        user = self.user_name
        return ("source", source_of(self.host)) if user is None else ("user", user)

    async def is_alive(self, timeout: float) -> bool:
        """Return whether the client answers a ping in `timeout` seconds."""
        with trio.move_on_after(timeout), contextlib.suppress(CotunError):
            await self.connection.ping()
            return True
        return False

    def replace(self) -> None:
        """End the session for a newer one of the same client."""
        failure = ConnectionLost("replaced by a new session of the same client")
        self.wire.fail(failure)  # it leads nowhere: nobody is there to be told
        self.fail(failure)

    def leave(self, reason: str) -> None:  # noqa: ARG002
        """See `Session.leave`: nobody listens for it any more, or not for long."""
        self._owner.listeners.leave(self, draining=self.draining and self.failure is None)

    async def wait_quiet(self) -> None:
        """See `Session.wait_quiet`; it listens until another session has its places, too."""
        await super().wait_quiet()
        while self._owner.listeners.held_by(self):
            await self._owner.listeners.wait_none(self)
            await super().wait_quiet()

    # ---- requests of the client

    def channel_requested(self, opening: IncomingOpen) -> None:
        """See `Session.channel_requested`; a peer passes a visitor on."""
        if self.rights.is_peer:
            self._owner.peers.pass_on(self, opening)
        else:
            super().channel_requested(opening)

    def role_request(self, request: GlobalRequest) -> None:
        """See `Session.role_request`; the first config request is for `establish`."""
        if request.kind == CHANGE and self.was_open:
            self.start_soon(self._change_remotes, request)
        elif request.kind != "config":
            self.refuse_request(request)
        elif self._config is None:
            self._config = request
            self._config_came.set()
        else:
            request.reply(b"there was a config request already", success=False)

    async def verify_login(self, user: str, password: str) -> bool:
        """See `Session.verify_login`: the server's users are asked."""
        return await self._admission.judge(user, password)

    def inbox(self, target: Target) -> Inbox | None:
        """See `Session.inbox`: the server knows."""
        return self._owner.inbox(target)

    def users_changed(self, users: Users) -> None:
        """End connections that the client has no right to any more: all, where its user has
        changed."""
        if (reason := self.rights.users_changed(users)) is not None:
            self.kick(reason)
        else:
            self.client_remotes.narrow()


def _refuse(request: GlobalRequest, error: CotunError, *, marked: bool) -> None:
    """Answer a config request by an error; `marked` is for clients of our kind."""
    refusal = ConfigRefusal(
        str(error).encode(),
        passing=isinstance(error, NotNow),
        same_server=isinstance(error, SameServer),
    )
    request.reply(refusal.encode(marked=marked), success=False)


def _log_closed(log: Context, wire: WireProtocol, seconds: float, reason: str) -> None:
    seconds = round(seconds, 3)
    facts: dict[str, object] = {
        "seconds": seconds,
        "bytes_sent": wire.bytes_out,
        "bytes_received": wire.bytes_in,
        "reason": reason,
    }
    log.info(
        "closed after %s, %s sent, %s received: %s",
        format_duration(seconds),
        show_bytes(wire.bytes_out),
        show_bytes(wire.bytes_in),
        reason,
        extra={"facts": facts},
    )
    log.event("closed", **facts)
