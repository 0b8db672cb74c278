"""What a process needs before it runs: descriptors, a log, a say in when garbage is looked for."""

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


def prepare(process: ProcessSettings, **pairs: object) -> None:
    """Make the process ready, when everything has been imported.

    `pairs` are what its log lines begin with, where others write to the same stream.
    """
    _raise_descriptor_limit()
    logs.never_wait()
    logs.configure(verbose=process.verbose, json_lines=process.log_format == "json", process=pairs)
    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(GC_THRESHOLD, 20, 100)


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system does: the usual 1024 are for programs of 1983."""
    # Not in a sandbox; and on macOS, "unlimited" is more than it takes.
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
