"""The server: accepts connections, lets clients in, and owns their sessions.

Each connection is a task of its own behind a guard: whatever one of them does, or makes us do, ends
there, in one log line.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import trio

import cotun_trio
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.access.users import Users
from cotun_trio.errors import CotunError
from cotun_trio.escape import escape
from cotun_trio.forwards.relay import close
from cotun_trio.http import front
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_address
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.reverse import Listeners
from cotun_trio.server_session import ServerSession
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket

    from cotun_trio.logs import Context
    from cotun_trio.settings import ServerSettings


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
