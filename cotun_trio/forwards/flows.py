"""The flows of a session: its connections, and the datagrams of its UDP remotes.

Each flow knows its remote or its target: the rights of a user can change while it runs, and then
flows have to end that are not allowed any more, and no others.  Flows are counted, too, for the
limits of the session and of all sessions together.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Self

import attrs
import trio

from cotun_trio.forwards.datagrams import Turns
from cotun_trio.forwards.udp_flows import (
    MAX_DESTINATIONS,
    MAX_WAITING_BYTES,
    Slots,
    Sources,
    UdpFlows,
)
from cotun_trio.protocol.extensions import DATAGRAM_RUNS, VISITORS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from cotun_trio.forwards.quota import Quota
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.ssh.channel import Channel


@attrs.define(eq=False)
class Flow:
    """One connection, or the datagrams of one remote: it runs until its ``with`` block ends."""

    _flows: Flows
    uses: Target | Remote
    """The target that the peer named; or the remote that it came in by here."""
    by_socks: Target | None = None
    """The target of a SOCKS client's request, once there was one."""
    endless: bool = False
    """Whether it never ends by itself: datagrams."""
    lingers: bool = False
    """Whether it may hold the last bytes of a stream when the session has none of them any more."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    traffic: Traffic | None = None
    """The counters of its remote."""
    number: int | None = None
    """As in the log: ``conn=``; None where the log has none."""
    source: object = ""
    """The visitor whom a connection is from, as the log has it; `str` gives the address."""
    began: float = attrs.field(factory=time.monotonic)
    """Its beginning, on the monotonic clock."""
    channel: Channel | None = None
    """The channel that it uses, once there is one."""

    def __enter__(self) -> Self:
        self.scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._flows.ended(self)
        return self.scope.__exit__(kind, error, traceback)

    def leads_to(self, by_socks: Target) -> None:
        """Note the target of a SOCKS client's request."""
        self.by_socks = by_socks

    def cut(self) -> None:
        """Cancel it."""
        self.scope.cancel()

    def carries(self, channel: Channel) -> None:
        """Note that it uses `channel`."""
        self.channel = channel
        if self.traffic is not None:
            self.traffic.carries(self, channel)


class Flows:
    """The flows of one session: up to `limit` (0: no limit), and no more than `quota` allows.

    `traffic_of` returns the counters for a flow by its remote or target.
    """

    def __init__(
        self,
        quota: Quota,
        traffic_of: Callable[[Target | Remote], Traffic | None] | None = None,
        *,
        limit: int = 0,
    ) -> None:
        self.quota = quota
        self.udp = UdpFlows(quota, self._is_full)
        """The UDP flows that it has sockets for."""
        self.turns = Turns()
        """In which it passes datagrams on."""
        self.datagrams_in_runs = False
        """Whether both ends know `cotun_trio.protocol.datagram_runs`: the form of the channels that
        are opened from then on."""
        self.tells_visitors = False
        """Whether both ends know `cotun_trio.protocol.visitor_address`."""
        self.waiting = Slots(MAX_WAITING_BYTES)
        """Room for datagrams that wait."""
        self.sources = Sources()
        """The sources of datagrams to its listeners."""
        self.destinations = Slots(MAX_DESTINATIONS)
        """Places for destinations of SOCKS associations."""
        self._limit = limit
        self._tally_of = traffic_of
        self._running: dict[Flow, None] = {}  # the eldest comes first
        self._idle = trio.lowlevel.ParkingLot()

    def use(self, extensions: Collection[str]) -> None:
        """Use the extensions that both ends have, in all channels that are opened from now on."""
        self.datagrams_in_runs = DATAGRAM_RUNS in extensions
        self.tells_visitors = VISITORS in extensions

    def _is_full(self) -> bool:
        count = len(self._running) + len(self.udp)
        return 0 < self._limit <= count or self.quota.used_up

    def make_room(self) -> bool:
        """Return whether the quota has room for a new connection.

        The longest idle UDP flow ends for it, where the session or the quota is full.  Only of the
        session that asks: no session makes room for another one.  How many channels there may be is
        the connection's business.
        """
        if self._is_full():
            self.udp.end_longest_idle()
        return not self.quota.used_up

    @property
    def idle(self) -> bool:
        """Whether there is no flow."""
        return not self._running

    async def wait_idle(self) -> None:
        """Wait until there is no flow."""
        while self._running:
            await self._idle.park()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._running)

    def eldest(self, most: int) -> list[Flow]:
        """Return its flows, the eldest first, and no more than `most` of them."""
        return list(itertools.islice(self._running, most))

    @property
    def lingering(self) -> bool:
        """Whether there is a flow that `lingers`."""
        return any(flow.lingers for flow in self._running)

    def begin(
        self,
        uses: Target | Remote,
        *,
        endless: bool = False,
        lingers: bool = False,
        number: int | None = None,
        source: object = "",
    ) -> Flow:
        """Return a flow that counts from now on; it runs in the ``with`` block that has to follow.

        `cut` cancels the block.
        """
        traffic = None if self._tally_of is None else self._tally_of(uses)
        flow = Flow(
            self,
            uses,
            endless=endless,
            lingers=lingers,
            traffic=traffic,
            number=number,
            source=source,
        )
        self._running[flow] = None
        if traffic is not None:
            traffic.began(flow)
        self.quota.count.add(1)
        return flow

    def ended(self, flow: Flow) -> None:
        """Count it no longer."""
        del self._running[flow]
        self.quota.count.add(-1)
        if flow.traffic is not None:
            flow.traffic.ended(flow)
        if not self._running:
            self._idle.unpark_all()

    def cut(self, allowed: Callable[[Flow], bool]) -> int:
        """Cancel flows that are not `allowed`; return how many."""
        forbidden = [flow for flow in self._running if not allowed(flow)]
        for flow in forbidden:
            flow.cut()
        return len(forbidden)
