"""A directory in Redis 7 or Valkey: one server, a group of them under Sentinel, or a Cluster.

What is done there is in `cotun_trio.fleet.redis_scripts`, and how it is written in
`cotun_trio.fleet.redis_codec`.  A connection that has failed, or whose answer a task did not wait
for, is never used again: so no answer can be taken for that of another question, and a connection
that is dead without saying so costs one deadline only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from cotun_trio.access.penalties import (
    FIRST_BAR,
    FORGET,
    MAX_BAR,
    MAX_SOURCES,
    MINUTE,
    Verdict,
    delay_after,
)
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.fleet import operations, redis_codec, redis_scripts
from cotun_trio.fleet.directory import DirectoryFailed
from cotun_trio.fleet.leases import TTL

try:
    import coredis
    from coredis.exceptions import NoScriptError
    from coredis.retry import NoRetryPolicy
except ImportError:
    raise UsageError("--fleet takes coredis: pip install 'cotun-trio[fleet]'") from None

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Answer, Operation
    from cotun_trio.fleet.redis_url import RedisUrl

    Client = coredis.Redis[bytes] | coredis.RedisCluster[bytes]

T = TypeVar("T")

BLOCK = 1.0
"""Seconds to wait for entries; a caller's deadline is longer."""
MAX_READ = 1024
"""Entries that are read at a time."""
MAX_ENTRIES = 100_000
"""Entries that the stream keeps, about; a node that has missed more surveys everything."""
REMEMBERED = 3600.0
"""Seconds for which a revocation is told to nodes that have missed it."""
CONNECT = 2.0
"""Seconds for a connection to Redis."""

# It logs what it raises as well, with the whole traceback.
logging.getLogger("coredis").addHandler(logging.NullHandler())
logging.getLogger("coredis").propagate = False


@contextlib.asynccontextmanager
async def open_directory(
    url: RedisUrl, name: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RedisDirectory]:
    """Give the directory of the fleet `name`, which connects when it is used.

    `tls` is for ``rediss://``: by default, the system's authorities are trusted.  Raises
    `UsageError` for a name that cannot be.
    """
    if not re.fullmatch("[A-Za-z0-9_.-]{1,64}", name):
        raise UsageError(
            f"'{escape(name)}' cannot be a fleet's name: write up to 64 letters, digits and -_."
        )
    if url.tls and tls is None:
        tls = ssl.create_default_context()
    async with trio.open_nursery() as nursery:
        make = functools.partial(_client, url, tls if url.tls else None)
        yield RedisDirectory(_Connection(nursery, make), _Connection(nursery, make), name)
        nursery.cancel_scope.cancel()


class RedisDirectory:
    """See `cotun_trio.fleet.directory.Directory`; one connection is for the stream alone."""

    def __init__(self, questions: _Connection, stream: _Connection, name: str) -> None:
        self._questions = questions
        self._stream = stream
        self._prefix = f"cotun:{{{name}}}:"

    async def perform(self, operation: Operation) -> Answer | Verdict:
        """See `Directory`."""
        match operation:
            case operations.Renew():
                answer = await self._run(redis_scripts.RENEW, redis_codec.renew(operation))
                return _understood(redis_codec.renewed, answer)
            case operations.Write():
                answer = await self._run(redis_scripts.WRITE, redis_codec.write(operation))
                return _understood(redis_codec.written, answer)
            case operations.Restate():
                answer = await self._run(redis_scripts.RESTATE, redis_codec.restate(operation))
                return _understood(redis_codec.retold, answer)
            case operations.Survey():
                answer = await self._run(redis_scripts.SURVEY, {})
                return _understood(redis_codec.surveyed, answer)
            case operations.Read(node):
                key = f"{self._prefix}state:{node}"
                answer = await self._questions.use(lambda client: client.hgetall(key))
                return _understood(redis_codec.statement, answer)
            case operations.CountFailure():
                return await self._count_failure(operation)
            case operations.Leave(node):
                await self._run(redis_scripts.LEAVE, {"id": node})
                return None
        raise AssertionError(operation)

    async def after(self, position: int) -> list[tuple[int, Entry]]:
        """See `Directory`."""
        key = f"{self._prefix}stream"

        async def read(client: Client) -> Any:
            return await client.xread(
                {key: f"{position}-0"}, count=MAX_READ, block=int(1000 * BLOCK)
            )

        return _understood(_entries, await self._stream.use(read))

    async def _count_failure(self, operation: operations.CountFailure) -> Verdict:
        answer = await self._run(
            redis_scripts.COUNT_FAILURE,
            {
                "source": operation.source,
                "per_minute": operation.per_minute,
                "window": int(1000 * MINUTE),
                "forget": int(1000 * FORGET),
                "first": FIRST_BAR,
                "most": MAX_BAR,
                "max_bars": MAX_SOURCES,
            },
        )
        return _understood(_verdict, answer)

    async def _run(self, script: redis_scripts.Script, operation: dict[str, Any]) -> Any:
        common = {
            "max_entries": MAX_ENTRIES,
            "ttl": int(1000 * TTL),
            "remembered": int(1000 * REMEMBERED),
        }
        keys = [f"{self._prefix}stream"]
        arguments = [self._prefix, json.dumps({**operation, **common})]

        async def run(client: Client) -> Any:
            try:
                return await client.evalsha(script.digest, keys, arguments)
            except NoScriptError:  # it has started again
                return await client.eval(script.text, keys, arguments)

        return await self._questions.use(run)


class _Connection:
    """A client of coredis's, which is thrown away after each failure.

    A task of `nursery` keeps it open, since it has tasks of its own.
    """

    def __init__(self, nursery: trio.Nursery, make: Callable[[], _Opening]) -> None:
        self._nursery = nursery
        self._make = make
        self._opening = trio.Lock()
        self._client: Client | None = None
        self._scope = trio.CancelScope()

    async def use(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do `work` with a client.  Raises `DirectoryFailed`."""
        scope = None
        try:
            async with self._opening:
                if self._client is None:
                    self._client = await self._nursery.start(self._keep_open)
                client, scope = self._client, self._scope
            return await work(client)
        except Exception as error:  # noqa: BLE001  whatever it raises, no tunnel must end for it
            self._throw_away(scope)
            raise DirectoryFailed(_reason(error)) from None
        except BaseException:  # cancelled
            self._throw_away(scope)
            raise

    def _throw_away(self, scope: trio.CancelScope | None) -> None:
        if scope is None:
            return
        scope.cancel()
        if scope is self._scope:
            self._client = None

    async def _keep_open(self, *, task_status: trio.TaskStatus[Client]) -> None:
        has_started = False
        with trio.CancelScope() as scope:
            try:
                async with self._make() as client:
                    self._scope = scope
                    has_started = True
                    task_status.started(client)
                    await trio.sleep_forever()
            except Exception as error:  # noqa: BLE001  see `use`
                if not has_started:
                    raise DirectoryFailed(_reason(error)) from None
                self._throw_away(scope)


_Opening = contextlib.AbstractAsyncContextManager[Any]


@contextlib.asynccontextmanager
async def _client(url: RedisUrl, tls: ssl.SSLContext | None) -> AsyncIterator[Any]:
    """Give a client for one of the three forms."""
    login: dict[str, Any] = {
        "username": url.user,
        "password": url.password,
        "ssl_context": tls,
        "connect_timeout": CONNECT,
    }
    policy = NoRetryPolicy()
    places = [coredis.connection.TCPLocation(*host) for host in url.hosts]
    if url.form == "cluster":
        cluster: Any = coredis.RedisCluster(startup_nodes=places, retry_policy=policy, **login)
        async with cluster as client:
            yield client
    elif url.form == "sentinel":
        sentinel: Any = coredis.Sentinel(
            places,
            sentinel_kwargs={"connect_timeout": CONNECT, "ssl_context": tls},
            retry_policy=policy,
            db=url.database,
            **login,
        )
        async with sentinel, sentinel.primary_for(url.service) as client:
            yield client
    else:
        host, port = url.hosts[0]
        redis: Any = coredis.Redis(host, port, url.database, retry_policy=policy, **login)
        async with redis as client:
            yield client


def _entries(answer: Any) -> list[tuple[int, Entry]]:
    found = []
    for stream in (answer or {}).values():
        for entry in stream:
            number = int(bytes(entry.identifier).partition(b"-")[0])
            found.append((number, redis_codec.load_entry(entry.field_values)))
    return found


def _verdict(answer: Any) -> Verdict:
    failures, seconds = (float(each) for each in answer)
    return Verdict(delay_after(int(failures)), seconds)


def _understood(read: Callable[[Any], T], answer: Any) -> T:
    """Return what `read` makes of an answer; raises `DirectoryFailed` where that is nothing."""
    try:
        return read(answer)
    except (ValueError, LookupError, TypeError) as error:
        raise DirectoryFailed(f"the directory has something else: {_reason(error)}") from None


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    """Return the reason of a failure in a line, with what is behind it."""
    error = _first(error)
    if isinstance(error, DirectoryFailed):
        return str(error)
    words = [escape(str(error) or type(error).__name__)]
    cause = error.__cause__
    if cause is not None:
        words.append(escape(str(_first(cause)) or type(_first(cause)).__name__))
    return ": ".join(words)
