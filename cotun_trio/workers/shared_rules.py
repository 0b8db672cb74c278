"""Decisions for all workers: the price of a failed login, and whether a listener is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.penalties import Penalties
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.workers import control
from cotun_trio.workers.control_link import LinkLost

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.access.penalties import Bar
    from cotun_trio.workers.control_link import ControlLink
    from cotun_trio.workers.worker_handle import WorkerHandle

PATIENCE = 2.0
"""Seconds for a worker to answer a claim: four times as long as it waits for an old session."""


class SharedRules:
    """Decides for all of `workers`.

    `per_minute` failed logins bar their source; 0 is for no such limit.
    """

    def __init__(self, workers: Collection[WorkerHandle], *, per_minute: int) -> None:
        self._workers = workers
        self._penalties = Penalties(per_minute)

    def login_failed(self, source: str) -> control.Penalty:
        """Count a failed login; where its source is barred for that, tell all workers."""
        verdict = self._penalties.failed(source, trio.current_time())
        if verdict.barred_for:
            self._tell_all(control.Barred(source, verdict.barred_for))
        return control.Penalty(verdict.delay, verdict.barred_for)

    def bars(self) -> list[Bar]:
        """See `cotun_trio.admin.watched.Bars`; so for the next two."""
        return self._penalties.bars(trio.current_time())

    def lift(self, source: str) -> bool:
        """Let `source` in again, in all workers; return whether it was barred."""
        lifted = self._penalties.lift(source, trio.current_time())
        if lifted:
            self._tell_all(control.Lifted(source))
        return lifted

    def lift_all(self) -> int:
        """Let all sources in again, in all workers; return how many were barred."""
        self._tell_all(control.Lifted(None))
        return self._penalties.lift_all(trio.current_time())

    def _tell_all(self, message: control.Message) -> None:
        for worker in self._workers:
            worker.link.send(message)

    def tell_barred(self, link: ControlLink) -> None:
        """Tell a new worker which sources are barred."""
        for bar in self._penalties.bars(trio.current_time()):
            link.send(control.Barred(bar.source, bar.seconds))

    async def settle(self, claim: control.Claim, claimant: WorkerHandle, number: int) -> None:
        """Ask all other workers to yield to a session of `claimant`'s, and answer its question.

        A silent worker is not asked.  Where it holds the place, the kernel refuses that to the new
        session.
        """
        outcomes = [Yielded.NOTHING]

        async def ask(worker: WorkerHandle) -> None:
            outcome = Yielded.KEPT  # by a worker that does not answer
            with trio.move_on_after(PATIENCE):
                try:
                    outcome = (await worker.link.ask(claim, control.Yield)).outcome
                except LinkLost:
                    outcome = Yielded.NOTHING  # it is dead, and the kernel has freed its places
            outcomes.append(outcome)

        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                if worker is not claimant and worker.is_ready and not worker.is_silent:
                    nursery.start_soon(ask, worker)
        outcome = next(o for o in (Yielded.KEPT, Yielded.FREED, Yielded.NOTHING) if o in outcomes)
        claimant.link.send(control.Yield(outcome), number=number)
