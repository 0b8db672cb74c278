"""The settings of a process, made before it runs: descriptors, log, memory, garbage collector."""

from __future__ import annotations

import contextlib
import gc
import resource
from typing import TYPE_CHECKING

from cotun_trio import logs

if TYPE_CHECKING:
    from cotun_trio.settings import ProcessSettings

GC_THRESHOLD = 50_000
"""Allocations between two looks for cycles.  The data path makes objects without end and hardly a
cycle; the default of 700 costs a sixth of the connections per second."""
LARGE_BLOCK = 2 * 1024 * 1024
"""Bytes: more than any block that comes and goes with a turn of bulk."""


def prepare(process: ProcessSettings, **pairs: object) -> None:
    """Make the process ready, when everything has been imported.

    Its log lines begin with `pairs`, where other processes write to the same stream.
    """
    _raise_descriptor_limit()
    keep_freed_blocks()
    logs.never_wait()
    logs.configure(
        verbose=process.verbose,
        trace=process.trace,
        quiet=process.quiet,
        json_lines=process.log_format == "json",
        process=pairs,
    )
    gc.freeze()  # imported modules live as long as the process
    gc.set_threshold(GC_THRESHOLD, 20, 100)


def keep_freed_blocks() -> None:
    """Have glibc keep blocks of up to `LARGE_BLOCK` bytes when they are freed, for the next use.

    Two or three blocks of half a megabyte come and go with each turn of bulk in TLS.  glibc gives
    such memory back to the system each time, and gets it again page by page, until it has seen a
    larger block come and go (mallopt(3), M_MMAP_THRESHOLD).  That costs half of the throughput.

    It changes the whole process, and so only a program may call this.
    """
    bytearray(LARGE_BLOCK)


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system does: the usual 1024 are for programs of 1983."""
    # Not in a sandbox; and on macOS, "unlimited" is more than it takes.
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
