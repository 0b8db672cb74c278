"""Counts of what a piece of work costs: system calls on sockets, waits, turns of Trio's scheduler.

Numbers, and not times: they are the same on every machine.  Sockets that are used by the methods of
`RAW`, or by Trio's own streams, are not counted.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.net import poller as module

if TYPE_CHECKING:
    import pytest

RAW = socket.socket.__base__
"""The class below `socket.socket`, whose methods are the system calls."""
SENDS = ("send", "sendmsg", "sendto")
READS = ("recv_into", "recv", "recvfrom", "recvmsg", "recvmsg_into")


class Costs(trio.abc.Instrument):
    """What was counted since the last `take`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._tests_own = trio.lowlevel.current_task()

    def add(self, name: str) -> None:
        """Count one."""
        self._counts[name] += 1

    def take(self) -> Counter[str]:
        """Return the counts, and begin anew."""
        counts, self._counts = self._counts, Counter()
        return counts

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a turn of a task other than the test's."""
        if task is not self._tests_own:
            self.add("turns")


def counting(monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Count from now on, in the present Trio run; the poller must not be open yet."""
    costs = Costs()

    def counted(name: str, kind: str) -> Any:
        method = getattr(RAW, name)

        def call(self: socket.socket, *args: Any) -> Any:
            costs.add(kind)
            return method(self, *args)

        return call

    for name in SENDS:
        monkeypatch.setattr(socket.socket, name, counted(name, "sends"), raising=False)
    for name in READS:
        monkeypatch.setattr(socket.socket, name, counted(name, "reads"), raising=False)

    class Epoll:
        """An epoll whose calls are counted."""

        def __init__(self) -> None:
            self._real = select.epoll()
            self.fileno, self.close = self._real.fileno, self._real.close

        def register(self, *args: Any) -> None:
            costs.add("registrations")
            self._real.register(*args)

        def unregister(self, *args: Any) -> None:
            costs.add("registrations")
            self._real.unregister(*args)

        def poll(self, *args: Any) -> list[tuple[int, int]]:
            costs.add("waits")
            return self._real.poll(*args)

    fake = SimpleNamespace(epoll=Epoll, EPOLLIN=select.EPOLLIN)
    monkeypatch.setattr(module, "select", fake)
    trio.lowlevel.add_instrument(costs)
    return costs
