"""The life of the process: Trio, signals, the pid file, the exit status."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cotun_trio import logs
from cotun_trio.client import Client
from cotun_trio.errors import CotunError
from cotun_trio.pidfile import NAME, pid_file
from cotun_trio.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.settings import ClientSettings, ServerSettings

GC_THRESHOLD = 50_000
"""Allocations between two looks for cycles.  The data path makes objects without end and hardly a
cycle; the default of 700 costs a sixth of the connections per second."""


def run_server(settings: ServerSettings, *, verbose: bool, pid: bool) -> int:
    """Be a server until a signal says otherwise; return the exit status."""
    server = Server(settings)
    handlers = {signal.SIGHUP: server.reload, signal.SIGUSR2: server.log_snapshot}
    return _run(server, handlers, verbose=verbose, pid=pid)


def run_client(settings: ClientSettings, *, verbose: bool, pid: bool) -> int:
    """Be a client until a signal says otherwise, or it cannot go on; return the exit status."""
    client = Client(settings)
    handlers = {signal.SIGHUP: client.retry_now, signal.SIGUSR2: client.log_snapshot}
    return _run(client, handlers, verbose=verbose, pid=pid)


def _run(
    main: Server | Client,
    handlers: dict[signal.Signals, Callable[[], None]],
    *,
    verbose: bool,
    pid: bool,
) -> int:
    logs.configure(verbose=verbose)
    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    try:
        with pid_file(Path(NAME)) if pid else contextlib.nullcontext():
            trio.run(_until_signal, main, handlers)
    except CotunError as error:
        print(f"cotun-trio: {error}", file=sys.stderr)
        return 1
    return 0


async def _until_signal(
    main: Server | Client, handlers: dict[signal.Signals, Callable[[], None]]
) -> None:
    """Run `main`; SIGINT and SIGTERM end it, a second one at once; the others have a handler."""
    failure: CotunError | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *handlers) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                ending = False
                async for number in signals:
                    if number in handlers:
                        handlers[signal.Signals(number)]()
                    elif ending:
                        nursery.cancel_scope.cancel()
                    else:
                        ending = True
                        main.shut_down()

            nursery.start_soon(watch)
            try:
                await main.run()
            except CotunError as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
