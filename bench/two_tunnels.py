"""Two tunnels of one process: ``python -m bench.two_tunnels URL REMOTE... -- URL REMOTE...``.

For whether one server can make the other's tunnel wait.
"""

from __future__ import annotations

import logging
import sys

import trio

from cotun_trio import open_client


async def main(first: list[str], second: list[str]) -> None:
    """Open a client for each, and keep them until killed."""
    async with (
        open_client(first[0], remotes=first[1:], auth=("friend", "secret")),
        open_client(second[0], remotes=second[1:], auth=("friend", "secret")),
    ):
        await trio.sleep_forever()


if __name__ == "__main__":
    logging.disable()
    middle = sys.argv.index("--")
    trio.run(main, sys.argv[1:middle], sys.argv[middle + 1 :])
