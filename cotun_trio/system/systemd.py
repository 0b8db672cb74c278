"""Messages to systemd, and from it: readiness, state, the watchdog, and open sockets.

The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): a datagram, three
variables, and descriptors from 3 on.  Without these variables, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
HEALTH = "health"
"""The name (FileDescriptorName=) of sockets that are for --health-listen."""


class Notifier:
    """Tells the service manager our state, where `environment` says that it wants to know.

    Nothing here waits or fails.  A message that the manager has no room for at the moment, as when
    many services start at once, is sent again with the next one: without READY=1, it would end us.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        # Taken away, so that no child of ours speaks for us.
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval(environment)
        self._ready = False
        self._status = ""
        self._unheard: dict[str, str] = {}  # the last value of each variable

    def tell(self, *assignments: str) -> None:
        """Send a state: ``READY=1`` and so on."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # abstract, in Linux's own namespace (unix(7))
            address = "\0" + address[1:]
        news = self._unheard | dict(text.split("=", 1) for text in assignments)
        if "READY" in news:
            news.pop("RELOADING", None)
        datagram = "\n".join(map("=".join, news.items()))
        self._unheard = {}
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(datagram.encode(errors="replace"), address)
            except BlockingIOError:
                self._unheard = news

    def ready(self, status: str) -> None:
        """Say that the service works.  Can be called again, with another status."""
        if not self._ready:
            self._ready = True
            self._status = status
            self.tell("READY=1", f"STATUS={status}")
        else:
            self.status(status)

    def status(self, status: str) -> None:
        """Describe the state on one line."""
        if status != self._status:
            self._status = status
            self.tell(f"STATUS={status}")

    def stopping(self, grace: float) -> None:
        """Say that we are about to end, in `grace` seconds at the most."""
        self.tell("STOPPING=1", "STATUS=Shutting down", f"EXTEND_TIMEOUT_USEC={_micro(grace + 5)}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that we reload, in the block.  Before `ready`, nothing is said about it."""
        if self._ready:
            self.tell("RELOADING=1", f"MONOTONIC_USEC={_micro(time.monotonic())}")
        try:
            yield
        finally:
            if self._ready:
                self.tell("READY=1")

    async def feed_watchdog(self) -> None:
        """Show that the event loop runs, as often as it is wanted, until cancelled."""
        if self._interval is None:
            return
        while True:
            self.tell("WATCHDOG=1")
            await trio.sleep(self._interval)


def _micro(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _watchdog_interval(environment: MutableMapping[str, str]) -> float | None:
    """Return half of the watchdog's time, in seconds; None where there is none, or not for us."""
    text = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
    if not text.isdecimal() or not int(text) or pid != str(os.getpid()):
        return None
    return int(text) / 2 / 1_000_000


@attrs.frozen
class Passed:
    """Listening sockets that the service manager has opened for us."""

    main: tuple[socket.socket, ...] = ()
    """In place of --host and --port."""
    health: tuple[socket.socket, ...] = ()
    """In place of --health-listen."""

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Passed:
        """Take the sockets that `environment` tells of, and the variables.

        Raises `UsageError` for a descriptor that is no listening TCP socket.
        """
        pid = environment.pop("LISTEN_PID", "")
        count = environment.pop("LISTEN_FDS", "")
        names = environment.pop("LISTEN_FDNAMES", "").split(":")
        if pid != str(os.getpid()) or not count.isdecimal():
            return cls()
        main: list[socket.socket] = []
        health: list[socket.socket] = []
        for number in range(int(count)):
            name = names[number] if number < len(names) else ""
            sock = _listening_socket(FIRST_DESCRIPTOR + number, name)
            (health if name == HEALTH else main).append(sock)
        return cls(tuple(main), tuple(health))


def _listening_socket(descriptor: int, name: str) -> socket.socket:
    shown = f"the descriptor {descriptor} ({escape(name) or 'no name'}) that was passed"
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise UsageError(f"{shown} is no socket: {error.strerror}") from None
    if (
        sock.family not in (socket.AF_INET, socket.AF_INET6)
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.detach()  # it is not ours
        raise UsageError(f"{shown} is no listening TCP socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
