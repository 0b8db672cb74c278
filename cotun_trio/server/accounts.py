"""The users of a running server: the one of ``--auth``, and the ones of ``--authfile``.

The file is read again whenever it changes, and on SIGHUP.  Reading that fails changes nothing: the
users stay as they were, and the log says why.  The user of ``--auth`` is not the file's, and stays
whatever is in it.

The cost of its hashes is measured in processor time, which other programs do not make longer: at
the start on the event loop, which has nothing else to do yet, and later in a thread.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cotun_trio.access.authfile import AuthFile, load_authfile
from cotun_trio.access.hash_costs import measure, slow_hashes
from cotun_trio.access.passwords import Secret
from cotun_trio.access.users import User, Users
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.system.watch import watch_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.access.credentials import Credentials
    from cotun_trio.access.passwords import Cost
    from cotun_trio.logs import Context


class Accounts:
    """The users that may log in at present.

    Reads the file, if there is one.  Raises `UsageError` where that cannot be used.
    """

    def __init__(self, auth: Credentials | None, path: str | None, log: Context) -> None:
        self._log = log
        self._path = path
        self._pinned = () if auth is None else (User(auth.user, Secret.parse(auth.password)),)
        self._warned: set[str] = set()
        self._warned_of: set[Cost] = set()
        self._pinned_hashes = {
            cost: "--auth" for user in self._pinned if (cost := user.secret.cost)
        }
        self._file = AuthFile(()) if path is None else load_authfile(path)
        self._seconds: dict[Cost, float] = {}  # seconds of a check, by cost
        self._failure = ""  # the last error of the file
        self._reading = trio.Lock()
        self.users = self._combine()
        """Replaced, never changed."""

    def _combine(self) -> Users:
        return Users((*self._file.users, *self._pinned))

    @property
    def _hashes(self) -> dict[Cost, str]:
        """Where each cost is found."""
        return {**self._file.hashes, **self._pinned_hashes}

    def announce(self) -> None:
        """Log how many users there are, and warnings about their settings.

        Takes up to two seconds of computing the first time: the cost of hashes is measured.
        """
        if not self.users.everybody:
            self._log.info("User authentication enabled (%d users)", len(self.users))
        # Once each, and not again with each change of the file.
        for warning in self._file.warnings:
            if warning not in self._warned:
                self._log.warning("%s", warning)
        self._warned.update(self._file.warnings)
        self._seconds = measure(self._hashes, self._seconds, time.thread_time)
        for cost, warning in slow_hashes(self._seconds, self._hashes):
            if cost not in self._warned_of:
                self._warned_of.add(cost)
                self._log.warning("%s", warning)

    async def watch(
        self,
        changed: Callable[[], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Read the file again whenever it changes, until cancelled; see `reload`.

        Raises `UsageError` where the system has no means to watch it.
        """
        if self._path is None:
            task_status.started()
            return

        async def read_again() -> None:
            await self.reload(changed)

        await watch_files([Path(self._path)], read_again, task_status=task_status)

    async def reload(self, changed: Callable[[], None]) -> None:
        """Read the file again, and call `changed` where `users` are others now."""
        if self._path is None:
            return
        async with self._reading:  # or an earlier content could come after a later one
            try:
                file = await trio.to_thread.run_sync(
                    load_authfile, self._path, abandon_on_cancel=True
                )
            except UsageError as error:
                if str(error) != self._failure:
                    self._log.warning("%s: the users stay as they were", error)
                self._failure = str(error)
                return
            self._failure = ""
            same = file.users == self._file.users
            self._file = file
            if same:
                return
            self.users = self._combine()
            self._log.info("%s read again", escape(self._path))
            self._log.event("reloaded", users=len(self.users))
            changed()  # at once, before hashes are measured
            self._seconds = await trio.to_thread.run_sync(
                measure, self._hashes, self._seconds, time.thread_time, abandon_on_cancel=True
            )
            self.announce()
