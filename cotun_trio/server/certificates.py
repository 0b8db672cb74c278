"""The TLS of a running server: its certificate, read again when its files change and on SIGHUP.

Files that cannot be used change nothing, and the log says why.  Connections keep the certificate
that they began with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import UsageError
from cotun_trio.net.tls import Tls
from cotun_trio.net.tls_files import server_context
from cotun_trio.system.watch import watch_files

if TYPE_CHECKING:
    from cotun_trio.logs import Context
    from cotun_trio.settings import ServerTls


class Certificates:
    """The certificate for new connections.  Raises `UsageError` where the files cannot be used."""

    def __init__(self, tls: ServerTls, log: Context) -> None:
        self._tls = tls
        self._log = log
        self._warnings: list[str] = []  # of the files that were read last
        ends: list[float] = []
        self._context = server_context(tls, self._warnings.append, ends.append)
        self.expires = min(ends, default=None)
        """When the certificate ends, in seconds since 1970; None where that cannot be read."""
        self._failure = ""  # the last error of the files

    def tls(self) -> Tls:
        """Return the server's end of TLS for a new connection."""
        return Tls(self._context, server_side=True)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice about certificates that are used all the same: a line each."""
        return tuple(self._warnings)

    def announce(self) -> None:
        """Log the warnings."""
        for warning in self._warnings:
            self._log.warning("%s", warning)

    async def reload(self) -> None:
        """Read the files again."""
        warnings: list[str] = []
        ends: list[float] = []
        try:
            self._context = await trio.to_thread.run_sync(
                server_context, self._tls, warnings.append, ends.append, abandon_on_cancel=True
            )
        except UsageError as error:
            if str(error) != self._failure:
                self._log.warning("%s: the certificate stays as it was", error)
            self._failure = str(error)
        else:
            self._failure = ""
            self._log.info("TLS certificate read again")
            self._log.event("reloaded", certificate=self._tls.cert)
            self._warnings = warnings
            self.expires = min(ends, default=None)
            self.announce()

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call `reload` whenever a file changes, until cancelled.

        Where that cannot be noticed, the log says so, and SIGHUP remains.
        """
        first = True

        async def changed() -> None:
            nonlocal first
            if first:  # `watch_files` says that once for nothing
                first = False
            else:
                await self.reload()

        paths = [Path(path) for path in (self._tls.cert, self._tls.key, self._tls.ca) if path]
        try:
            await watch_files(paths, changed, task_status=task_status)
        except UsageError as error:
            self._log.warning("%s (until then, a SIGHUP has the certificate read again)", error)
            task_status.started()
