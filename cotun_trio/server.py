"""The server: accepts connections, lets clients in, and owns their sessions.

Each connection is a task of its own behind a guard: whatever one of them does, or makes us do, ends
there, in one log line.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import trio

import cotun_trio
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.access.users import Users
from cotun_trio.durations import format_duration
from cotun_trio.errors import ConfigRefused, ConnectionLost, CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.relay import close
from cotun_trio.http import front
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.dialect import MARK
from cotun_trio.reverse import Listeners
from cotun_trio.session import Session
from cotun_trio.ssh.engine import Engine
from cotun_trio.ssh.packetizer import RekeyLimit
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.stats import show_bytes
from cotun_trio.websocket import handshake
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.listener import Listener
    from cotun_trio.logs import Context
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import ServerSettings
    from cotun_trio.ssh.requests import GlobalRequest

SHOWN_REMOTES = 2000
"""Characters of a client's remotes in a log line."""


class Server:
    """A tunnel server with one host key, that of its settings or one made for this run."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        key = settings.host_key
        self.host_key = generate_host_key() if key is None else key
        self.fingerprint = fingerprint(self.host_key.asbytes())
        self.addresses: list[str] = []
        """Where it listens, ``host:port`` each, once `run` has started."""
        self.users = Users(settings.auth)
        self.listeners = Listeners()
        self.log = get_logger("server")
        self.scratch = Scratch()
        self._numbers = itertools.count(1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled.  Started when it listens.

        Raises `UsageError` where it cannot.
        """
        listeners = await open_listeners(self.settings.host, self.settings.port)
        try:
            self.log.info("Fingerprint %s", self.fingerprint)
            if self.settings.auth is not None:
                self.log.info("User authentication enabled")
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    self.addresses.append(show_address(listener))
                    self.log.info("Listening on http://%s", self.addresses[-1])
                    nursery.start_soon(
                        accept_forever,
                        listener,
                        lambda sock, peer: nursery.start_soon(self._guard, sock, peer),
                    )
                task_status.started()
        finally:
            for listener in listeners:
                close(listener)

    async def _guard(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Keep what goes wrong with one connection from everything else."""
        log = self.log.within(peer=join_host_port(*address[:2]))
        try:
            await self._serve(sock, log)
        except CotunError as error:
            log.debug("%s", error)
        except Exception:
            log.error("internal error, the connection is closed")
            log.debug("what happened", exc_info=True)
        finally:
            close(sock)

    async def _serve(self, sock: socket.socket, log: Context) -> None:
        deadline = trio.current_time() + self.settings.timings.ssh_timeout
        try:
            request = await front.receive_request(sock)
            dialect = front.wanted_dialect(request)
            if dialect is None:
                if front.asks_for_websocket(request):
                    protocol = b", ".join(request.values(b"sec-websocket-protocol"))
                    log.info("ignored an upgrade to protocol '%s'", escape(protocol))
                status = await front.respond(sock, request, cotun_trio.__version__)
                log.debug("%s %s: %d", request.method.decode(), escape(request.target), status)
                return
            head = front.upgrade_head(request, dialect)
        except front.HeadError as error:
            log.info("%s", error)
            await front.respond_error(sock, error.status)
            return
        wire = Wire(sock, self.scratch.read, client=False, head=head, early=request.early)
        session = ServerSession(self, wire, dialect, log.within(session=next(self._numbers)))
        await session.run(deadline=deadline)


class ServerSession(Session):
    """A client's session."""

    def __init__(self, server: Server, wire: Wire, dialect: Dialect, log: Context) -> None:
        settings = server.settings
        engine = Engine(
            dialect.server_version + MARK,
            server.scratch,
            host_key=server.host_key,
            rekey_limit=RekeyLimit(bytes=settings.timings.rekey_bytes),
        )
        super().__init__(
            wire, engine, dialect, keepalive=settings.keepalive, timings=settings.timings, log=log
        )
        self._server = server
        self._dialect = dialect
        self._config: GlobalRequest | None = None
        self._config_came = trio.Event()
        self._open_since: float | None = None
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
            self._server.listeners.free(self)

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
        self._open_since = trio.current_time()
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
        settings = self._server.settings
        self.identity = config.identity
        for remote in config.remotes:
            if remote.reverse and not settings.reverse:
                raise ConfigRefused("Reverse port forwarding not enabled on server")
            if remote.socks and not remote.reverse and not settings.socks5:
                raise ConfigRefused("SOCKS5 is not enabled on server")
            here = remote.local_path if remote.reverse else remote.remote_path
            if here and not settings.unix:
                raise ConfigRefused("Unix sockets are not enabled on server")
        reverse = [remote for remote in config.remotes if remote.reverse]
        return await self._server.listeners.open(self, reverse)

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
        return self.connection.engine.user if self._server.settings.auth else None

    async def is_alive(self, timeout: float) -> bool:
        """Return whether the client answers a ping in `timeout` seconds."""
        with trio.move_on_after(timeout):
            with contextlib.suppress(CotunError):
                await self.connection.request("ping")
                return True
        return False

    def replace(self) -> None:
        """End the session for a newer one of the same client."""
        self.fail(ConnectionLost("replaced by a new session of the same client"))

    def fail(self, failure: CotunError) -> None:
        """See `Session.fail`; the listeners are freed at once."""
        self._server.listeners.free(self)
        super().fail(failure)

    # ---- what the client asks for

    def config_requested(self, request: GlobalRequest) -> None:
        """Keep the first config request for `establish`."""
        if self._config is None:
            self._config = request
            self._config_came.set()
        else:
            request.reply(b"there was a config request already", success=False)

    async def verify_login(self, user: str, password: str) -> bool:
        """Ask the server's users."""
        return self._server.users.verify(user, password)

    def request_refused(self, target: Target) -> str | None:
        """Refuse what this server does not do."""
        settings = self._server.settings
        if self._open_since is None:
            return "no channel before the config request is accepted"
        if target.socks and not settings.socks5:
            return "SOCKS5 is not enabled"
        if target.path and not settings.unix:
            return "Unix sockets are not enabled"
        return None
