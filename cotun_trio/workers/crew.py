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
from cotun_trio.workers.link import Link, LinkLost
from cotun_trio.workers.member import Member
from cotun_trio.workers.roster import Roster
from cotun_trio.workers.rulings import Rulings
from cotun_trio.workers.shared_counts import SERVED, SharedCounts, allocate
from cotun_trio.workers.spawn import DEATH, Start, show_end, worker_process

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.logs import Context
    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.workers.link import Received

STABLE = 10.0
"""Seconds after which the death of a worker has nothing to do with its start."""
FIRST_DELAY, MAX_DELAY = 0.1, 30.0
"""Seconds before the next is started, the first time that one has died young and in the end."""
MARGIN = 2.0
"""Seconds more than its grace that a worker has to end."""


class Crew:
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
        self.members: list[Member] = []
        self.roster = Roster[Member]()
        """Those that can be given connections."""
        self.past = Figures()
        """What those have done that have ended as they should."""
        self._settings = settings
        self._process = process
        self._host_key = settings.host_key
        self._log = log
        self._changed = changed
        self._rulings = Rulings(self.members, per_minute=settings.max_auth_failures)
        self._key = secrets.token_bytes(16)
        self._slots = list(range(process.workers + 1))  # those that are free
        self._memory = allocate(len(self._slots))
        self._counts = SharedCounts(self._memory, len(self._slots), self._key)
        self._numbers = itertools.count(1)
        self._replacing = trio.Lock()
        self._ending = False

    def close(self) -> None:
        """Let go of the shared memory, when nobody is there any more."""
        self._counts.close()
        os.close(self._memory)

    # ---- all together

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all workers, in tasks of `nursery`.  Raises `CotunError` where one cannot serve."""
        try:
            members = [
                await nursery.start(self._live, nursery) for _ in range(self._process.workers)
            ]
        except OSError as error:
            raise CotunError(f"cannot start a worker: {error.strerror}") from None
        for member in members:
            await member.settled.wait()
            if member.ended.is_set():
                raise CotunError(member.problem or "a worker has ended before it was ready")
        for member in members:
            member.kept = True
            if member.ended.is_set():  # while another one was waited for
                nursery.start_soon(self._start_another, nursery, 0)

    async def end(self, grace: float) -> None:
        """Have all workers end, and wait for it, for `grace` seconds and a little more."""
        self._ending = True
        for member in self.members:
            member.retire()
        with trio.move_on_after(grace + MARGIN):
            for member in list(self.members):
                await member.ended.wait()

    async def replace_all(self, nursery: trio.Nursery) -> None:
        """Replace one worker after the other by a new one."""
        for member in list(self.members):
            if not await self.replace(member, nursery):
                self._log.error("the workers are not replaced: a new one cannot serve")
                return
        self._log.info("all workers are replaced")

    async def replace(self, member: Member, nursery: trio.Nursery) -> bool:
        """Start another worker in the place of `member`, which ends when that is ready.

        Where it does not get ready, all stays as it was, and the result is false.
        """
        async with self._replacing:
            if self._ending or not member.kept or member.ended.is_set():
                return True
            member.kept = False
            successor: Member = await nursery.start(self._live, nursery)
            await successor.settled.wait()
            if not successor.is_ready:
                member.kept = True
                if member.ended.is_set():
                    nursery.start_soon(self._start_another, nursery, 1)
                return False
            successor.kept = True
            self.roster.remove(member)
            member.retire()
            with trio.move_on_after(self._settings.timings.shutdown_grace + MARGIN):
                await member.ended.wait()
            if not member.ended.is_set():
                member.process.kill()
                await member.ended.wait()
            return True

    # ---- one of them

    async def _live(
        self,
        nursery: trio.Nursery,
        failures: int = 0,
        *,
        task_status: trio.TaskStatus[Member] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker from its start to its end, and then see to it that there is another one.

        `failures` are how many before it have died young.
        """
        slot, began = self._slots.pop(0), trio.current_time()
        try:
            async with worker_process(self._memory) as (process, sock):
                with contextlib.closing(Link(sock, None)) as link:
                    served = self._counts.count(SERVED, slot)
                    number = next(self._numbers)
                    member = Member(number, slot, process, link, served)
                    self._begin(member)
                    task_status.started(member)
                    try:
                        await self._follow(member, nursery)
                        with trio.move_on_after(DEATH):
                            await process.wait()
                    finally:
                        self._leave(member)
        finally:
            self._counts.clear(slot)
            self._slots.append(slot)
        member.now_ended()
        self._changed()
        if member.retired:
            self._log.info("worker %d has ended", number)
            return
        why = member.problem or show_end(process.returncode or 0)
        self._log.warning("worker %d (process %d): %s", number, process.pid, escape(why))
        if member.kept and not self._ending:
            failures = 0 if trio.current_time() - began >= STABLE else failures + 1
            nursery.start_soon(self._start_another, nursery, failures)

    def _begin(self, member: Member) -> None:
        """Tell a new worker all that it has to know."""
        start = Start(
            number=member.number,
            slot=member.slot,
            slots=self._process.workers + 1,
            key=self._key,
            settings=self._settings,
            process=self._process,
            host_key=self._host_key,
        )
        member.link.send(control.Begin(start.pack()))
        self._rulings.tell_barred(member.link)
        self.members.append(member)

    def _leave(self, member: Member) -> None:
        """Have nobody think that `member` is still there; give others what it has not taken."""
        self.members.remove(member)
        self.roster.remove(member)
        self._changed()
        for message, sock in member.link.unsent():
            assert isinstance(message, control.Connection)
            self.hand_over(message, sock)

    async def _start_another(self, nursery: trio.Nursery, failures: int) -> None:
        """Start a worker in the place of one that has died; not at once if it was not the first."""
        while not self._ending:
            if failures > 1:
                await trio.sleep(min(FIRST_DELAY * 2 ** (failures - 2), MAX_DELAY))
            try:
                member: Member = await nursery.start(self._live, nursery, failures)
            except OSError as error:  # no process, no memory, no descriptor
                self._log.error("cannot start a worker: %s", error.strerror)
                failures = max(failures + 1, 2)
            else:
                member.kept = True
                return

    async def _follow(self, member: Member, nursery: trio.Nursery) -> None:
        """Do what a worker asks for, up to its end."""
        async with trio.open_nursery() as tasks:
            tasks.start_soon(member.link.run)
            tasks.start_soon(self._watch, member)
            try:
                await member.link.hear(functools.partial(self._hear, member, tasks, nursery))
            except ProtocolError as error:
                member.problem = str(error)
                member.process.kill()
            tasks.cancel_scope.cancel()

    async def _watch(self, member: Member) -> None:
        with contextlib.suppress(LinkLost):  # `_follow` notices, too
            await member.watch(self._log)

    def _hear(
        self, member: Member, tasks: trio.Nursery, nursery: trio.Nursery, received: Received
    ) -> None:
        message, number = received.message, received.number
        if isinstance(message, control.Ready):
            member.now_ready()
            if not self._ending:
                self.roster.add(member)
            self._changed()
        elif isinstance(message, control.Sessions):
            member.sessions = message.count
            self._changed()
        elif isinstance(message, control.LoginFailed):
            member.link.send(self._rulings.login_failed(message.source), number=number)
        elif isinstance(message, control.Claim):
            tasks.start_soon(self._rulings.settle, message, member, number)
        elif isinstance(message, control.CannotServe):
            member.problem = message.reason
        elif isinstance(message, control.Leaving):
            nursery.start_soon(self.replace, member, nursery)
        elif isinstance(message, control.Farewell):
            done = message.figures
            self.past += attrs.evolve(
                Figures(), ended=done.ended, bytes_in=done.bytes_in, bytes_out=done.bytes_out
            )
        else:
            raise ProtocolError(f"a {type(message).__name__} from a worker")

    # ---- connections

    def hand_over(self, connection: control.Connection, sock: socket.socket) -> None:
        """Give a connection to the worker that has the fewest; close it where there is nobody."""
        member = self.roster.choose()
        if member is None:
            sock.close()
        else:
            member.give(connection, sock)
