"""A tunnel client for programs without Trio.

    import cotun_trio.blocking

    with cotun_trio.blocking.open_client("https://host/path", auth=("user", "pass")) as tunnel:
        address = tunnel.forward("127.0.0.1:0:db.internal:5432").address

The client runs in a thread of its own, ``cotun-trio``, which has its own Trio.  Any thread may call
in, and gets the result or the exception.  A client that is not closed is closed at the latest
when the interpreter exits, which never waits longer than `PATIENCE` for it: the thread is a
daemon.  A forked child has no part in it: there, all calls raise `CotunError`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs
import trio

from cotun_trio.api import client as asynchronous
from cotun_trio.errors import ConnectionLost, CotunError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Unpack

    from cotun_trio.api.forwards import Forward, ForwardStats
    from cotun_trio.settings import ClientOptions

PATIENCE = 3.0
"""Seconds for the end: the server has one to take the goodbye."""

T = TypeVar("T")


class _Thread:
    """The thread, and Trio in it.  Knows nothing of the client in front, which may be forgotten."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()  # that wait for their result
        self._failure: CotunError | None = None  # why nothing can be called any more
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._stop = trio.CancelScope()
        self._started = threading.Event()
        self.client: Future[asynchronous.TunnelClient] = Future()
        self._thread = threading.Thread(target=self._run, name="cotun-trio", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        failure: BaseException = ConnectionLost("the client is closed")
        try:
            trio.run(self._main)
        except CotunError as error:
            failure = error
        except BaseException as error:
            failure = ConnectionLost(f"internal error: {error!r}")
            raise
        finally:
            self._started.set()
            with self._lock:
                self._failure = failure if isinstance(failure, CotunError) else None
                calls, self._calls = self._calls, set()
            for call in (*calls, self.client):
                if not call.done():
                    call.set_exception(failure)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._started.set()
        with self._stop:
            async with (
                asynchronous.open_client(**self._options) as client,
                trio.open_nursery() as self._nursery,
            ):
                self.client.set_result(client)
                await trio.sleep_forever()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a function in that thread, and return its result, or raise its exception.

        When interrupted (by Ctrl-C), the function is cancelled.
        """
        if os.getpid() != self._process:
            raise CotunError("this tunnel belongs to the process that this one was forked from")
        if threading.current_thread() is self._thread:
            raise CotunError("the tunnel's own thread cannot wait for itself")
        future: Future[T] = Future()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._calls.add(future)
        scope = trio.CancelScope()
        try:
            self._tell(self._begin, future, scope, function, args)
            return future.result()
        except BaseException:
            self._tell(scope.cancel)
            raise
        finally:
            with self._lock:
                self._calls.discard(future)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        """Call a function over there, soon; where there is nothing any more, do nothing."""
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)

    def _begin(
        self,
        future: Future[T],
        scope: trio.CancelScope,
        function: Callable[..., Awaitable[T]],
        args: tuple[object, ...],
    ) -> None:
        async def run() -> None:
            with scope:
                try:
                    result = await function(*args)
                except Exception as error:  # noqa: BLE001  it is raised where it was called
                    if not future.done():
                        future.set_exception(error)
                else:
                    if not future.done():
                        future.set_result(result)

        assert self._nursery is not None
        with contextlib.suppress(RuntimeError):  # it is closed: `_run` fails the call in a moment
            self._nursery.start_soon(run)

    def ask_to_stop(self) -> None:
        """Let it end; does not wait."""
        if os.getpid() == self._process and self._token is not None:
            self._tell(self._stop.cancel)

    def stop(self) -> None:
        """End it; wait for that, but not for ever."""
        self.ask_to_stop()
        if os.getpid() == self._process and threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)


@attrs.frozen(eq=False, repr=False)
class BlockingForward:
    """A remote of a client: from `BlockingClient.forward`."""

    _thread: _Thread
    _forward: Forward

    def __repr__(self) -> str:
        return repr(self._forward)

    @property
    def address(self) -> str:
        """Where it listens; see `cotun_trio.Forward.address`."""
        return self._forward.address

    def stats(self) -> ForwardStats:
        """Return its counters."""

        async def stats() -> ForwardStats:
            return self._forward.stats()

        return self._thread.call(stats)

    def close(self) -> None:
        """Stop listening, and cut its connections.  Can be called again."""
        self._thread.call(self._forward.aclose)


@attrs.define(eq=False, repr=False)
class BlockingClient:
    """A client that stays connected: from `open_client`."""

    _thread: _Thread
    _client: asynchronous.TunnelClient
    _forgotten: weakref.finalize[..., BlockingClient] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._forgotten = weakref.finalize(self, self._thread.ask_to_stop)
        self._forgotten.atexit = False
        atexit.register(self._thread.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forward(self, remote: str) -> BlockingForward:
        """Forward what `remote` says; see `cotun_trio.TunnelClient.forward`."""
        return BlockingForward(self._thread, self._thread.call(self._client.forward, remote))

    def close(self) -> None:
        """Cut open connections, and end the thread.  Can be called again.

        Waits for that for `PATIENCE` seconds at most.
        """
        self._forgotten.detach()
        atexit.unregister(self._thread.stop)
        self._thread.stop()


def open_client(
    server: str | Iterable[str],
    *,
    connect_timeout: float | str | None = asynchronous.CONNECT_TIMEOUT,
    **options: Unpack[ClientOptions],
) -> BlockingClient:
    """Connect, and return a client, which is a context manager, too.

    Takes and raises what `cotun_trio.open_client` does, except ``listen``.  When the tunnel ends
    for good, each later call raises the reason.
    """
    thread = _Thread({"server": server, "connect_timeout": connect_timeout, **options})
    try:
        client = thread.client.result()
    except BaseException:
        thread.stop()
        raise
    return BlockingClient(thread, client)
