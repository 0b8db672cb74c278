"""The figures of a large fleet."""

from __future__ import annotations

import pytest

from bench.fleet_scale import asked, redis_figures, running_redis, table_bytes
from tests.support.peers import needs


def test_a_fleet_of_a_thousand_renews_a_third_of_its_leases_each_second() -> None:
    figures = asked(1000, 1_000_000, 1.0)
    assert round(figures["renewals a second"]) == 333
    assert round(figures["changes a second"]) == 556


@pytest.mark.slow
def test_a_route_takes_no_more_memory_than_is_said() -> None:
    for_node, for_route = table_bytes(10, 20_000)
    assert for_node < 1000
    assert 150 < for_route < 300


@pytest.mark.slow
@needs("redis-server")
async def test_what_redis_does_is_measured() -> None:
    with running_redis() as url:
        figures = await redis_figures(url, 640)
    assert len(figures) == 5
    assert all(figure > 0 for figure in figures.values())
