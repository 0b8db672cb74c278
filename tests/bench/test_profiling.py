"""``make profile`` names functions of ours at both ends."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import trio

from bench import profiling

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
async def test_a_profile_of_a_running_pair_has_functions_of_both_ends() -> None:
    words = ["--seconds", "0.3", "--cprofile", "--top", "1000"]  # all: the order is any
    ran = await trio.run_process(
        [sys.executable, "-m", "bench.profiling", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_stdout=True,
    )
    client, server = ran.stdout.decode().split("client: ")[1].split("server: ")
    for said in (client, server):
        assert re.search(r"%.* s  seal_data \(cotun_trio/ssh/packetizer\.py:\d+\)\n", said)
        assert profiling.IDLE not in said  # waiting is no work


def test_samples_of_py_spy_count_for_the_innermost_function(tmp_path: Path) -> None:
    here, there = "/a/b/cotun_trio/websocket/wire.py:401", "/x/python3.11/site-packages/trio/a.py:1"
    path = tmp_path / "samples"
    path.write_text(f"main (x.py:1);Wire._write ({here}) 100\nmain (x.py:1) 50\nrun ({there}) 25\n")
    assert profiling.read_samples(path) == {
        "Wire._write (cotun_trio/websocket/wire.py:401)": 100 / profiling.RATE,
        "main (x.py:1)": 50 / profiling.RATE,
        "run (trio/a.py:1)": 25 / profiling.RATE,
    }


@pytest.mark.parametrize("words", [["--up=0", "--down=0"], ["--seconds=0"], ["--seconds=1e9"]])
def test_a_profile_of_nothing_or_without_end_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        profiling.main(words)
