"""Open sessions at a server, say so, and keep them until standard input ends.

``python -m bench.sessions URL COUNT [CA-FILE]``, for what a session costs the server: all of them
are in this process, whatever the server is.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import trio

from cotun_trio.client.client import Client
from cotun_trio.settings import ClientSettings, ClientTls, ServerUrl

if TYPE_CHECKING:
    from cotun_trio.client.session import ClientSession

AT_A_TIME = 10
PATIENCE = 60.0
"""Seconds for all of them to be open."""


class CountedClient(Client):
    """A client that says when its session is open."""

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.connected = trio.Event()

    def session_opened(self, session: ClientSession) -> None:
        """Say so."""
        super().session_opened(session)
        self.connected.set()


async def keep_open(url: str, count: int, ca: str | None) -> None:
    """Open `count` sessions, say so, and keep them until standard input ends."""
    settings = ClientSettings(server=ServerUrl.parse(url), tls=ClientTls(ca=ca), remotes=())
    limit = trio.CapacityLimiter(AT_A_TIME)
    async with trio.open_nursery() as sessions:

        async def open_one() -> None:
            async with limit:
                client = CountedClient(settings)
                sessions.start_soon(client.run)
                await client.connected.wait()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as opening:
                for _ in range(count):
                    opening.start_soon(open_one)
        print("open", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        sessions.cancel_scope.cancel()


if __name__ == "__main__":
    logging.disable()
    trio.run(keep_open, sys.argv[1], int(sys.argv[2]), sys.argv[3] if sys.argv[3:] else None)
