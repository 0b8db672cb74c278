"""The servers that a client has met, by their keys: in a file, or while it runs.

They count where there is no ``--fingerprint``.  With a file (`cotun_trio.access.known_hosts`), a
server with another key than before is refused.  Without one, another key at a reconnect is only
told: a server without ``--keyfile`` has a new one at each start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.known_hosts import KnownHosts
from cotun_trio.protocol.addresses import join_host_port

if TYPE_CHECKING:
    from cotun_trio.logs import Context
    from cotun_trio.settings import ServerUrl


class MetServers:
    """The servers that were met; `path` is that of the file, or None.

    With `read_only`, a new server is not written to the file.  Raises `UsageError` where the file
    cannot be used.
    """

    def __init__(self, path: str | None, *, read_only: bool = False) -> None:
        self._file = None if path is None else KnownHosts(path)
        self._read_only = read_only
        self._shown: dict[str, str] = {}
        if self._file is not None:
            self._file.find("")  # a mistake in it is told at once

    def is_known(self, url: ServerUrl) -> bool:
        """Return whether the file has a key of the server.  Blocks.  Raises `UsageError`."""
        server = join_host_port(url.host, url.port)
        return self._file is not None and self._file.find(server) is not None

    async def meet(self, url: ServerUrl, fingerprint: str, log: Context) -> None:
        """Compare the key of a server with the one that it had before.

        Raises `FingerprintMismatch` where the file has another one, and `UsageError`.
        """
        server = join_host_port(url.host, url.port)
        if self._file is not None and self._read_only:
            await trio.to_thread.run_sync(self._file.knows, server, fingerprint)
            return
        if self._file is not None:
            if await trio.to_thread.run_sync(self._file.meet, server, fingerprint):
                log.info("the key of %s is new here: remembered in %s", server, self._file.path)
            return
        before = self._shown.setdefault(server, fingerprint)
        if before != fingerprint:
            self._shown[server] = fingerprint
            log.warning(
                "the server %s has another key than before, %s in place of %s: it was started "
                "without --keyfile, or an attacker poses as the server.  --fingerprint and "
                "--known-hosts keep others out",
                server,
                fingerprint,
                before,
            )
