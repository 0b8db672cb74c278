"""A worker, as its supervisor sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from cotun_trio.workers import control
from cotun_trio.workers.account import Account

if TYPE_CHECKING:
    import socket

    from cotun_trio.counts import Count
    from cotun_trio.logs import Context
    from cotun_trio.workers.attention import Attention
    from cotun_trio.workers.control_link import ControlLink
    from cotun_trio.workers.handover import Connection, Outgoing
    from cotun_trio.workers.restarts import Restarts


class WorkerHandle:
    """A worker with this number: its process, its link, its connections and its state.

    `restarts` is the account of its place; `served` counts the connections that have ended there.
    """

    def __init__(
        self,
        number: int,
        process: trio.Process,
        link: ControlLink,
        outgoing: Outgoing,
        *,
        served: Count,
        attention: Attention,
        restarts: Restarts,
    ) -> None:
        self.number = number
        self.process = process
        self.link = link
        self.outgoing = outgoing
        self.restarts = restarts
        self.sessions = 0
        """The number of its open sessions."""
        self.account = Account()
        """Its figures and meters, as it gave them last."""
        self.answers = False
        """Whether it has answered the latest question of an administrator."""
        self.kept = False
        """Whether another worker has to take its place when it ends."""
        self.retired = False
        """Whether it has been told to end."""
        self.problem = ""
        """The reason why it cannot serve."""
        self.is_ready = False
        self.settled = trio.Event()
        """It is ready, or has ended."""
        self.ended = trio.Event()
        self._served = served
        self._attention = attention
        self._counted_at = -math.inf

    @property
    def load(self) -> int:
        """See `cotun_trio.workers.balancer.Candidate`."""
        return self.outgoing.given - self._served.own

    @property
    def is_late(self) -> bool:
        """See `cotun_trio.workers.balancer.Candidate`."""
        return self._attention.is_late

    @property
    def is_silent(self) -> bool:
        """See `cotun_trio.workers.balancer.Candidate`."""
        return self._attention.is_silent

    @property
    def has_room(self) -> bool:
        """See `cotun_trio.workers.balancer.Candidate`."""
        return self.outgoing.has_room

    def give(self, connection: Connection, sock: socket.socket) -> bool:
        """Have it serve a connection; see `cotun_trio.workers.handover.Outgoing.give`."""
        if not self.outgoing.give(connection, sock):
            return False
        self._attention.given()
        return True

    # ---- its life

    def keep(self) -> None:
        """Have another worker take its place when it ends."""
        self.kept = True

    def release(self) -> None:
        """Have no other worker take its place when it ends."""
        self.kept = False

    def retire(self) -> None:
        """Have it end, when its connections have ended, or its time is over."""
        self.release()
        if not self.retired:
            self.retired = True
            self.link.send(control.Drain())

    def now_ready(self) -> None:
        """It can be given connections."""
        self.is_ready = True
        self.settled.set()

    def now_has(self, sessions: int) -> None:
        """It has that many open sessions."""
        self.sessions = sessions

    def now_answers(self, answers: bool) -> None:
        """It has answered a question of an administrator, or not in time."""
        self.answers = answers

    def now_counted(self, account: Account, asked_at: float) -> None:
        """It has given this account, for which it was asked at that time by Trio's clock.

        The account stays the latest one, in whatever order answers are looked at.
        """
        if asked_at >= self._counted_at:
            self._counted_at = asked_at
            self.account = account

    def now_left(self, account: Account) -> None:
        """It has given its last account."""
        self.now_counted(account, math.inf)

    def now_failed(self, problem: str) -> None:
        """It cannot serve, or has broken the protocol: this is the reason for its end."""
        self.problem = problem

    def now_ended(self) -> None:
        """It is gone."""
        self.settled.set()
        self.ended.set()

    async def watch(self, log: Context) -> None:
        """Notice when it does not answer; kill it when it makes no progress.  Until cancelled."""

        def dead() -> None:
            log.warning("worker %d makes no progress any more: killing it", self.number)
            self.process.kill()

        await self._attention.run(dead)
