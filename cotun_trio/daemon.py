"""The life of the process: Trio, signals, descriptors, the pid file, the exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cotun_trio import logs
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    CotunError,
    FingerprintMismatch,
    GaveUp,
)
from cotun_trio.system.pidfile import pid_file
from cotun_trio.system.process import prepare
from cotun_trio.system.systemd import Notifier, Passed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.client.client import Client
    from cotun_trio.server.server import Server
    from cotun_trio.settings import ClientSettings, ProcessSettings, ServerSettings
    from cotun_trio.workers.supervisor import Supervisor

STATUSES = {
    FingerprintMismatch: 3,
    AuthenticationFailed: 4,
    ConfigRefused: 5,
    GaveUp: 6,
}
"""The exit status for what a service manager should not try again, or should know."""


def run_server(settings: ServerSettings, process: ProcessSettings) -> int:
    """Be a server until a signal says otherwise; return the exit status."""
    if process.workers > 1:
        return _run_supervisor(settings, process)
    from cotun_trio.server.server import Server  # a client does not wait for it to be imported

    server = Server(settings, Passed.take(os.environ), Notifier(os.environ))
    handlers = {signal.SIGHUP: server.reload, signal.SIGUSR2: server.log_snapshot}
    return _run(server, handlers, process)


def _run_supervisor(settings: ServerSettings, process: ProcessSettings) -> int:
    from cotun_trio.workers.supervisor import Supervisor

    supervisor = Supervisor(settings, process, Passed.take(os.environ), Notifier(os.environ))
    handlers = {
        signal.SIGHUP: supervisor.reload,
        signal.SIGUSR1: supervisor.replace_all,
        signal.SIGUSR2: supervisor.log_snapshot,
    }
    return _run(supervisor, handlers, process)


def run_client(
    settings: ClientSettings,
    process: ProcessSettings,
    *,
    reread: Callable[[], ClientSettings] | None = None,
) -> int:
    """Be a client until a signal says otherwise, or it cannot go on; return the exit status.

    `reread` gives the settings as they are by now, for SIGHUP; it raises `UsageError`.
    """
    from cotun_trio.client.client import Client

    client = Client(settings, reread, Notifier(os.environ))
    handlers = {signal.SIGHUP: client.reload, signal.SIGUSR2: client.log_snapshot}
    return _run(client, handlers, process)


def _run(
    main: Server | Client | Supervisor,
    handlers: dict[signal.Signals, Callable[[], None]],
    process: ProcessSettings,
) -> int:
    prepare(process)
    try:
        try:
            trio.run(_until_signal, main, handlers, process.pid)
        finally:
            logs.wait_for_reader()
    except CotunError as error:
        print(f"cotun-trio: {error}", file=sys.stderr)
        return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 1)
    return 0


async def _until_signal(
    main: Server | Client | Supervisor,
    handlers: dict[signal.Signals, Callable[[], None]],
    pid: str | None,
) -> None:
    """Run `main`; SIGINT and SIGTERM end it, a second one at once; the others have a handler."""
    failure: CotunError | None = None
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *handlers) as signals,
        # Inside: whoever finds our number may send us a signal that has its handler already.
        pid_file(Path(pid)) if pid else contextlib.nullcontext(),
    ):
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
            nursery.start_soon(main.notifier.feed_watchdog)
            nursery.start_soon(logs.write_what_waits)
            try:
                await main.run()
            except CotunError as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
