"""The running forwards of a session, each with what it uses: what a user may do can change while
they run, and then those have to end that are not allowed any more, and no others.

They are counted, too, for the limits of the session and of all sessions together.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

import attrs
import trio

from cotun_trio.counts import OwnCount
from cotun_trio.errors import CotunError
from cotun_trio.forwards.datagrams import Turns
from cotun_trio.forwards.flows import (
    MAX_DESTINATIONS,
    MAX_WAITING_BYTES,
    Flows,
    Slots,
    Sources,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from cotun_trio.counts import Count
    from cotun_trio.forwards.link import Link
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import OutgoingOpen


class Tally:
    """What one remote has carried, in however many sessions.

    `failed` is told why a connection of it could not be had.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.failed = failed
        self.total = 0
        """Connections so far; the datagrams of one session are one."""
        self._running: dict[Forward, list[Channel]] = {}
        self._bytes_in = self._bytes_out = 0  # of those that have ended

    def began(self, forward: Forward) -> None:
        """Count one."""
        self.total += 1
        self._running[forward] = []

    def carries(self, forward: Forward, channel: Channel) -> None:
        """Count what goes through a channel."""
        self._running[forward].append(channel)

    def ended(self, forward: Forward) -> None:
        """Keep what one has carried."""
        for channel in self._running.pop(forward):
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


@attrs.define(eq=False)
class Forward:
    """One connection, or the datagrams of one remote: it runs until its ``with`` block ends."""

    _forwards: Forwards
    uses: Target | Remote
    """The target that the peer named; or the remote that it came in by here."""
    by_socks: Target | None = None
    """Where a SOCKS client's request led, once there was one."""
    endless: bool = False
    """Whether it never ends by itself: datagrams."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    tally: Tally | None = None
    """Where it counts."""

    def __enter__(self) -> Self:
        self.scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._forwards.ended(self)
        return self.scope.__exit__(kind, error, traceback)

    def carries(self, channel: Channel) -> None:
        """Note that it uses `channel`."""
        if self.tally is not None:
            self.tally.carries(self, channel)


@attrs.frozen
class Counted:
    """A session, as the `Link` of one forward: what is opened through it is the forward's."""

    link: Link
    forward: Forward

    @property
    def connection(self) -> Counted:
        """See `Link`."""
        return self

    @property
    def forwards(self) -> Forwards:
        """See `Link`."""
        return self.link.forwards

    @property
    def share(self) -> Share:
        """See `Link`."""
        return self.link.share

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """See `Connection.ask`."""
        return self.link.connection.ask(extra, opened)

    async def open_channel(self, extra: bytes) -> Channel:
        """See `Connection.open_channel`."""
        return await self.answer(self.ask(extra))

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """See `Connection.answer`."""
        try:
            channel = await self.link.connection.answer(pending)
        except CotunError as error:
            if self.forward.tally is not None:
                self.forward.tally.failed(str(error))
            raise
        self.forward.carries(channel)
        return channel

    def fail(self, failure: CotunError) -> None:
        """See `Link`."""
        self.link.fail(failure)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """See `Link`."""
        self.link.start_soon(function, *args)


class Quota:
    """How many forwards there may be in all sessions together.  `limit` 0 is for no limit.

    `count` is where those are counted that there are.
    """

    def __init__(self, limit: int, count: Count | None = None) -> None:
        self._limit = limit
        self.count = OwnCount() if count is None else count

    @property
    def used_up(self) -> bool:
        """Whether there may be no more."""
        return 0 < self._limit <= self.count.total


class Forwards:
    """What runs in one session at present, `limit` at the most, and counts in `quota`.

    `tally_of` says where else a forward counts, by what it uses.  `limit` 0 is for no limit.
    """

    def __init__(
        self,
        quota: Quota,
        tally_of: Callable[[Target | Remote], Tally | None] | None = None,
        *,
        limit: int = 0,
    ) -> None:
        self.quota = quota
        self.flows = Flows(quota, self._is_full)
        """The UDP flows that it has sockets for."""
        self.turns = Turns()
        """In which it passes datagrams on."""
        self.waiting = Slots(MAX_WAITING_BYTES)
        """Room for datagrams that wait."""
        self.sources = Sources()
        """Who sends datagrams to its listeners."""
        self.destinations = Slots(MAX_DESTINATIONS)
        """Places for those of SOCKS associations."""
        self._limit = limit
        self._tally_of = tally_of
        self._running: set[Forward] = set()
        self._idle = trio.lowlevel.ParkingLot()

    def _is_full(self) -> bool:
        count = len(self._running) + len(self.flows)
        return 0 < self._limit <= count or self.quota.used_up

    def make_room(self) -> bool:
        """Return whether the quota has room for a new connection.

        The longest idle UDP flow ends for it, where the session or the quota is full.  Only of the
        session that asks: no session makes room for another one.  How many channels there may be is
        the connection's business.
        """
        if self._is_full():
            self.flows.end_longest_idle()
        return not self.quota.used_up

    @property
    def idle(self) -> bool:
        """Whether there is none."""
        return not self._running

    async def wait_idle(self) -> None:
        """Wait until there is none."""
        while self._running:
            await self._idle.park()

    def begin(self, uses: Target | Remote, *, endless: bool = False) -> Forward:
        """Count a forward from now on; what it does is the ``with`` block that has to follow.

        `cut` cancels that.
        """
        tally = None if self._tally_of is None else self._tally_of(uses)
        forward = Forward(self, uses, endless=endless, tally=tally)
        self._running.add(forward)
        if tally is not None:
            tally.began(forward)
        self.quota.count.add(1)
        return forward

    def ended(self, forward: Forward) -> None:
        """Count it no longer."""
        self._running.remove(forward)
        self.quota.count.add(-1)
        if forward.tally is not None:
            forward.tally.ended(forward)
        if not self._running:
            self._idle.unpark_all()

    def cut(self, allowed: Callable[[Forward], bool]) -> int:
        """Cancel those that are not `allowed`; return how many."""
        forbidden = [forward for forward in self._running if not allowed(forward)]
        for forward in forbidden:
            forward.scope.cancel()
        return len(forbidden)
