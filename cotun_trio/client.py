"""The client: keeps one session to a server, and its local listeners open all the while.

Listeners belong to the client, not to a session: a connection that arrives while there is none
waits for the next, up to a limit.  Around the session is the loop that reconnects, with
exponential backoff and full jitter, so that a thousand clients that lost the same server do not
come back in the same moment.
"""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING

import trio

from cotun_trio.client_session import ClientSession
from cotun_trio.durations import format_duration
from cotun_trio.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CotunError,
    FingerprintMismatch,
    GaveUp,
    TlsFailed,
    UpgradeRefused,
)
from cotun_trio.forwards.listener import open_listener
from cotun_trio.forwards.stdio import carry_stdio
from cotun_trio.logs import get_logger
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.proxy import dial_through
from cotun_trio.net.sockets import close
from cotun_trio.net.tls import Nested, Tls
from cotun_trio.net.tls_files import client_context
from cotun_trio.net.transport import Transport
from cotun_trio.settings import ClientTls
from cotun_trio.snapshot import Past, snapshot
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.listener import Listener
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.settings import ClientSettings

FIRST_INTERVAL = 1.0
"""Seconds: the longest wait before the first retry; it doubles with each one that fails."""
STABLE = 5.0
"""Seconds that a session has to last for the backoff to start again: a server that accepts and then
drops us is no success."""


class Client:
    """A tunnel client.  Raises `UsageError` where its TLS files cannot be used."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.addresses: list[str] = []
        """Where the remotes listen, ``host:port`` each, once `run` has started."""
        self.log = get_logger("client")
        self.scratch = Scratch()
        self.identity = secrets.token_hex(16)
        """Told to servers of our kind: whoever has it may take its reverse listeners over."""
        self.declared = frozenset(r.target for r in settings.remotes if r.reverse)
        """What servers may open channels to."""
        self._session: ClientSession | None = None  # the open one
        self._opened = trio.Event()  # set while there is one
        self._past = Past()
        self._failure: CotunError | None = None  # what ends the client
        self._retry = trio.Event()
        self._dialects = settings.dialects
        self._tls_context = client_context(settings.tls) if settings.server.tls else None
        self._proxy = settings.proxy
        self._proxy_context = (
            client_context(ClientTls(ca=settings.tls.ca))
            if settings.proxy is not None and settings.proxy.tls
            else None
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and stay connected until cancelled.  Started when all remotes are listening.

        Returns when a stdio remote has come to its end.  Raises `UsageError` where a remote cannot
        listen, the `CotunError` that cannot heal or that ended a stdio remote, or `GaveUp`.
        """
        listeners: list[Listener] = []
        try:
            for remote in self.settings.remotes:
                if not (remote.reverse or remote.stdio):
                    listeners.append(await open_listener(remote))
                    self.addresses += listeners[-1].addresses
                    for address in listeners[-1].addresses:
                        self.log.info("Listening on %s for %s", address, remote)
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._serve_listener, nursery, listener)
                task_status.started()
                for remote in self.settings.remotes:
                    if remote.stdio:
                        nursery.start_soon(self._carry_stdio, remote, nursery.cancel_scope)
                self._failure = await self._stay_connected()
                nursery.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.close()
        if self._failure is not None:
            raise self._failure

    def retry_now(self) -> None:
        """Cut the present wait for the next attempt short."""
        self._retry.set()

    def log_snapshot(self) -> None:
        """Log what is going on."""
        self.log.info("%s", snapshot(self._past, [self._session] if self._session else []))

    # ---- what arrives here

    async def _serve_listener(self, nursery: trio.Nursery, listener: Listener) -> None:
        def accepted(remote: Remote, sock: socket.socket, peer: str) -> None:
            if self._session is not None:
                self._session.forward(sock, peer, remote)
            else:
                nursery.start_soon(self._wait_for_session, remote, sock, peer)

        await listener.serve(
            accepted,
            lambda: self._session,
            udp_max_size=self.settings.timings.udp_max_size,
            log=self.log.within(remote=listener.remote),
        )

    async def _carry_stdio(self, remote: Remote, ended: trio.CancelScope) -> None:
        """Carry standard input and output, and end the client after it."""
        try:
            with trio.fail_after(self.settings.timings.ssh_wait):
                while self._session is None:
                    await self._opened.wait()
            channel = await self._session.connection.open_channel(remote.channel_target)
            await carry_stdio(channel)
        except trio.TooSlowError:
            self._failure = ConnectionLost(f"no tunnel for {remote}")
        except CotunError as error:
            self._failure = error
        ended.cancel()

    async def _wait_for_session(self, remote: Remote, sock: socket.socket, peer: str) -> None:
        """Forward a connection that came while there was no session, when there is one."""
        handed_over = False
        try:
            with trio.move_on_after(self.settings.timings.ssh_wait):
                while self._session is None:
                    await self._opened.wait()
                self._session.forward(sock, peer, remote)
                handed_over = True
        finally:
            if not handed_over:
                self.log.info("no tunnel for %s from %s: closed", remote, peer)
                close(sock, reset=True)

    # ---- staying connected

    async def _stay_connected(self) -> CotunError:
        """Connect again and again; return the error that says that it makes no sense any more."""
        failed, most = 0, self.settings.max_retry_count
        while True:
            session, failure = await self._connect_once()
            if session is not None and session.lasted >= STABLE:
                failed = 0
            self._log_end(session, failure, failed)
            if failure.fatal and most is None:
                return failure
            if most is not None and failed >= most:
                self.log.info("Give up")
                return GaveUp(f"gave up after {failed + 1} attempts: {failure}")
            # 2³⁰ s is far above any interval, and far below what a float can hold.
            interval = min(FIRST_INTERVAL * 2 ** min(failed, 30), self.settings.max_retry_interval)
            failed += 1
            await self._wait(random.uniform(0, interval))

    def _log_end(self, session: ClientSession | None, failure: CotunError, failed: int) -> None:
        if session is not None and session.was_open:
            self.log.info("Disconnected: %s", failure)
        elif isinstance(failure, AuthenticationFailed):
            self.log.info("Authentication failed: %s", failure)
        elif isinstance(failure, FingerprintMismatch):
            self.log.info("%s", failure)
        else:
            most = self.settings.max_retry_count
            attempt = f" (Attempt: {failed}/{'unlimited' if most is None else most})"
            self.log.info("Connection error: %s%s", failure, attempt if failed else "")

    async def _wait(self, seconds: float) -> None:
        self.log.info("Retrying in %s...", format_duration(round(seconds, 3)))
        self._retry = trio.Event()
        with trio.move_on_after(seconds):
            await self._retry.wait()

    async def _connect_once(self) -> tuple[ClientSession | None, CotunError]:
        """Connect, and live until the connection ends; return the session and why it ended."""
        session: ClientSession | None = None
        failure: CotunError | None = None
        for dialect in self._dialects:
            try:
                session = await self._dial(dialect)
                await self._live(session)
            except UpgradeRefused as error:
                failure = error
                continue  # perhaps it speaks the other dialect
            except CotunError as error:
                failure = error
            except Exception:
                # Whatever a server makes us do ends with its session, here as in the server.
                self.log.error("internal error, the session is closed")
                self.log.debug("what happened", exc_info=True)
                failure = ConnectionLost("internal error")
            if session is not None and session.was_open:
                # It does speak this one; but its successor need not.
                self._dialects = (dialect, *(d for d in self.settings.dialects if d is not dialect))
            break
        assert failure is not None
        return session, failure

    async def _dial(self, dialect: Dialect) -> ClientSession:
        url, timings = self.settings.server, self.settings.timings
        self.log.debug("connecting to %s", url)
        if self._proxy is None:
            transport = Transport(await dial_tcp(url.host, url.port, timeout=timings.dial_timeout))
        else:
            transport = await dial_through(
                self._proxy,
                url.host,
                url.port,
                timeout=timings.dial_timeout,
                tls=self._proxy_context,
            )
        try:
            await self._shake_hands(transport)
        except BaseException:
            close(transport.sock)
            raise
        wire = Wire(
            transport.sock,
            self.scratch.read,
            client=True,
            tls=transport.tls,
            unread=transport.unread,
        )
        return ClientSession(self, wire, dialect)

    async def _shake_hands(self, transport: Transport) -> None:
        """Do the TLS handshake, where the server's URL asks for one."""
        if self._tls_context is None:
            return
        settings = self.settings
        tls = Tls(self._tls_context, name=settings.tls.sni or settings.server.host)
        tls.feed(transport.unread)
        transport.unread = b""
        # With a proxy, there may be TLS already.
        transport.tls = Nested(transport.tls, tls) if isinstance(transport.tls, Tls) else tls
        timeout = settings.timings.ws_timeout
        try:
            with trio.fail_after(timeout):
                await transport.shake_hands()
        except trio.TooSlowError:
            raise TlsFailed(f"TLS: no handshake in {format_duration(timeout)}") from None

    async def _live(self, session: ClientSession) -> None:
        deadline = trio.current_time() + self.settings.timings.ssh_timeout
        try:
            await session.run(deadline=deadline)
        finally:
            self.session_ended()
            self._past.add(session)

    def session_opened(self, session: ClientSession) -> None:
        """Give the session to whoever waits for one."""
        self._session = session
        self._opened.set()

    def session_ended(self) -> None:
        """Let connections wait for the next session from now on."""
        if self._session is not None:
            self._session = None
            self._opened = trio.Event()
