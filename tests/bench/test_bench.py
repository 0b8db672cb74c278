"""The bench runs and gives all of its figures; their values are not checked here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import trio

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


async def test_a_quick_run_has_a_figure_for_each_row_and_way(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    ways = ("direct", "cotun-trio")
    command = [sys.executable, "-m", "bench.measure", "--quick", "--json", str(results)]
    rows = ("up", "ping", "get50x16", "udp-up-64", "udp-down-1200")
    command += ["--rows", *rows, "connect", "--ways", *ways]
    ran = await trio.run_process(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_stdout=True
    )
    content = json.loads(results.read_text())
    assert set(content["rounds"]) >= set(rows)
    for figure, by_way in content["rounds"].items():
        for way, values in by_way.items():
            assert way in ways
            assert len(values) == 1
            assert values[0] > 0 or figure.endswith(" lost"), (figure, way)
            assert content["figures"][figure]["title"] in ran.stdout.decode()
