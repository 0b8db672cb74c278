"""The life of the process: Trio, signals, descriptors, the pid file, the exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs
import trio

from cotun_trio import logs
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    CotunError,
    FingerprintMismatch,
    GaveUp,
    UsageError,
)
from cotun_trio.system.hang_up import has_terminal
from cotun_trio.system.orphans import children
from cotun_trio.system.pidfile import pid_file
from cotun_trio.system.process import prepare
from cotun_trio.system.systemd import Notifier, Passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cotun_trio.settings import ClientSettings, ProcessSettings, ServerSettings

    Handlers = dict[signal.Signals, Callable[[], None]]
    """The function that each signal calls."""

Settings = TypeVar("Settings", "ClientSettings", "ServerSettings")
STATUSES = {
    FingerprintMismatch: 3,
    AuthenticationFailed: 4,
    ConfigRefused: 5,
    GaveUp: 6,
}
"""The exit statuses of errors after which a service manager should not start us again, or which it
should tell from others."""


class Role(Protocol):
    """The role of a process: a server, a supervisor of workers, or a client."""

    notifier: Notifier

    @property
    def log(self) -> logs.Context:
        """Its log."""

    async def run(self) -> None:
        """Do everything, until `shut_down` or cancelled.  Raises `CotunError`."""

    def shut_down(self) -> None:
        """Let `run` return soon."""


def run_server(settings: ServerSettings, process: ProcessSettings) -> int:
    """Run a server until a signal ends it; return the exit status.  Raises `UsageError`."""
    settings = _quick(settings)
    if settings.fleet is not None:
        return _run_fleet_server(settings, process)
    if process.workers > 1:
        return _run_supervisor(settings, process)
    from cotun_trio.server.server import Server  # a client does not wait for it to be imported

    server = Server(settings, Passed.take(os.environ), Notifier(os.environ))
    handlers = {signal.SIGHUP: server.reload, signal.SIGUSR2: server.log_snapshot}
    return _run(server, handlers, process)


def _run_fleet_server(settings: ServerSettings, process: ProcessSettings) -> int:
    if process.workers > 1:
        raise UsageError("--fleet is for one process a node: leave out --workers")
    try:
        from cotun_trio.fleet.member import FleetServer  # the only import, as of the workers
    except ModuleNotFoundError as error:
        if error.name != "cotun_trio.fleet":
            raise
        raise UsageError("this installation has no fleet: leave out --fleet") from None

    server = FleetServer(settings, Passed.take(os.environ), Notifier(os.environ))
    handlers = {signal.SIGHUP: server.reload, signal.SIGUSR2: server.log_snapshot}
    return _run(server, handlers, process)


def _run_supervisor(settings: ServerSettings, process: ProcessSettings) -> int:
    try:
        # The only import of this package: without its folder, all else works.
        from cotun_trio.workers.supervisor import Supervisor
    except ModuleNotFoundError as error:
        if error.name != "cotun_trio.workers":
            raise
        raise UsageError("this installation has no workers: leave out --workers") from None

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
    """Run a client until a signal ends it, or it cannot go on; return the exit status.

    `reread` returns the current settings, for SIGHUP; it raises `UsageError`.  SIGHUP is the end
    for a stdio client, to which ssh sends it, and where the terminal has gone, except under nohup.
    """
    from cotun_trio.client.client import Client

    read_again = None if reread is None else lambda: _quick(reread())
    client = Client(_quick(settings), read_again, Notifier(os.environ))
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ends_with_terminal = has_terminal() and not nohup

    def hang_up() -> None:
        if client.is_for_stdio or (ends_with_terminal and not has_terminal()):
            client.hang_up()
        else:
            client.reload()

    handlers = {signal.SIGHUP: hang_up, signal.SIGUSR2: client.log_snapshot}
    return _run(client, handlers, process)


def _quick(settings: Settings) -> Settings:
    """Return the settings for a Trio run that is ours alone."""
    return attrs.evolve(settings, fast_loop=True)


def _run(role: Role, handlers: Handlers, process: ProcessSettings) -> int:
    prepare(process)
    try:
        try:
            trio.run(_until_signal, role, handlers, process.pid)
        finally:
            logs.wait_for_reader()
    except CotunError as error:
        if process.log_format == "json":
            role.log.error("%s", error)
        else:
            priority = "<3>" if logs.is_journal(sys.stderr, os.environ) else ""  # sd-daemon(3)
            print(f"{priority}cotun-trio: {error}", file=sys.stderr)
        return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 1)
    return 0


async def _until_signal(role: Role, handlers: Handlers, pid: str | None) -> None:
    """Run `role` to its end; meanwhile, handle signals.  Raises `CotunError`."""
    failure: CotunError | None = None
    received: list[signal.Signals] = []  # those that end it
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *handlers) as signals,
        # Inside: a program that finds our number may send a signal at once, and it has its handler.
        pid_file(Path(pid)) if pid else contextlib.nullcontext(),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_handle, signals, role, handlers, received, nursery.cancel_scope)
            nursery.start_soon(role.notifier.feed_watchdog)
            nursery.start_soon(logs.write_what_waits)
            nursery.start_soon(children.keep_reaping)
            try:
                await role.run()
                for number in received[:1]:
                    role.log.info("Ended by %s, goodbye", number.name)
            except CotunError as error:  # not through the nursery, which would make a group of it
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _handle(
    signals: AsyncIterator[int],
    role: Role,
    handlers: Handlers,
    received: list[signal.Signals],
    scope: trio.CancelScope,
) -> None:
    """Handle signals: those without a handler end `role`, and the second one at once.

    Those are added to `received`.
    """
    async for number in signals:
        if number in handlers:
            handlers[signal.Signals(number)]()
            continue
        received.append(signal.Signals(number))
        if len(received) > 1:
            scope.cancel()
        else:
            role.shut_down()
