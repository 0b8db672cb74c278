"""Debian's redis-server, where it is installed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from cotun_trio.fleet.redis_directory import open_directory
from cotun_trio.fleet.redis_url import RedisUrl
from tests.support.programs import running
from tests.support.targets import LOOPBACK, connect, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.fleet.redis_directory import RedisDirectory
    from tests.support.programs import Program


@attrs.define
class Redis:
    """A server in memory, unless `options` say something else; it can be run again."""

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
        words += ["--save", ""]
        async with running("redis-server", *words, *self.options) as program:
            await program.wait_for("Ready to accept connections")
            yield program

    async def command(self, *words: str) -> bytes:
        """Return the answer to a command, as one line of Redis's protocol."""
        async with await connect(f"{LOOPBACK}:{self.port}") as stream:
            await stream.send_all(" ".join(words).encode() + b"\r\n")
            return bytes(await stream.receive_some()).strip()

    def client(self) -> contextlib.AbstractAsyncContextManager[RedisDirectory]:
        """Give a node's access to it, of a fleet that is named ``test``."""
        return open_directory(self.url, "test")


@contextlib.asynccontextmanager
async def running_cluster(directory: Path) -> AsyncIterator[RedisUrl]:
    """Run a Cluster of one server; give its URL."""
    # By default, the second port is 10,000 above the first one: there, others may have connections.
    bus = ("--cluster-port", str(free_port()))
    redis = Redis(directory, options=("--cluster-enabled", "yes", *bus))
    async with redis.running():
        async with redis.client() as client:
            await client._questions.use(lambda redis: redis.cluster_addslotsrange([(0, 16383)]))
        yield RedisUrl.parse(f"redis+cluster://{LOOPBACK}:{redis.port}")


@contextlib.asynccontextmanager
async def running_sentinel(directory: Path) -> AsyncIterator[tuple[RedisUrl, Program]]:
    """Run a server, a replica of it, and a Sentinel; give the URL, and the first one."""
    main, replica = Redis(directory), Redis(directory)
    replica.options = ("--replicaof", f"{LOOPBACK} {main.port}", "--dbfilename", "replica.rdb")
    port = free_port()
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind {LOOPBACK}\ndir {directory}\n"
        f"sentinel monitor fleet {LOOPBACK} {main.port} 1\n"
        "sentinel down-after-milliseconds fleet 500\nsentinel failover-timeout fleet 2000\n"
    )
    async with main.running() as program, replica.running() as other:
        await other.wait_for("sync: Finished with success|Successful partial")
        async with running("redis-server", str(configuration), "--sentinel") as sentinel:
            await sentinel.wait_for(r"\+slave slave")
            yield RedisUrl.parse(f"redis+sentinel://{LOOPBACK}:{port}/fleet"), program
