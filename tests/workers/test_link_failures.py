"""The bars that a worker knows of: few enough, also when a crowd of sources is barred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from cotun_trio.workers import worker
from cotun_trio.workers.worker import LinkFailures

if TYPE_CHECKING:
    import pytest


async def test_the_bars_that_a_worker_knows_of_are_bounded_and_the_first_ones_go_first(
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(worker, "MAX_SOURCES", 3)
    link: Any = None  # it is asked nothing
    failures = LinkFailures(link)
    for source in ("a", "b", "c", "a", "d"):
        failures.bar(source, 60)
    assert [failures.barred(source) for source in "abcd"] == [60, 0, 60, 60]
    await trio.sleep(61)
    failures.bar("e", 60)
    assert [failures.barred(source) for source in "abcde"] == [0, 0, 0, 0, 60]
