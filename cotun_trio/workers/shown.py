"""The workers as the admin interface of their supervisor shows them: one server.

Each request asks all workers anew.  One that does not answer in a moment holds nothing up: its
figures are those that it gave last, and its sessions are not shown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from cotun_trio import logs
from cotun_trio.admin.watched import Fact, NoAnswer, Watched, WorkerFigures
from cotun_trio.counts import Meters, meters
from cotun_trio.snapshot import EndedTotals, Figures, SessionChannels, SessionFigures, figures
from cotun_trio.workers import control, values
from cotun_trio.workers.account import Account
from cotun_trio.workers.control_link import LinkLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.access.penalties import Bar
    from cotun_trio.logs import Level
    from cotun_trio.workers.worker_handle import WorkerHandle
    from cotun_trio.workers.worker_pool import WorkerPool

PATIENCE = 1.0
"""Seconds for a worker to answer."""

T = TypeVar("T")


class ShownWorkers(Watched):
    """The server that the workers of `pool` are."""

    role = "server"

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._began = time.monotonic()
        self._not_ready: str | None = "it does not listen yet"
        self._facts: tuple[Fact, ...] = ()

    def listens(self, addresses: Sequence[str]) -> None:
        """It carries connections to these addresses from now on, if a worker takes them."""
        self._not_ready = None
        self._facts = (Fact("Listens on", tuple(addresses)),)

    @property
    def facts(self) -> Sequence[Fact]:
        """See `Watched`."""
        return self._facts

    def drains(self) -> None:
        """It carries no new connections any more."""
        self._not_ready = "it is shutting down"

    @property
    def not_ready(self) -> str | None:
        """See `Watched`."""
        if self._not_ready is None and not self._pool.dispatch.balancer.is_open:
            return "no worker takes connections"
        return self._not_ready

    @property
    def uptime(self) -> float:
        """See `Watched`."""
        return time.monotonic() - self._began

    @property
    def workers(self) -> Sequence[WorkerFigures]:
        """See `Watched`."""
        return [
            WorkerFigures(
                number=worker.number,
                process=worker.process.pid,
                answers=worker.answers,
                figures=worker.account.figures,
            )
            for worker in self._pool.workers
        ]

    async def stats(self) -> tuple[Figures, Meters]:
        """See `Watched`.  With the figures of this process, and of the workers that have ended."""
        asked_at = trio.current_time()
        for worker, found in (await self._ask_all(tuple[Figures, Meters], "stats")).items():
            worker.now_counted(Account(*found), asked_at)
        # Without a wait in between: a worker that ends goes from one of these to the other.
        total = Account(figures(EndedTotals(), ()), meters()) + self._pool.past
        for worker in self._pool.workers:
            total += worker.account
        return total.figures, total.meters

    async def sessions(self) -> Sequence[SessionFigures]:
        """See `Watched`."""
        found = await self._ask_all(tuple[SessionFigures, ...], "sessions")
        return [
            attrs.evolve(session, worker=worker.number)
            for worker, sessions in found.items()
            for session in sessions
        ]

    async def session(self, identity: str) -> SessionFigures | None:
        """See `Watched`."""
        worker, number = self._worker_of(identity)
        if worker is None:
            return None
        (found,) = await self._ask(worker, tuple[SessionFigures | None], "session", number)
        return None if found is None else attrs.evolve(found, worker=worker.number)

    async def kick(self, identity: str, reason: str) -> bool:
        """See `Watched`."""
        worker, number = self._worker_of(identity)
        if worker is None:
            return False
        return (await self._ask(worker, tuple[bool], "kick", number, reason))[0]

    async def channels(self, identity: str) -> SessionChannels | None:
        """See `Watched`."""
        worker, number = self._worker_of(identity)
        if worker is None:
            return None
        return (await self._ask(worker, tuple[SessionChannels | None], "channels", number))[0]

    # ---- decisions of this process, which the workers are told

    async def bars(self) -> Sequence[Bar]:
        """See `Watched`."""
        return self._pool.rules.bars()

    async def lift(self, source: str) -> bool:
        """See `Watched`."""
        return self._pool.rules.lift(source)

    async def lift_all(self) -> int:
        """See `Watched`."""
        return self._pool.rules.lift_all()

    async def log_level(self) -> Level | None:
        """See `Watched`."""
        return logs.level()

    async def set_log_level(self, level: Level) -> None:
        """See `Watched`.  Workers that begin later have it from their pool."""
        logs.set_level(level)
        for worker in self._pool.workers:
            worker.link.send(control.LogLevel(level))

    # ---- questions

    def _worker_of(self, identity: str) -> tuple[WorkerHandle | None, str]:
        """Return the worker that `SessionFigures.id` names, and the number that it knows."""
        number, _, session = identity.partition(".")
        for worker in self._pool.workers:
            if session and str(worker.number) == number:
                return worker, session
        return None, session

    async def _ask_all(self, kind: type[T], name: str) -> dict[WorkerHandle, T]:
        """Return the answer of each worker that gives one."""
        workers = list(self._pool.workers)
        answers: dict[WorkerHandle, T] = {}

        async def ask(worker: WorkerHandle) -> None:
            try:
                answers[worker] = await self._ask(worker, kind, name)
            except NoAnswer:
                return

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(ask, worker)
        return {worker: answers[worker] for worker in workers if worker in answers}

    async def _ask(self, worker: WorkerHandle, kind: type[T], name: str, *arguments: str) -> T:
        """Call a method of what a worker shows; its result is a `kind`.  Raises `NoAnswer`.

        One that has not begun, or is known to be silent, is not asked: questions would pile up.
        """
        look = control.Look(name, arguments)
        if worker.is_ready and not worker.is_silent:
            with trio.move_on_after(PATIENCE):
                try:
                    parts = await worker.link.ask_for_all(look, control.Seen)
                    found = values.unpack(kind, [item for part in parts for item in part.items])
                except (LinkLost, ValueError):
                    pass
                else:
                    worker.now_answers(True)
                    return found
        worker.now_answers(False)
        raise NoAnswer(f"worker {worker.number} does not answer")
