"""How the process runs, whatever it does."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class ProcessSettings:
    """How the process runs, whatever it does."""

    verbose: bool = False
    """Whether the log has a line for every single connection, too."""
    log_format: Literal["text", "json"] = "text"
    pid: str | None = None
    """The path of a file to keep the process's number in."""
