"""The process of a worker: started afresh, in a process group of its own, and seen to its end.

A fresh process, since a running event loop cannot be forked; a group of its own, since a terminal's
Ctrl-C is for the supervisor alone, which then decides what becomes of the workers.
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.settings import ProcessSettings, ServerSettings

MODULE = "cotun_trio.workers"
DEATH = 5.0
"""Seconds for a process to be gone that has been killed, or has closed its end of the link."""
_SETTINGS = re.compile("HOST|PORT|AUTH|COTUN_.*|PYTHONPATH")


@attrs.frozen(kw_only=True)
class Start:
    """What a worker begins with."""

    number: int
    """Of the worker: each has another one, as long as its supervisor lives."""
    slot: int
    slots: int
    key: bytes = attrs.field(repr=False)
    """See `cotun_trio.workers.shared_counts`."""
    settings: ServerSettings
    process: ProcessSettings
    host_key: HostKey = attrs.field(repr=False, eq=False)

    def pack(self) -> bytes:
        """Return it as bytes, for a process of ours that nobody else can write to."""
        fields = attrs.asdict(self, recurse=False)
        fields["settings"] = attrs.evolve(self.settings, host_key=None)
        fields["host_key"] = encode_host_key(self.host_key)
        return pickle.dumps((__version__, fields))

    @classmethod
    def unpack(cls, payload: bytes) -> Start:
        """Return what was packed.  Raises `ValueError` where another version has done that."""
        # From our own parent, by a socket that nobody else has.
        version, fields = pickle.loads(payload)  # noqa: S301
        if version != __version__:
            raise ValueError(
                f"the supervisor is cotun-trio {version}, and this is {__version__}: "
                "start the whole of it again"
            )
        return cls(**{**fields, "host_key": decode_host_key(fields["host_key"])})


@contextlib.asynccontextmanager
async def worker_process(
    counts: int, connections: int
) -> AsyncIterator[tuple[trio.Process, socket.socket]]:
    """Run a worker; give its process, and our end of its link, which is yours.

    `counts` is the descriptor of the shared memory, and `connections` that of its end of the
    sockets for connections.  Whatever still lives at the end is killed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            descriptors = (theirs.fileno(), counts, connections)
            process = await trio.lowlevel.open_process(
                # -P: what is in the working directory is none of its modules (see `_environment`).
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
    """Return the environment of a worker: no settings, but the same modules as ours."""
    kept = {name: value for name, value in os.environ.items() if not _SETTINGS.fullmatch(name)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def show_end(status: int) -> str:
    """Return how a process has ended."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
