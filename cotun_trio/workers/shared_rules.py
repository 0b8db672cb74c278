"""What workers ask their supervisor: what a failed login costs, and whether a listener is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.penalties import Penalties
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.workers import control
from cotun_trio.workers.control_link import LinkLost

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.workers.control_link import ControlLink
    from cotun_trio.workers.worker_handle import WorkerHandle

PATIENCE = 2.0
"""Seconds for a worker to say what it has, four times what it gives to an old session."""


class SharedRules:
    """Decides what concerns all of `workers`."""

    def __init__(self, workers: Collection[WorkerHandle], *, per_minute: int) -> None:
        self._workers = workers
        self._penalties = Penalties(per_minute)

    def login_failed(self, source: str) -> control.Penalty:
        """Count a failed login, and have all know a source that is barred because of it."""
        verdict = self._penalties.failed(source, trio.current_time())
        if verdict.barred_for:
            for worker in self._workers:
                worker.link.send(control.Barred(source, verdict.barred_for))
        return control.Penalty(verdict.delay, verdict.barred_for)

    def tell_barred(self, link: ControlLink) -> None:
        """Have a new worker know who is barred."""
        for source, seconds in self._penalties.all_barred(trio.current_time()):
            link.send(control.Barred(source, seconds))

    async def settle(self, claim: control.Claim, claimant: WorkerHandle, number: int) -> None:
        """Ask all others to yield to a session of `claimant`'s, and answer its question.

        One that is silent is not waited for.  What it listens on the kernel keeps for it, so that
        the session that claims it finds out by itself.
        """
        outcomes = [Yielded.NOTHING]

        async def ask(worker: WorkerHandle) -> None:
            outcome = Yielded.KEPT  # by who does not answer
            with trio.move_on_after(PATIENCE):
                try:
                    outcome = (await worker.link.ask(claim, control.Yield)).outcome
                except LinkLost:
                    outcome = Yielded.NOTHING  # it is dead, and the kernel has freed all it had
            outcomes.append(outcome)

        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                if worker is not claimant and worker.is_ready and not worker.is_silent:
                    nursery.start_soon(ask, worker)
        outcome = next(o for o in (Yielded.KEPT, Yielded.FREED, Yielded.NOTHING) if o in outcomes)
        claimant.link.send(control.Yield(outcome), number=number)
