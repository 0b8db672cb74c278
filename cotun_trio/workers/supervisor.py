"""The supervisor: listens, accepts, and looks like a single server from outside.

To its user and to the service manager, it is the server: the pid file, the notifications, the
signals and the exit status are its own.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.admin.choice import interface_for
from cotun_trio.errors import CotunError
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.server.files import ServerFiles
from cotun_trio.server.listening import SocketListening
from cotun_trio.units import format_duration
from cotun_trio.workers import control
from cotun_trio.workers.control_link import LinkLost
from cotun_trio.workers.handover import Connection
from cotun_trio.workers.shown import ShownWorkers
from cotun_trio.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.system.systemd import Notifier, Passed
    from cotun_trio.workers.worker_handle import WorkerHandle

RELOAD = 60.0
"""Seconds for a worker to read files again: they may be large, and on a slow disk."""


class Supervisor:
    """A server with these `settings`, in as many worker processes as `process` says.

    `passed` are listening sockets that the service manager has opened, and `notifier` tells it how
    the server is.  Raises `CotunError` for files that cannot be used.
    """

    def __init__(
        self,
        settings: ServerSettings,
        process: ProcessSettings,
        passed: Passed,
        notifier: Notifier,
    ) -> None:
        self.notifier = notifier
        self.log = get_logger("server")
        self._files = ServerFiles(settings, self.log)
        self._settings = attrs.evolve(settings, host_key=self._files.host_key)
        self._process = process
        self._listening = SocketListening(settings, self.log, passed)
        self._nursery: trio.Nursery | None = None
        self._is_ready = False
        self._shutdown = trio.Event()
        self._can_accept = trio.Event()  # a worker answers, and can be given connections
        self._accepting: set[trio.CancelScope] = set()
        self._pool = WorkerPool(self._settings, process, self.log, self._pool_changed)
        self.shown = ShownWorkers(self._pool)
        """The server, as an administrator sees it."""

    async def run(self) -> None:
        """Serve until `shut_down`, and until that is done, or until cancelled.

        Raises `CotunError` where it cannot.
        """
        failure: CotunError | None = None
        admin = interface_for(self.shown, self._settings, self.log)
        try:
            await admin.open()
            await self._listening.open()
            self._files.announce(self._listening.addresses)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(admin.run)
                try:
                    await self._pool.start(nursery)
                    await self._serve()
                except CotunError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            self._listening.close()
            self._pool.close()
            admin.close()
        if failure is not None:
            raise failure

    async def _serve(self) -> None:
        """Accept connections until `shut_down`, and then wait for the workers to end."""
        async with trio.open_nursery() as accepting:
            self._accept(accepting)
            self._is_ready = True
            self.shown.listens(self._listening.addresses)
            self.notifier.ready(self._status())
            await self._shutdown.wait()
            accepting.cancel_scope.cancel()
        self.shown.drains()
        self._listening.close()
        grace = self._settings.timings.shutdown_grace
        self.notifier.stopping(grace)
        self.log.info(
            "Shutting down, %d sessions have %s to end", self._sessions, format_duration(grace)
        )
        await self._pool.end(grace)

    def shut_down(self) -> None:
        """See `Server.shut_down`."""
        self._shutdown.set()

    # ---- accepting

    def _accept(self, accepting: trio.Nursery) -> None:
        self.log.info("%d workers are ready", self._process.workers)
        self._listening.announce()
        for listener in self._listening.main:
            accepting.start_soon(self._accept_on, listener, False)
        for listener in self._listening.health:
            accepting.start_soon(self._accept_on, listener, True)

    async def _accept_on(self, listener: socket.socket, health: bool) -> None:
        """Accept while a worker answers; while none does, the kernel keeps new connections."""
        while True:
            await self._can_accept.wait()
            with trio.CancelScope() as scope:
                self._accepting.add(scope)
                try:
                    await accept_forever(listener, functools.partial(self._accepted, health))
                finally:
                    self._accepting.remove(scope)

    def _accepted(self, health: bool, sock: socket.socket, address: object) -> None:
        assert isinstance(address, tuple)
        host, port = address[:2]
        self._pool.hand_over(Connection(health, host, port), sock)

    # ---- the workers

    def _pool_changed(self) -> None:
        is_open = self._pool.dispatch.is_open
        if is_open and not self._can_accept.is_set():
            self._can_accept.set()
        elif not is_open and self._can_accept.is_set():
            self._can_accept = trio.Event()
            for scope in self._accepting:
                scope.cancel()
        if self._is_ready and not self._shutdown.is_set():
            self.notifier.status(self._status())

    @property
    def _sessions(self) -> int:
        return sum(worker.sessions for worker in self._pool.workers)

    def _status(self) -> str:
        workers = len(self._pool.dispatch.balancer)
        where = ", ".join(self._listening.addresses)
        return f"Listening on {where}; {self._sessions} sessions in {workers} workers"

    def _soon(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None and not self._shutdown.is_set():
            self._nursery.start_soon(task, *args)

    def replace_all(self) -> None:
        """Replace all workers, soon: one after the other, and no new connection is lost."""
        self._soon(self._pool.replace_all, self._nursery)

    def reload(self) -> None:
        """Have all workers read the users file and the certificate again, soon."""
        self._soon(self._reload)

    async def _reload(self) -> None:
        async def read_again(worker: WorkerHandle) -> None:
            with trio.move_on_after(RELOAD), contextlib.suppress(LinkLost):
                await worker.link.ask(control.Reload(), control.Done)

        with self.notifier.reloading():
            async with trio.open_nursery() as nursery:
                for worker in self._pool.workers:
                    nursery.start_soon(read_again, worker)

    def log_snapshot(self) -> None:
        """Log the figures of all workers together, soon."""
        self._soon(self._log_snapshot)

    async def _log_snapshot(self) -> None:
        total, _ = await self.shown.stats()
        words = []
        for worker in self.shown.workers:
            sessions = f"{worker.figures.sessions} sessions" if worker.answers else "no answer"
            words.append(f"{worker.number} (process {worker.process}, {sessions})")
        line = total.show(self.shown.uptime)
        self.log.info("%s, workers %s", line, ", ".join(words) or "none")
        for handle in self._pool.workers:
            handle.link.send(control.LogTasks())
