"""The process of a worker: started afresh, in a process group of its own, and seen to its end.

It is fresh, since a running event loop cannot be forked.  It has a group of its own, since a
terminal's Ctrl-C is for the supervisor alone, which then ends the workers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio._version import __version__
from cotun_trio.access.host_keys import decode_host_key, encode_host_key
from cotun_trio.system.orphans import children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.settings import ProcessSettings, ServerSettings

MODULE = "cotun_trio.workers"
DEATH = 5.0
"""Seconds for a process to end after it was killed, or has closed its end of the link."""
_SETTINGS = re.compile("HOST|PORT|AUTH|(COTUN|CHISEL)_.*|PYTHONPATH")


@attrs.frozen(kw_only=True)
class Start:
    """The content of `cotun_trio.workers.control.Begin`: all that a worker begins with."""

    number: int
    """The number of the worker; a supervisor never uses one again."""
    slot: int
    """The slot of the worker, of all `slots` in the shared memory."""
    slots: int
    key: bytes = attrs.field(repr=False)
    """The key of the hash; see `cotun_trio.workers.shared_counts`."""
    settings: ServerSettings
    process: ProcessSettings
    host_key: HostKey = attrs.field(repr=False, eq=False)
    node: str
    """See `cotun_trio.server.shared.SharedState`: to clients, all workers are one server."""

    def pack(self) -> bytes:
        """Return it as bytes, for a socket to which no other process can write."""
        fields = attrs.asdict(self, recurse=False)
        fields["settings"] = attrs.evolve(self.settings, host_key=None)
        fields["host_key"] = encode_host_key(self.host_key)
        return pickle.dumps((__version__, fields))

    @classmethod
    def unpack(cls, payload: bytes) -> Start:
        """Return the result of `pack` as a `Start`.

        Raises `ValueError` where another version has packed it.
        """
        # From our own parent, by a socket that no other process has.
        version, fields = pickle.loads(payload)  # noqa: S301
        if version != __version__:
            raise ValueError(
                f"the supervisor is cotun-trio {version}, and this is {__version__}: "
                "restart the whole server"
            )
        return cls(**{**fields, "host_key": decode_host_key(fields["host_key"])})


@contextlib.asynccontextmanager
async def worker_process(
    counts: int, connections: int
) -> AsyncIterator[tuple[trio.Process, socket.socket]]:
    """Run a worker; give its process, and our end of its link, which the caller closes.

    `counts` is the descriptor of the shared memory, and `connections` that of the worker's end of
    the sockets for connections.  A process that still lives at the end is killed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            descriptors = (theirs.fileno(), counts, connections)
            process = await children.start(
                # -P: files in the working directory are no modules of it (see `_environment`).
                [sys.executable, "-P", "-m", MODULE, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                process_group=0,
                env=_environment(),
            )
    except BaseException:
        ours.close()
        raise
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.kill()
            with trio.move_on_after(DEATH, shield=True):
                await process.wait()


def _environment() -> dict[str, str]:
    """Return the environment of a worker: without settings, and with the same modules as ours."""
    kept = {name: value for name, value in os.environ.items() if not _SETTINGS.fullmatch(name)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def show_end(status: int) -> str:
    """Return the end of a process with this status, for the log."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
