"""A server with somebody else's tunnel on it, for tests of what a hostile client can do."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any

from cotun_trio.access.credentials import Credentials
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.targets import echoes
from tests.support.tunnel import echo_tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def bystander(*expected: str, password: str = "", **settings: Any) -> AsyncIterator[str]:
    """Give the address of a server that carries somebody's tunnel, and check the harm done.

    Everything that is logged has to be harmless: one line each, nothing that a terminal obeys.
    `expected` are patterns of the lines that the server logs meanwhile at the default verbosity,
    in order, apart from the one that says that a session is open.  With a `password`, that is the
    one of the only user, whose name is empty.
    """
    auth = Credentials("", password) if password else None
    async with (
        watch_logs() as log,
        echo_tunnel(server={"auth": auth, **settings}, client={"auth": auth}) as both,
    ):
        async with await both.connect() as stream:
            assert await echoes(stream)
            before = len(log.lines("server"))
            async with nothing_left():
                yield both.server.addresses[0]
            assert await echoes(stream)
            assert len(both.client.sessions) == 1
        assert all(line.isprintable() for line in log.lines(level=logging.DEBUG))
        lines = log.lines("server")[before:]
        lines = [line for line in lines if not re.search(r" user=\S+: open, client ", line)]
        assert len(lines) == len(expected), lines
        for line, pattern in zip(lines, expected, strict=True):
            assert re.search(pattern, line), line
