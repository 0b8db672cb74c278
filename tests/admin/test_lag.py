"""How late the event loop is, in the meters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.admin.lag import PERIOD, measure_lag
from cotun_trio.counts import meters
from tests.support.targets import background
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_loop_that_was_busy_is_late(still_clock: trio.testing.MockClock) -> None:
    async with background() as nursery:
        nursery.start_soon(measure_lag)
        for late in (0.0, 0.3):
            await trio.testing.wait_all_tasks_blocked()
            still_clock.jump(PERIOD + late)
        await trio.testing.wait_all_tasks_blocked()
        lags = meters().lags
        assert lags.cumulative()[-1] == 2
        assert lags.total == pytest.approx(0.3)


@pytest.mark.parametrize("open_", [True, False])
async def test_it_is_measured_only_for_those_who_can_ask(
    tmp_path: Path, open_: bool, autojump_with_sockets: trio.testing.MockClock
) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}" if open_ else None
    async with running_server(admin_listen=place):
        await trio.sleep(3.5 * PERIOD)
        assert meters().lags.cumulative()[-1] == (3 if open_ else 0)
