"""Servers that watch no files: they read them when they are told to.

The threads behind the watching would end some time after the server, and keep a mock clock from
seeing when nothing can happen any more.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import trio


@contextlib.contextmanager
def nothing_watched(module: ModuleType) -> Iterator[None]:
    """Take from `module` what it watches files by."""

    async def nothing(*_: object, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "watch_files", nothing)
        yield
