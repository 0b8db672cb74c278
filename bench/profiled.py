"""cotun-trio under cProfile: ``python -m bench.profiled FILE ARGUMENT...``.

FILE gets the profile at the end.  What is imported at the start is left out of it.
"""

from __future__ import annotations

import cProfile
import sys

import cotun_trio.client.client
import cotun_trio.daemon
import cotun_trio.server.server  # noqa: F401
from cotun_trio.cli import main

if __name__ == "__main__":
    profile = cProfile.Profile()
    try:
        profile.runcall(main, sys.argv[2:])
    finally:
        profile.dump_stats(sys.argv[1])
