"""Debian's redis-server, where it is installed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from cotun_trio.fleet.redis_directory import open_directory
from cotun_trio.fleet.redis_url import RedisUrl
from tests.support.programs import running
from tests.support.targets import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.fleet.redis_directory import RedisDirectory
    from tests.support.programs import Program


@attrs.define
class Redis:
    """A server; `start` starts it, again too, with what it has on its disk."""

    directory: Path
    options: tuple[str, ...] = ()
    port: int = attrs.field(factory=free_port)

    @property
    def url(self) -> RedisUrl:
        """Its URL."""
        return RedisUrl.parse(f"redis://{LOOPBACK}:{self.port}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Program]:
        """Run it."""
        words = ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.directory)]
        words += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        async with running("redis-server", *words, *self.options) as program:
            await program.wait_for("Ready to accept connections")
            yield program

    def client(self) -> contextlib.AbstractAsyncContextManager[RedisDirectory]:
        """Give a node's access to it, of a fleet that is named ``test``."""
        return open_directory(self.url, "test")
