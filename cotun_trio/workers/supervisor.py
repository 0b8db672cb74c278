"""The supervisor: listens, accepts, and is to the outside what a single server would be.

To whoever runs it, it is the server: the pid file, the service manager, the signals and the exit
status are its own.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import CotunError
from cotun_trio.logs import get_logger
from cotun_trio.net.accept import accept_forever
from cotun_trio.server.files import ServerFiles
from cotun_trio.server.listening import SocketListening
from cotun_trio.snapshot import EndedTotals, Figures, figures
from cotun_trio.units import format_duration
from cotun_trio.workers import control
from cotun_trio.workers.crew import Crew
from cotun_trio.workers.handover import Connection
from cotun_trio.workers.link import LinkLost

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.system.systemd import Notifier, Passed
    from cotun_trio.workers.member import Member

PATIENCE = 5.0
"""Seconds for a worker to say what it is doing."""
RELOAD = 60.0
"""The same to read files again: they may be large, and on a slow disk."""


class Supervisor:
    """A server of several processes: those that `process` says, for `settings`.

    `passed` are listening sockets that are there already, and `notifier` knows who wants to hear
    how it is.  Raises `CotunError` for what the settings name and cannot be used.
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
        self._began = time.monotonic()
        self._nursery: trio.Nursery | None = None
        self._is_ready = False
        self._shutdown = trio.Event()
        self._somebody = trio.Event()  # there is a worker that answers
        self._accepting: set[trio.CancelScope] = set()
        self._crew = Crew(self._settings, process, self.log, self._crew_changed)

    async def run(self) -> None:
        """Serve until `shut_down`, and until that is done, or until cancelled.

        Raises `CotunError` where it cannot.
        """
        failure: CotunError | None = None
        try:
            await self._listening.open()
            self._files.announce()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._crew.start(nursery)
                    await self._serve()
                except CotunError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            self._listening.close()
            self._crew.close()
        if failure is not None:
            raise failure

    async def _serve(self) -> None:
        """Accept connections until it is time to end, and then see the workers out."""
        async with trio.open_nursery() as accepting:
            self._accept(accepting)
            self._is_ready = True
            self.notifier.ready(self._status())
            await self._shutdown.wait()
            accepting.cancel_scope.cancel()
        self._listening.close()
        grace = self._settings.timings.shutdown_grace
        self.notifier.stopping(grace)
        self.log.info(
            "Shutting down, %d sessions have %s to end", self._sessions, format_duration(grace)
        )
        await self._crew.end(grace)

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
        """Accept while a worker answers; while none does, the kernel keeps what comes."""
        while True:
            await self._somebody.wait()
            with trio.CancelScope() as scope:
                self._accepting.add(scope)
                try:
                    await accept_forever(listener, functools.partial(self._accepted, health))
                finally:
                    self._accepting.remove(scope)

    def _accepted(self, health: bool, sock: socket.socket, address: object) -> None:
        assert isinstance(address, tuple)
        host, port = address[:2]
        self._crew.hand_over(Connection(health, host, port), sock)

    # ---- the workers

    def _crew_changed(self) -> None:
        is_open = self._crew.dispatch.is_open
        if is_open and not self._somebody.is_set():
            self._somebody.set()
        elif not is_open and self._somebody.is_set():
            self._somebody = trio.Event()
            for scope in self._accepting:
                scope.cancel()
        if self._is_ready and not self._shutdown.is_set():
            self.notifier.status(self._status())

    @property
    def _sessions(self) -> int:
        return sum(member.sessions for member in self._crew.members)

    def _status(self) -> str:
        workers = len(self._crew.dispatch.roster)
        where = ", ".join(self._listening.addresses)
        return f"Listening on {where}; {self._sessions} sessions in {workers} workers"

    def _soon(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None and not self._shutdown.is_set():
            self._nursery.start_soon(task, *args)

    def replace_all(self) -> None:
        """Replace all workers, soon: one after the other, with nobody's connection lost."""
        self._soon(self._crew.replace_all, self._nursery)

    def reload(self) -> None:
        """Have all workers read the users file and the certificate again, soon."""
        self._soon(self._reload)

    async def _reload(self) -> None:
        with self.notifier.reloading():
            await self._ask_all(control.Reload(), control.Done, RELOAD)

    def log_snapshot(self) -> None:
        """Log what is going on, in all workers together."""
        self._soon(self._log_snapshot)

    async def _log_snapshot(self) -> None:
        counted = await self._ask_all(control.Count(), control.Counted, PATIENCE)
        total = self._crew.past + figures(EndedTotals(), ())
        words = []
        for member, answer in counted:
            count = Figures() if answer is None else answer.figures
            total += count
            what = "no answer" if answer is None else f"{count.sessions} sessions"
            words.append(f"{member.number} (process {member.process.pid}, {what})")
        line = total.show(time.monotonic() - self._began)
        self.log.info("%s, workers %s", line, ", ".join(words) or "none")

    async def _ask_all(
        self, question: control.Message, kind: type[control.M], patience: float
    ) -> list[tuple[Member, control.M | None]]:
        """Ask all workers; return each with its answer, None where that has not come in time."""
        answers: dict[Member, control.M] = {}
        members = list(self._crew.members)

        async def ask(member: Member) -> None:
            with trio.move_on_after(patience):
                try:
                    answers[member] = await member.link.ask(question, kind)
                except LinkLost:
                    return

        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(ask, member)
        return [(member, answers.get(member)) for member in members]
