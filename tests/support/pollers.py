"""The ways to wait for sockets: Trio's own, a poller's task, a poller in front of Trio's wait."""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING

from cotun_trio.net import poller as module
from cotun_trio.net.poller import poller

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Waiting(enum.Enum):
    """A way to wait."""

    OWN = "own"
    TASK = "task"
    FAST = "fast"

    def choose(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this way taken for any number of sockets."""
        monkeypatch.setattr(module, "CROWD", 0)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Have this way in the Trio run."""
        if self is Waiting.OWN:
            yield
            return
        with poller().hold(fast=self is Waiting.FAST):
            assert poller().is_fast == (self is Waiting.FAST)
            yield
