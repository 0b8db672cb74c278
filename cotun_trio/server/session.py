"""The server's side of a session: from the login to the accepted remotes, the listeners that they
ask for, and what a client may ask of us afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.access.sources import source_of
from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError, Refused
from cotun_trio.escape import escape
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.dialect import MARK
from cotun_trio.server.rights import Rights
from cotun_trio.session import CHANGE, Session
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import Engine
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.units import format_duration, show_bytes
from cotun_trio.websocket import handshake

if TYPE_CHECKING:
    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.access.startups import Startup
    from cotun_trio.access.user_sessions import UserSession, UserSessions
    from cotun_trio.access.users import Users
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.running import Quota
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.server.authorisation import Authorisation
    from cotun_trio.server.logins import Logins
    from cotun_trio.server.reverse_listeners import Listeners
    from cotun_trio.settings import ServerSettings
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire_protocol import WireProtocol

SHOWN_REMOTES = 2000
"""Characters of a client's remotes in a log line."""


class Owner(Protocol):
    """The server, as its sessions see it."""

    settings: ServerSettings
    logins: Logins
    listeners: Listeners
    scratch: Scratch
    quota: Quota
    """Of the connections of all sessions."""
    user_sessions: UserSessions
    """Of the sessions of each user."""
    authorisation: Authorisation | None
    """Who is asked besides the access lists."""

    @property
    def host_key(self) -> HostKey:
        """The server's key, by which clients know it."""

    def inbox(self, target: Target) -> Inbox | None:
        """Return what takes connections to `target` in this process; None to dial it."""

    def sessions_changed(self) -> None:
        """A session has opened, or one that was open has ended."""


class ServerSession(Session):
    """A client's session.

    `host` is the address that its connection comes from, and `startup` its place among those that
    have not logged in.
    """

    def __init__(
        self,
        owner: Owner,
        wire: WireProtocol,
        dialect: Dialect,
        log: Context,
        *,
        host: str,
        startup: Startup,
    ) -> None:
        settings = owner.settings
        engine = Engine(
            dialect.server_version + MARK,
            owner.scratch,
            host_key=owner.host_key,
            rekey_limit=RekeyLimit(bytes=settings.timings.rekey_bytes),
        )
        self.rights = rights = Rights(settings, host, owner.authorisation)
        super().__init__(
            wire,
            engine,
            dialect,
            rights,
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
        self._changing = trio.Lock()
        self._open_since: float | None = None
        self.remotes: tuple[Remote, ...] = ()
        """Those that have been accepted."""
        self.host = host
        self._startup = startup
        self._user_session: UserSession | None = None  # the place among those of the same owner
        self.identity = ""
        """The client's own, that it said with its config request."""

    async def run(self, *, deadline: float) -> None:
        """See `Session.run`; logs the end."""
        try:
            await super().run(deadline=deadline)
        except CotunError as error:
            if self._open_since is None:
                self.log.info("closed before it was open: %s", error)
            else:
                self._log_end(str(error))
        except (trio.Cancelled, BaseExceptionGroup) as error:
            # A nursery puts everything into a group, a cancellation too.
            others = BaseExceptionGroup("", [error]).split(trio.Cancelled)[1]
            if self._open_since is not None:
                self._log_end("internal error" if others else "the server is shutting down")
            raise
        finally:
            if self._user_session is not None:
                self._user_session.leave()

    @property
    def was_open(self) -> bool:
        """See `Session.was_open`."""
        return self._open_since is not None

    @property
    def open_since(self) -> float:
        """When the remotes were accepted, by Trio's clock."""
        assert self._open_since is not None
        return self._open_since

    @property
    def listening(self) -> list[Remote]:
        """The reverse remotes that it listens for."""
        return [listener.remote for listener in self._owner.listeners.held_by(self)]

    @property
    def login(self) -> str:
        """The name of who has logged in."""
        return "" if self.rights.user is None else self.rights.user.name

    def _log_end(self, reason: str) -> None:
        assert self._open_since is not None
        self.log.info(
            "closed after %s, %s sent, %s received: %s",
            format_duration(round(trio.current_time() - self._open_since, 3)),
            show_bytes(self.wire.bytes_out),
            show_bytes(self.wire.bytes_in),
            reason,
        )

    # ---- life

    async def establish(self, nursery: trio.Nursery) -> None:
        """Wait for the client's login and its config request, and answer both."""
        await handshake.accept(nursery, self.wire, protocol=self._dialect.token)
        self.start_ssh()
        await self.connection.logged_in.wait()
        request, config = await self._receive_config()
        try:
            listeners = await self._listen(config)
        except CotunError as error:
            request.reply(str(error).encode(), success=False)
            raise
        self.remotes = config.remotes
        self.rights.accept()
        self._open_since = trio.current_time()
        self._owner.sessions_changed()
        remotes = ", ".join(map(str, config.remotes)) or "none"
        addresses = tuple(address for listener in listeners for address in listener.addresses)
        listening = f", listening on {', '.join(addresses)}" if addresses else ""
        self.log.info(
            "open, client %s, remotes: %s%s",
            escape(config.version),
            escape(remotes, SHOWN_REMOTES),
            escape(listening, SHOWN_REMOTES),
        )
        # A Go client takes any payload for an error; ours is told where the server listens.
        first = tuple(listener.addresses[0] for listener in listeners)
        request.reply(ConfigReply(first).encode() if self.identity else b"", success=True)
        for listener in listeners:
            nursery.start_soon(self._serve_listener, listener)

    async def _receive_config(self) -> tuple[GlobalRequest, Config]:
        with trio.move_on_after(self.timings.config_timeout):
            await self._config_came.wait()
        request = self._config
        if request is None:
            raise ProtocolError("no config request after the login")
        try:
            return request, Config.decode(request.payload)
        except ProtocolError as error:
            request.reply(str(error).encode(), success=False)
            raise

    async def _listen(self, config: Config) -> list[Listener]:
        """Check what the client asks for, and listen on its reverse remotes."""
        self.identity = config.identity
        self.rights.check_remotes(config.remotes)
        await self.rights.ask_for_remotes(config.remotes, self.log)
        reverse = [remote for remote in config.remotes if remote.reverse]
        listeners = await self._owner.listeners.open(self, reverse)
        self.rights.check_remotes(config.remotes)  # the client may have fewer by now
        return listeners

    async def _change_remotes(self, request: GlobalRequest) -> None:
        """Do what a client asks for whose remotes have changed: all of it, or nothing."""
        async with self._changing:
            try:
                config = Config.decode(request.payload)
                self.rights.check_remotes(config.remotes)
                new = [remote for remote in config.remotes if remote not in self.remotes]
                await self.rights.ask_for_remotes(new, self.log)
                self.rights.check_remotes(config.remotes)  # they may be fewer by now
                reverse = [remote for remote in config.remotes if remote.reverse]
                change = await self._owner.listeners.change(self, reverse)
            except CotunError as error:
                request.reply(str(error).encode(), success=False)
                return
            self.remotes = config.remotes
            # The very ones: another with the same words, on a port of its own, is not meant.
            closed = set(map(id, change.closed))
            self.forwards.cut(lambda forward: id(forward.uses) not in closed)
            remotes = ", ".join(map(str, config.remotes)) or "none"
            self.log.info("other remotes: %s", escape(remotes, SHOWN_REMOTES))
            first = tuple(listener.addresses[0] for listener in change.listeners)
            request.reply(ConfigReply(first).encode(), success=True)
            for listener in change.opened:
                self.start_soon(self._serve_listener, listener)

    async def _serve_listener(self, listener: Listener) -> None:
        await listener.serve(
            lambda remote, sock, peer: self.forward(sock, peer, remote),
            lambda: self,
            udp_max_size=self.timings.udp_max_size,
            log=self.log,
        )

    # ---- as the owner of reverse listeners

    @property
    def user_name(self) -> str | None:
        """Who logged in; None where everybody may."""
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
        with trio.move_on_after(timeout):
            with contextlib.suppress(CotunError):
                await self.connection.ping()
                return True
        return False

    def replace(self) -> None:
        """End the session for a newer one of the same client."""
        failure = ConnectionLost("replaced by a new session of the same client")
        self.wire.fail(failure)  # it leads nowhere: nobody is there to be told
        self.fail(failure)

    def leave(self, reason: str) -> None:  # noqa: ARG002
        """See `Session.leave`: nobody listens for it any more."""
        self._owner.listeners.free(self)

    # ---- what the client asks for

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
        """Ask the server's users.  Raises `Refused` where the user has too many sessions."""
        known = await self._owner.logins.judge(self.host, user, password, self.log)
        if known is None:
            return False
        self.rights.log_in(known)
        self._take_place()
        self._startup.leave()
        return True

    def _take_place(self) -> None:
        """Be one of the user's sessions.  Raises `Refused` where there are too many."""
        kind, name = self.peer_identity
        self._user_session = self._owner.user_sessions.enter(
            f"{kind} {name}", limited=kind == "user", scarce=self.wire.in_reserve
        )
        if self._user_session is None:
            reason = f"too many sessions of the {kind} '{escape(name)}'"
            # Neither a wrong password nor a refused config: those, clients do not try again.
            self.connection.disconnect(messages.DISCONNECT_TOO_MANY_CONNECTIONS, reason)
            raise Refused(reason)

    def inbox(self, target: Target) -> Inbox | None:
        """See `Session.inbox`: the server knows."""
        return self._owner.inbox(target)

    def users_changed(self, users: Users) -> None:
        """End what the client may not have any more: all, where its user is not the same."""
        before = self.rights.user
        if before is None:
            return
        user = users.find(before.name)
        if user is None or user.secret != before.secret:
            what = "has been removed" if user is None else "has a new password"
            reason = f"the user '{escape(before.name)}' {what}"
            self.connection.disconnect(messages.DISCONNECT_BY_APPLICATION, reason)
            self.fail(ConnectionLost(reason))
            return
        self.rights.log_in(user)
        for remote in self._owner.listeners.narrow(self, self.rights.allows):
            self.log.info("no longer listening for %s: access denied", remote)
        if count := self.forwards.cut(self.rights.still_allows):
            self.log.info("cut %d of its connections: access denied", count)
