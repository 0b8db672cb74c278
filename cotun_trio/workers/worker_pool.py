"""The workers of a supervisor: started, heard, replaced when they die, retired."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import secrets
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.snapshot import Figures
from cotun_trio.workers import control
from cotun_trio.workers.attention import Attention
from cotun_trio.workers.control_link import ControlLink
from cotun_trio.workers.dispatch import Dispatch
from cotun_trio.workers.handover import Outgoing
from cotun_trio.workers.restarts import Restarts
from cotun_trio.workers.shared_counts import SERVED, STEPS, TAKEN, SharedCounts, allocate
from cotun_trio.workers.shared_rules import SharedRules
from cotun_trio.workers.spawn import DEATH, Start, show_end, worker_process
from cotun_trio.workers.worker_handle import WorkerHandle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.logs import Context
    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.workers.control_link import Received
    from cotun_trio.workers.handover import Connection

MARGIN = 2.0
"""Seconds more than its grace that a worker has to end."""


class WorkerPool:
    """Up to `size` workers, and one more while one takes another's place.

    `changed` is called when there is news: who is there, and how many sessions.  `run` it.
    """

    def __init__(
        self,
        settings: ServerSettings,
        process: ProcessSettings,
        log: Context,
        changed: Callable[[], None],
    ) -> None:
        assert settings.host_key is not None
        self.workers: list[WorkerHandle] = []
        self.dispatch = Dispatch(self.workers)
        """What is accepted goes through this."""
        self.past = Figures()
        """What those have done that have ended as they should."""
        self._settings = settings
        self._process = process
        self._host_key = settings.host_key
        self._log = log
        self._changed = changed
        self._rules = SharedRules(self.workers, per_minute=settings.max_auth_failures)
        self._key = secrets.token_bytes(16)
        self._slots = list(range(process.workers + 1))  # those that are free
        self._memory = allocate(len(self._slots))
        self._counts = SharedCounts(self._memory, len(self._slots), self._key)
        self._numbers = itertools.count(1)
        self._replacing = trio.Lock()
        self._ending = False

    def close(self) -> None:
        """Let go of the shared memory and of what nobody has taken, when all workers are gone."""
        self.dispatch.close()
        self._counts.close()
        os.close(self._memory)

    # ---- all together

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all workers, in tasks of `nursery`.  Raises `CotunError` where one cannot serve."""
        try:
            workers = [
                await nursery.start(self._live, nursery, Restarts())
                for _ in range(self._process.workers)
            ]
        except OSError as error:
            raise CotunError(f"cannot start a worker: {error.strerror}") from None
        for worker in workers:
            await worker.settled.wait()
            if worker.ended.is_set():
                reason = escape(worker.problem) or "a worker has ended before it was ready"
                raise CotunError(reason)
        for worker in workers:
            worker.kept = True
            if worker.ended.is_set():  # while another one was waited for
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

        Where it does not get ready, all stays as it was, and the result is false.
        """
        async with self._replacing:
            if self._ending or not worker.kept or worker.ended.is_set():
                return True
            worker.kept = False
            successor: WorkerHandle = await nursery.start(self._live, nursery, worker.restarts)
            await successor.settled.wait()
            if not successor.is_ready:
                worker.kept = True
                if worker.ended.is_set():
                    nursery.start_soon(self._start_another, nursery, worker.restarts)
                return False
            successor.kept = True
            self.dispatch.balancer.remove(worker)
            worker.retire()
            with trio.move_on_after(self._settings.timings.shutdown_grace + MARGIN):
                await worker.ended.wait()
            if not worker.ended.is_set():
                worker.process.kill()
                await worker.ended.wait()
            return True

    # ---- one of them

    async def _live(
        self,
        nursery: trio.Nursery,
        restarts: Restarts,
        *,
        task_status: trio.TaskStatus[WorkerHandle] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker from its start to its end, and then see to it that there is another one.

        `restarts` is the account of its place.  Raises `OSError` where the system has no process
        for it, before it has started.
        """
        slot, began = self._slots.pop(0), trio.current_time()
        try:
            with contextlib.closing(Outgoing(self._counts.count(TAKEN, slot))) as outgoing:
                async with worker_process(self._memory, outgoing.theirs) as (process, sock):
                    with contextlib.closing(ControlLink(sock)) as link:
                        worker = self._handle(slot, process, link, outgoing, restarts)
                        self._begin(worker)
                        task_status.started(worker)
                        try:
                            await self._follow(worker, nursery)
                            self._give_up(worker)
                            with trio.move_on_after(DEATH):
                                await process.wait()
                        finally:
                            self._give_up(worker)
                            self.workers.remove(worker)
        finally:
            self._counts.clear(slot)
            self._slots.append(slot)
        worker.now_ended()
        self._changed()
        if worker.retired:
            self._log.info("worker %d has ended", worker.number)
            return
        why = worker.problem or show_end(process.returncode or 0)
        self._log.warning("worker %d (process %d): %s", worker.number, process.pid, escape(why))
        if worker.kept and not self._ending:
            restarts.ended(trio.current_time() - began)
            nursery.start_soon(self._start_another, nursery, restarts)

    def _handle(
        self,
        slot: int,
        process: trio.Process,
        link: ControlLink,
        outgoing: Outgoing,
        restarts: Restarts,
    ) -> WorkerHandle:
        steps = self._counts.count(STEPS, slot)
        return WorkerHandle(
            next(self._numbers),
            slot,
            process,
            link,
            outgoing,
            served=self._counts.count(SERVED, slot),
            attention=Attention(link, outgoing, steps, self._reconsider),
            restarts=restarts,
        )

    def _begin(self, worker: WorkerHandle) -> None:
        """Tell a new worker all that it has to know."""
        start = Start(
            number=worker.number,
            slot=worker.slot,
            slots=self._process.workers + 1,
            key=self._key,
            settings=self._settings,
            process=self._process,
            host_key=self._host_key,
        )
        worker.link.send(control.Begin(start.pack()))
        self._rules.tell_barred(worker.link)
        self.workers.append(worker)

    def hand_over(self, connection: Connection, sock: socket.socket) -> None:
        """Give an accepted connection to a worker; see `cotun_trio.workers.dispatch`."""
        self.dispatch.hand_over(connection, sock)
        if not self.dispatch.is_open:
            self._changed()

    def _give_up(self, worker: WorkerHandle) -> None:
        """Give `worker` nothing more, and others what it has not taken.  Can be called again."""
        self.dispatch.balancer.remove(worker)
        self.dispatch.inherit(worker.outgoing)
        self._changed()

    def _reconsider(self) -> None:
        """Do what follows when a worker does not answer any more, or does so again."""
        self.dispatch.again()
        self._changed()

    async def _start_another(self, nursery: trio.Nursery, restarts: Restarts) -> None:
        """Start a worker in the place of one that has died; not at once if it was not the first."""
        while not self._ending:
            await trio.sleep(restarts.delay)
            try:
                worker: WorkerHandle = await nursery.start(self._live, nursery, restarts)
            except OSError as error:  # no process, no memory, no descriptor
                self._log.error("cannot start a worker: %s", error.strerror)
                restarts.not_started()
            else:
                worker.kept = True
                return

    async def _follow(self, worker: WorkerHandle, nursery: trio.Nursery) -> None:
        """Do what a worker asks for, up to its end."""
        async with trio.open_nursery() as tasks:
            tasks.start_soon(worker.link.run)
            tasks.start_soon(worker.watch, self._log)
            try:
                await worker.link.hear(functools.partial(self._hear, worker, tasks, nursery))
            except ProtocolError as error:
                worker.problem = str(error)
                worker.process.kill()
            tasks.cancel_scope.cancel()

    def _hear(
        self, worker: WorkerHandle, tasks: trio.Nursery, nursery: trio.Nursery, received: Received
    ) -> None:
        message, number = received.message, received.number
        if isinstance(message, control.Ready):
            worker.now_ready()
            if not self._ending:
                self.dispatch.balancer.add(worker)
            self._reconsider()
        elif isinstance(message, control.Sessions):
            worker.sessions = message.count
            self._changed()
        elif isinstance(message, control.LoginFailed):
            worker.link.send(self._rules.login_failed(message.source), number=number)
        elif isinstance(message, control.Claim):
            tasks.start_soon(self._rules.settle, message, worker, number)
        elif isinstance(message, control.CannotServe):
            worker.problem = message.reason
        elif isinstance(message, control.Leaving):
            nursery.start_soon(self.replace, worker, nursery)
        elif isinstance(message, control.Farewell):
            done = message.figures
            self.past += attrs.evolve(
                Figures(), ended=done.ended, bytes_in=done.bytes_in, bytes_out=done.bytes_out
            )
        else:
            raise ProtocolError(f"a {type(message).__name__} from a worker")
