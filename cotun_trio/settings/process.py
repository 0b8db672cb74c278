"""The settings of a process, in either role."""

from __future__ import annotations

from typing import Literal

import attrs

from cotun_trio.errors import UsageError

MAX_WORKERS = 256
"""More than there are processors anywhere; a mistyped number must not stop a machine."""


@attrs.frozen(kw_only=True)
class ProcessSettings:
    """The settings of a process, in either role."""

    verbose: bool = False
    """Whether the log has a line for every single connection, too."""
    trace: bool = False
    """Whether it has a line for every single message, too."""
    quiet: bool = False
    """Whether it has no lines below WARNING, where it is not `verbose`."""
    log_format: Literal["text", "json"] = "text"
    pid: str | None = None
    """The path of a file for the process's number."""
    workers: int = attrs.field(default=1)
    """Processes of a server; with 1, this process is the only one."""

    @workers.validator
    def _check_workers(self, _attribute: object, workers: int) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise UsageError(f"--workers is a number between 1 and {MAX_WORKERS}, not {workers}")
