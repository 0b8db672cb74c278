"""Counters of connections and bytes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.ssh.channel import Channel


class Traffic:
    """The counters of one remote, over all sessions.

    `failed` is called with the reason where a connection could not be made.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.failed = failed
        self.total = 0
        """Connections so far; the datagrams of one session are one."""
        self._running: dict[object, list[Channel]] = {}
        self._bytes_in = self._bytes_out = 0  # of flows that have ended

    def began(self, flow: object) -> None:
        """Count a flow from now on."""
        self.total += 1
        self._running[flow] = []

    def carries(self, flow: object, channel: Channel) -> None:
        """Count the bytes of a channel."""
        self._running[flow].append(channel)

    def ended(self, flow: object) -> None:
        """Keep the bytes of a flow that has ended."""
        for channel in self._running.pop(flow):
            self._bytes_in += channel.bytes_in
            self._bytes_out += channel.bytes_out

    @property
    def open(self) -> int:
        """Connections at present."""
        return len(self._running)

    @property
    def bytes_in(self) -> int:
        """Bytes received through the tunnel so far."""
        return self._bytes_in + sum(channel.bytes_in for channel in self._channels())

    @property
    def bytes_out(self) -> int:
        """Bytes sent through the tunnel so far."""
        return self._bytes_out + sum(channel.bytes_out for channel in self._channels())

    def _channels(self) -> Iterator[Channel]:
        return itertools.chain.from_iterable(self._running.values())
