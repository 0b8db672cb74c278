"""The workers of a supervisor: started, heard, replaced when they die, retired."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import trio

from cotun_trio import logs
from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.logs.events import recorded
from cotun_trio.workers import control
from cotun_trio.workers.account import Account
from cotun_trio.workers.dispatch import Dispatch
from cotun_trio.workers.launch import Launcher
from cotun_trio.workers.restarts import Restarts
from cotun_trio.workers.shared_rules import SharedRules
from cotun_trio.workers.spawn import DEATH, show_end

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.logs import Context
    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.workers.control_link import Received
    from cotun_trio.workers.handover import Connection
    from cotun_trio.workers.worker_handle import WorkerHandle

MARGIN = 2.0
"""Seconds more than its grace that a worker has to end."""


class WorkerPool:
    """As many workers as `process` says, and one more while one takes another's place.

    `changed` is called when the workers, their sessions, or the room for connections have changed.
    `start` it, `end` it and `close` it.
    """

    def __init__(
        self,
        settings: ServerSettings,
        process: ProcessSettings,
        log: Context,
        changed: Callable[[], None],
    ) -> None:
        self.workers: list[WorkerHandle] = []
        self.dispatch = Dispatch(self.workers)
        """Gives accepted connections to workers."""
        self.rules = SharedRules(self.workers, per_minute=settings.max_auth_failures)
        """Decides for all of them together."""
        self.past = Account()
        """The account of workers that have ended."""
        self._settings = settings
        self._size = process.workers
        self._log = log
        self._changed = changed
        self._launcher = Launcher(settings, process)
        self._replacing = trio.Lock()
        self._ending = False

    def close(self) -> None:
        """Close the shared memory and the connections that no worker has taken.

        To be called when all workers are gone.
        """
        self.dispatch.close()
        self._launcher.close()

    # ---- all together

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all workers, in tasks of `nursery`.  Raises `CotunError` where one cannot serve."""
        try:
            workers = [
                await nursery.start(self._live, nursery, Restarts()) for _ in range(self._size)
            ]
        except OSError as error:
            raise CotunError(f"cannot start a worker: {error.strerror}") from None
        for worker in workers:
            await worker.settled.wait()
            if worker.ended.is_set():
                reason = escape(worker.problem) or "a worker has ended before it was ready"
                raise CotunError(reason)
        for worker in workers:
            worker.keep()
            if worker.ended.is_set():  # while we waited for another one
                nursery.start_soon(self._start_another, nursery, worker.restarts)

    async def end(self, grace: float) -> None:
        """Have all workers end, and wait for it, for `grace` seconds and a little more."""
        self._ending = True
        self.dispatch.close()
        for worker in self.workers:
            worker.retire()
        with trio.move_on_after(grace + MARGIN):
            for worker in list(self.workers):
                await worker.ended.wait()

    async def replace_all(self, nursery: trio.Nursery) -> None:
        """Replace one worker after the other by a new one."""
        for worker in list(self.workers):
            if not await self.replace(worker, nursery):
                self._log.error("the workers are not replaced: a new one cannot serve")
                return
        self._log.info("all workers are replaced")

    async def replace(self, worker: WorkerHandle, nursery: trio.Nursery) -> bool:
        """Start another worker in the place of `worker`, which ends when that is ready.

        Where the new one does not get ready, all stays as it was, and the result is false.
        """
        async with self._replacing:
            if self._ending or not worker.kept or worker.ended.is_set():
                return True
            worker.release()
            successor: WorkerHandle = await nursery.start(self._live, nursery, worker.restarts)
            await successor.settled.wait()
            if not successor.is_ready:
                worker.keep()
                if worker.ended.is_set():
                    nursery.start_soon(self._start_another, nursery, worker.restarts)
                return False
            successor.keep()
            self.dispatch.balancer.remove(worker)
            worker.retire()
            with trio.move_on_after(self._settings.timings.shutdown_grace + MARGIN):
                await worker.ended.wait()
            if not worker.ended.is_set():
                worker.process.kill()
                await worker.ended.wait()
            return True

    def hand_over(self, connection: Connection, sock: socket.socket) -> None:
        """Give an accepted connection to a worker; see `cotun_trio.workers.dispatch`."""
        self.dispatch.hand_over(connection, sock)
        if not self.dispatch.is_open:
            self._changed()

    # ---- one of them

    async def _live(
        self,
        nursery: trio.Nursery,
        restarts: Restarts,
        *,
        task_status: trio.TaskStatus[WorkerHandle] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker from its start to its end, and then have another one started.

        `restarts` is the account of its place.  Raises `OSError` where the system has no process
        for it, before it has started.
        """
        began = trio.current_time()
        async with self._launcher.launch(restarts, self._reconsider) as worker:
            self.rules.tell_barred(worker.link)
            if (level := logs.level()) is not None:  # an administrator may have changed it
                worker.link.send(control.LogLevel(level))
            self.workers.append(worker)
            task_status.started(worker)
            try:
                await self._follow(worker, nursery)
                self._give_up(worker)
                with trio.move_on_after(DEATH):
                    await worker.process.wait()
            finally:
                self._give_up(worker)
                self.workers.remove(worker)
                self.past += worker.account.ended()
        worker.now_ended()
        self._changed()
        if worker.retired:
            self._log.info("worker %d has ended", worker.number)
            self._log.event("worker-ended", worker=worker.number)
            return
        process = worker.process
        why = worker.problem or show_end(process.returncode or 0)
        self._log.warning("worker %d (process %d): %s", worker.number, process.pid, escape(why))
        self._log.event("worker-ended", worker=worker.number, reason=escape(why))
        if worker.kept and not self._ending:
            restarts.ended(trio.current_time() - began)
            nursery.start_soon(self._start_another, nursery, restarts)

    async def _start_another(self, nursery: trio.Nursery, restarts: Restarts) -> None:
        """Start a worker in the place of a dead one, after the wait that `restarts` asks for."""
        while not self._ending:
            await trio.sleep(restarts.delay)
            try:
                worker: WorkerHandle = await nursery.start(self._live, nursery, restarts)
            except OSError as error:  # no process, no memory, no descriptor
                self._log.error("cannot start a worker: %s", error.strerror)
                restarts.not_started()
            else:
                worker.keep()
                return

    def _give_up(self, worker: WorkerHandle) -> None:
        """Give `worker` nothing more, and its untaken connections to others.

        Can be called again.
        """
        self.dispatch.balancer.remove(worker)
        self.dispatch.inherit(worker.outgoing)
        self._changed()

    def _reconsider(self) -> None:
        """Dispatch again, since a worker has become late or silent, or answers again."""
        self.dispatch.again()
        self._changed()

    async def _follow(self, worker: WorkerHandle, nursery: trio.Nursery) -> None:
        """Hear a worker, and watch it, up to its end."""
        async with trio.open_nursery() as tasks:
            tasks.start_soon(worker.link.run)
            tasks.start_soon(worker.watch, self._log)
            try:
                await worker.link.hear(functools.partial(self._hear, worker, tasks, nursery))
            except ProtocolError as error:
                worker.now_failed(str(error))
                worker.process.kill()
            tasks.cancel_scope.cancel()

    def _hear(
        self, worker: WorkerHandle, tasks: trio.Nursery, nursery: trio.Nursery, received: Received
    ) -> None:
        message, number = received.message, received.number
        if isinstance(message, control.Ready):
            worker.now_ready()
            self._log.event("worker-ready", worker=worker.number)
            if not self._ending:
                self.dispatch.balancer.add(worker)
            self._reconsider()
        elif isinstance(message, control.Sessions):
            worker.now_has(message.count)
            self._changed()
        elif isinstance(message, control.LoginFailed):
            worker.link.send(self.rules.login_failed(message.source), number=number)
        elif isinstance(message, control.Claim):
            tasks.start_soon(self.rules.settle, message, worker, number)
        elif isinstance(message, control.CannotServe):
            worker.now_failed(message.reason)
        elif isinstance(message, control.Leaving):
            nursery.start_soon(self.replace, worker, nursery)
        elif isinstance(message, control.Farewell):
            worker.now_left(message.account)
        elif isinstance(message, control.Happened):
            self._note(worker, message)
        else:
            raise ProtocolError(f"a {type(message).__name__} from a worker")

    def _note(self, worker: WorkerHandle, event: control.Happened) -> None:
        """Note an event of a worker, where events are recorded.

        All workers read the same files again: the eldest speaks for all of them.
        """
        events = recorded()
        if events is None:
            return
        if event.kind != "reloaded":
            events.add(event.kind, "server", {**event.facts, "worker": worker.number}, event.at)
        elif worker is self.workers[0]:
            events.add(event.kind, "server", event.facts, event.at)
