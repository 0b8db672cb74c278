"""UDP flows and all else that datagrams use of a session, with a bound for each.

A flow is one source at the dialling end, with a socket of its own.  It counts as a connection, over
all channels of a session (and so does each channel, as it always did).  It ends when nothing has
passed for a while, or before, when its place is needed: the flow that has been idle for the longest
time makes room for the next one.  The work for a datagram takes the same time however many
flows there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.forwards.quota import Quota

MAX_WAITING = 64
"""Datagrams that wait for one channel or flow to open: a moment's worth."""
MAX_WAITING_BYTES = 1024 * 1024
"""Bytes of all that wait in a session: a target's name can be slow to resolve, and a peer slow to
open a channel."""
ITEM = 128
"""Bytes that a datagram takes beside its payload: an empty one is not for nothing."""
MAX_SOURCES = 16_384
"""Sources that a session's listeners remember, to send answers to: more flows than that, the other
end has not got by default.  4 MiB."""
MAX_DESTINATIONS = 4096
"""Destinations of all SOCKS associations of a session at a time, each with a task and mostly a
channel."""


class Slots:
    """A number of which parts are taken and given back."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, count: int = 1) -> bool:
        """Take `count`; return whether there were so many."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int = 1) -> None:
        """Give `count` back."""
        self._left += count


class Waiting:
    """Datagrams that wait for a channel or a flow to open; more than the limits allow are dropped.

    `room` is for the bytes of the whole session.
    """

    __slots__ = ("_datagrams", "_room")

    def __init__(self, room: Slots) -> None:
        self._room = room
        self._datagrams: list[tuple[str, bytes]] = []

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(self, source: str, data: memoryview | bytes) -> bool:
        """Keep a copy of a datagram, if there is room; return whether there is."""
        if len(self._datagrams) >= MAX_WAITING or not self._room.take(ITEM + len(data)):
            return False
        self._datagrams.append((source, bytes(data)))
        return True

    def take(self) -> list[tuple[str, bytes]]:
        """Remove and return all of them, the first one first."""
        datagrams, self._datagrams = self._datagrams, []
        self._room.give_back(sum(ITEM + len(data) for _, data in datagrams))
        return datagrams


class Sources:
    """The sources of datagrams to the listeners of a session, and the ways back for answers.

    A way back is the listener's own: the address of the source, and the local one.
    """

    def __init__(self) -> None:
        self._ways_back: OrderedDict[tuple[int, str], Any] = OrderedDict()

    def remember(self, listener: int, source: str, way_back: object) -> None:
        """Note a source of the listener with that number, and forget the one silent for longest."""
        key = (listener, source)
        ways_back = self._ways_back
        if key in ways_back:
            ways_back.move_to_end(key)
        elif len(ways_back) >= MAX_SOURCES:
            ways_back.popitem(last=False)
        ways_back[key] = way_back

    def find(self, listener: int, source: str) -> Any | None:
        """Return the way back to a source that has sent something."""
        return self._ways_back.get((listener, source))


class UdpFlow(Protocol):
    """A UDP flow, as `UdpFlows` sees it."""

    def end(self) -> None:
        """Free its socket, at once.  Can be called again."""


class UdpFlows:
    """The UDP flows of a session, the longest idle one first.

    They count in `quota`; `is_full` says whether there is no room for another connection.
    """

    def __init__(self, quota: Quota, is_full: Callable[[], bool]) -> None:
        self._quota = quota
        self._is_full = is_full
        self._flows: OrderedDict[UdpFlow, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def begin(self, flow: UdpFlow) -> bool:
        """Count `flow` from now on; return whether there is room, if need be after the end of the
        longest idle one."""
        if self._is_full():
            self.end_longest_idle()
            if self._is_full():
                return False
        self._flows[flow] = None
        self._quota.count.add(1)
        return True

    def used(self, flow: UdpFlow) -> None:
        """Note that something passes."""
        self._flows.move_to_end(flow)

    def ended(self, flow: UdpFlow) -> None:
        """Count it no longer.  Can be called again."""
        if flow in self._flows:
            del self._flows[flow]
            self._quota.count.add(-1)

    def end_longest_idle(self) -> None:
        """End a flow, if there is one, and free its socket at once."""
        for flow in self._flows:
            self.ended(flow)
            flow.end()
            return
