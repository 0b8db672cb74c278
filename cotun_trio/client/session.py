"""The client's side of a session: from the upgrade to the accepted remotes, and the requests of the
server afterwards."""

from __future__ import annotations

import contextlib
import enum
import logging
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio._version import __version__
from cotun_trio.access.fingerprints import check_fingerprint, fingerprint, is_legacy
from cotun_trio.client.rights import Declared, DeclaredOnly
from cotun_trio.client.visitors import check_visitors
from cotun_trio.counts import meters
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    ConnectionLost,
    NotNow,
    ProtocolError,
    SameServer,
)
from cotun_trio.escape import escape
from cotun_trio.forwards.quota import Quota
from cotun_trio.protocol.addresses import host_header
from cotun_trio.protocol.config import MAX_REQUEST, Config, too_many
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.dialect import MARK
from cotun_trio.protocol.extensions import OURS
from cotun_trio.protocol.refusal import ConfigRefusal
from cotun_trio.session import CHANGE, About, Session
from cotun_trio.ssh.engine import Engine
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.ssh.trace import packetizer_for
from cotun_trio.units import format_duration
from cotun_trio.websocket import handshake

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from cotun_trio.client.met_servers import MetServers
    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.logs import Context, Limits
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import ClientSettings, ServerUrl
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire_protocol import WireProtocol


MAX_REASON = 500
"""Characters of a server's reason: the advice is at its end."""
NO_AUTH = "the server wants a user and a password: give --auth USER:PASSWORD or --auth-from FILE"
"""The error of a login without credentials."""


class Stage(enum.IntEnum):
    """How far an attempt to get a session is, until its remotes are accepted."""

    DIALLING = 0
    CONNECTED = 1
    """TCP is, and the proxy and TLS if there are any."""
    UPGRADED = 2
    """It is a WebSocket."""
    KEYS_AGREED = 3
    """The server has proved its host key, which is still to be compared with the one expected."""
    IDENTIFIED = 4
    """It is the right one, as far as anything is expected; what comes next is the login."""
    LOGGED_IN = 5
    OPEN = 6
    """The server has accepted the remotes."""


class OwnRemotes(Declared, Protocol):
    """The remotes of the client, as its sessions see them."""

    @property
    def basic(self) -> tuple[Remote, ...]:
        """Current remotes for the config request."""

    def traffic(self, uses: Target | Remote) -> Traffic | None:
        """Return the counters for a connection by a remote, or to a target that the server
        names."""

    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""


class ClientHost(Protocol):
    """The client, as its sessions see it."""

    settings: ClientSettings
    log: Context
    log_limits: Limits
    """The limits on log lines that each server can cause."""
    scratch: Scratch
    met: MetServers
    """Servers that have shown their keys before."""
    identity: str
    """A secret for servers of our kind: a session with it may take the reverse listeners over."""

    @property
    def remotes(self) -> OwnRemotes:
        """Servers may open channels for its reverse remotes, and for nothing else."""

    def asking(self) -> AbstractAsyncContextManager[tuple[str, ...]]:
        """See `cotun_trio.client.open_sessions.OpenSessions.asking`."""

    def session_opened(self, session: ClientSession) -> None:
        """The session can carry connections."""

    def session_left(self, session: ClientSession) -> None:
        """The session takes no more connections."""

    def retrying(self, seconds: float, failure: CotunError) -> None:
        """A connection has no session because of `failure`, and tries again in so many seconds."""


class ClientSession(Session):
    """The client's side of a session with the server at `url`, and at `address` if it is known.

    `reached` is called with each `Stage` after `Stage.CONNECTED`, before the next step.  It may
    make the session `fail`, and then there is no login.  Of the client's other sessions, `keys`
    are fingerprints at `url` that the log has, and `quota` is for the connections of all.
    """

    def __init__(
        self,
        owner: ClientHost,
        url: ServerUrl,
        wire: WireProtocol,
        dialect: Dialect,
        log: Context,
        reached: Callable[[Stage], None] = lambda _stage: None,
        *,
        number: int = 1,
        address: str = "",
        keys: Collection[str] = (),
        quota: Quota | None = None,
    ) -> None:
        settings = owner.settings
        engine = Engine(
            dialect.client_version + MARK,
            owner.scratch,
            rekey_limit=RekeyLimit(bytes=settings.timings.rekey_bytes),
            packetizer_class=packetizer_for(log),
        )
        super().__init__(
            wire,
            engine,
            dialect,
            DeclaredOnly(owner.remotes),
            number=number,
            keepalive=settings.keepalive,
            timings=settings.timings,
            max_connections=settings.max_connections,
            quota=quota or Quota(0),
            log=log,
            traffic_of=owner.remotes.traffic,
        )
        self.url = url
        self.address = address
        self._keys = keys
        self.node = ""
        """The server's identity, once it has told one (`ConfigReply.node`)."""
        self._owner = owner
        self._left = trio.Event()
        self._left_because = ""
        self.dialect = dialect
        self._reached = reached
        self._began = trio.current_time()
        self._open_since: float | None = None
        self.remotes: tuple[Remote, ...] = ()
        """Remotes that the server has been told."""
        self.reverse_addresses: tuple[str, ...] = ()
        """Where the server listens, for each reverse remote in turn; only a cotun-trio tells."""
        self.fingerprint = ""
        """Of the host key that the server has proved to hold, once it has."""
        self.latency = 0.0
        """Seconds that the server took to accept the remotes."""

    @property
    def was_open(self) -> bool:
        """Whether the server has ever accepted our remotes."""
        return self._open_since is not None

    @property
    def lasted(self) -> float:
        """For how many seconds it has been open; 0 if it never was."""
        return 0.0 if self._open_since is None else trio.current_time() - self._open_since

    @property
    def about(self) -> About:
        """See `Session.about`."""
        auth = self._owner.settings.auth
        return About(
            str(self.url),
            auth.user if auth else "",
            self.connection.engine.peer_version,
            tuple(remote.encode() for remote in self.remotes),
            self.lasted,
        )

    async def establish(self, nursery: trio.Nursery) -> None:
        """Upgrade, look at the host key, log in, and have the remotes accepted."""
        settings, connection = self._owner.settings, self.connection
        self._check_wanted()
        with trio.fail_after(self.timings.ws_timeout):
            await handshake.connect(
                nursery,
                self.wire,
                host=host_header(settings.hostname) if settings.hostname else self.url.host_header,
                path=self.url.path,
                protocol=self.dialect.token,
                headers=settings.headers,
                log=self.log,
            )
        self._reached(Stage.UPGRADED)
        self.start_ssh()
        host_key = await connection.agree_keys()
        self._reached(Stage.KEYS_AGREED)
        self._check_wanted()  # another attempt may have got here in the same moment
        await self._check_host_key(host_key)  # before any credential is sent
        self._reached(Stage.IDENTIFIED)
        self._check_wanted()
        auth = settings.auth
        await connection.log_in(auth.user if auth else "", auth.password if auth else "")
        self.trust_peer()
        self._reached(Stage.LOGGED_IN)
        async with self._owner.asking() as nodes:
            await self._ask(nodes)

    async def _ask(self, nodes: tuple[str, ...]) -> None:
        """Have the remotes accepted by a server that is none of `nodes`."""
        asked_at = trio.current_time()
        self.remotes = self._owner.remotes.basic
        config = self._config(self.remotes, nodes)
        success, payload = await self.connection.request("config", config, self._note_extensions)
        self.latency = trio.current_time() - asked_at
        # Go's servers succeed with nothing: any payload is an error text.
        if not success or (payload and not self.connection.peer_is_ours):
            raise _refused(payload)
        self._open_since = trio.current_time()
        meters().handshakes.add(self._open_since - self._began)
        meters().connects.add("opened")
        self._reached(Stage.OPEN)
        facts, latency = _facts(self.url, self.latency), format_duration(self.latency)
        self.log.info("Connected (Latency %s)", latency, extra={"facts": facts})
        self.log.event("opened", session=self.number, **facts)
        if payload:
            self.node = self._take_reply(payload).node
        check_visitors(self.remotes, self.log, told=self.flows.tells_visitors)
        self._owner.session_opened(self)

    def _note_extensions(self, answer: bytes) -> None:
        """Use what the server agrees to, from the very read on that brings its answer.

        It may have opened a channel right behind that.
        """
        if self.connection.peer_is_ours:
            with contextlib.suppress(ProtocolError):  # which is raised when all of it is read
                self.flows.use(ConfigReply.decode(answer).extensions)

    def _check_wanted(self) -> None:
        """Raise `failure` if there is one already: a cancellation comes with the next wait only."""
        if self.failure is not None:
            raise self.failure

    async def _check_host_key(self, host_key: bytes) -> None:
        """Show whom we talk to.  Raises `FingerprintMismatch` where the user named another, or the
        known hosts have one."""
        got, expected = fingerprint(host_key), self._owner.settings.fingerprint
        self.fingerprint = got
        level = logging.DEBUG if got in self._keys else logging.INFO
        self.log.log(level, "Fingerprint %s", got, extra={"facts": {"fingerprint": got}})
        if expected is None:
            await self._owner.met.meet(self.url, got, self.log)
        else:
            _check_expected(host_key, expected, self.log)

    async def change_remotes(self, remotes: tuple[Remote, ...]) -> None:
        """Have `remotes` accepted in place of those before.

        Raises `ConfigRefused` or `NotNow`, and then nothing has changed, or the error that ended
        the session.
        """
        assert self.connection.peer_is_ours, "a Go server cannot be told"
        check_visitors(remotes, self.log, told=self.flows.tells_visitors)
        success, payload = await self.connection.request(CHANGE, self._config(remotes))
        if not success:
            raise _refused(payload)
        self.remotes = remotes
        try:
            self._take_reply(payload)
        except ProtocolError as error:
            self.fail(error)
            raise

    def _take_reply(self, payload: bytes) -> ConfigReply:
        reply = ConfigReply.decode(payload)
        reverse = [remote for remote in self.remotes if remote.reverse]
        if len(reply.addresses) != len(reverse):
            raise ProtocolError("the server's answer does not fit the reverse remotes")
        self.reverse_addresses = reply.addresses
        for remote, address in zip(reverse, reply.addresses, strict=True):
            address = escape(address)
            facts = {"address": address, "remote": remote}
            self.log.info(
                "The server listens on %s for %s", address, remote, extra={"facts": facts}
            )
        return reply

    def _config(self, remotes: tuple[Remote, ...], nodes: tuple[str, ...] = ()) -> bytes:
        """Return the config request.

        Raises `ConfigRefused` for remotes that a Go server cannot have, or that are too many.
        """
        ours = self.connection.peer_is_ours
        for remote in remotes:
            if remote.needs_extensions and not ours:
                raise ConfigRefused(f"{remote}: only a cotun-trio server can do this")
        identity = self._owner.identity if ours else ""
        several = self._owner.settings.connections > 1
        config = Config(__version__, remotes, identity, OURS if ours else (), nodes, several)
        payload = config.encode()
        if len(payload) > MAX_REQUEST:
            raise ConfigRefused(too_many(len(remotes)))
        return payload

    # ---- its end

    def fail(self, failure: CotunError) -> None:
        """See `Session.fail`; a login that failed for want of credentials says so."""
        if isinstance(failure, AuthenticationFailed) and self._owner.settings.auth is None:
            failure = AuthenticationFailed(NO_AUTH)
        super().fail(failure)

    async def wait_left(self) -> CotunError:
        """Wait until it takes no more connections, and return why not.

        Either it has ended, or it is about to, and its streams have some time left.
        """
        await self._left.wait()
        return self.failure or ConnectionLost(self._left_because)

    def leave(self, reason: str) -> None:
        """See `Session.leave`."""
        if not self._left.is_set():
            self._left_because = reason
            self._left.set()
            self._owner.session_left(self)

    async def verify_login(self, user: str, password: str) -> bool:  # noqa: ARG002
        """Nobody logs in to a client; the engine does not even ask."""
        return False

    def role_request(self, request: GlobalRequest) -> None:
        """See `Session.role_request`: a client knows none."""
        self.refuse_request(request)

    def inbox(self, target: Target) -> Inbox | None:
        """See `Session.inbox`."""
        return self._owner.remotes.inbox(target)

    @property
    def peer_identity(self) -> str:
        """See `Session.peer_identity`: the server, whichever it is at present."""
        return self._owner.identity


def _check_expected(host_key: bytes, expected: str, log: Context) -> None:
    """Raise `FingerprintMismatch` where the user named another key."""
    check_fingerprint(host_key, expected)
    if is_legacy(expected):  # said only now: of a wrong server, nobody should take it over
        log.warning(
            "--fingerprint has the legacy MD5 form, which is weak: use --fingerprint '%s'",
            fingerprint(host_key),
        )


def _refused(payload: bytes) -> ConfigRefused | NotNow:
    refusal = ConfigRefusal.decode(payload)
    if refusal.same_server:
        return SameServer("another connection is at this server")
    kind = NotNow if refusal.passing else ConfigRefused
    reason = escape(refusal.reason, MAX_REASON)
    return kind(f"the server refused: {reason or 'no reason given'}")


def _facts(url: ServerUrl, latency: float) -> dict[str, object]:
    return {"server": url, "seconds": round(latency, 6)}
