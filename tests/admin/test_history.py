"""The traffic of the last minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from cotun_trio.admin.history import KEPT, PERIOD, History, Rate
from cotun_trio.errors import ConnectionLost
from cotun_trio.logs import get_logger
from cotun_trio.snapshot import Figures
from tests.support.log_watch import watch_logs
from tests.support.targets import background
from tests.support.watched import FakeWatched

if TYPE_CHECKING:
    import pytest


async def test_rates_are_bytes_per_second_between_two_samples(
    autojump: trio.testing.MockClock,
) -> None:
    watched = FakeWatched()
    history = History(watched, get_logger("server"))
    async with background() as nursery:
        nursery.start_soon(history.run)
        await trio.sleep(1)
        assert history.rates == ()
        watched.present = Figures(bytes_in=500, bytes_out=1000)
        await trio.sleep(PERIOD)
        assert history.rates == (Rate(100.0, 200.0),)
        await trio.sleep(PERIOD)
        assert history.rates == (Rate(100.0, 200.0), Rate(0.0, 0.0))
        await trio.sleep(2 * KEPT * PERIOD)
        assert history.rates == KEPT * (Rate(0.0, 0.0),)


async def test_totals_that_go_back_are_no_traffic(autojump: trio.testing.MockClock) -> None:
    watched = FakeWatched()
    watched.present = Figures(bytes_in=5000, bytes_out=5000)
    history = History(watched, get_logger("server"))
    async with background() as nursery:
        nursery.start_soon(history.run)
        await trio.sleep(1)
        watched.present = Figures(bytes_in=10, bytes_out=6000)
        await trio.sleep(PERIOD)
    assert history.rates == (Rate(0.0, 200.0),)


async def test_a_sample_that_is_missing_is_part_of_the_next_one(
    autojump: trio.testing.MockClock,
) -> None:
    watched = FakeWatched()
    history = History(watched, get_logger("server"))
    async with background() as nursery:
        nursery.start_soon(history.run)
        await trio.sleep(1)
        watched.present = Figures(bytes_in=1000)
        watched.error = ConnectionLost("by the test")
        await trio.sleep(PERIOD)
        assert history.rates == ()
        watched.error = None
        await trio.sleep(PERIOD)
    assert history.rates == (Rate(100.0, 0.0),)


async def test_an_error_of_ours_is_logged_and_ends_nothing(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = FakeWatched()
    history = History(watched, get_logger("server"))
    async with watch_logs() as log, background() as nursery:
        monkeypatch.setattr(watched, "stats", lambda: 1 / 0)
        nursery.start_soon(history.run)
        await log.wait_for("internal error, a sample of the traffic is missing")
        monkeypatch.undo()
        await trio.sleep(3 * PERIOD)
    assert history.rates
