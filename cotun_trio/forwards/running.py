"""The running forwards of a session, each with what it uses: what a user may do can change while
they run, and then those have to end that are not allowed any more, and no others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target


@attrs.define(eq=False)
class Forward:
    """One connection, or the datagrams of one remote."""

    uses: Target | Remote
    """The target that the peer named; or the remote that it came in by here."""
    by_socks: Target | None = None
    """Where a SOCKS client's request led, once there was one."""
    endless: bool = False
    """Whether it never ends by itself: datagrams."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Quota:
    """How many forwards there may be in all sessions together.  `limit` 0 is for no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0
        """Those that there are."""

    @property
    def used_up(self) -> bool:
        """Whether there may be no more."""
        return 0 < self._limit <= self.count


class Forwards:
    """What runs in one session at present, and counts in `quota`."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._running: set[Forward] = set()
        self._idle = trio.lowlevel.ParkingLot()

    @property
    def idle(self) -> bool:
        """Whether there is none."""
        return not self._running

    async def wait_idle(self) -> None:
        """Wait until there is none."""
        while self._running:
            await self._idle.park()

    @contextlib.contextmanager
    def running(self, uses: Target | Remote, *, endless: bool = False) -> Iterator[Forward]:
        """Count a forward for as long as the block runs; `cut` cancels that."""
        forward = Forward(uses, endless=endless)
        self._running.add(forward)
        self.quota.count += 1
        try:
            with forward.scope:
                yield forward
        finally:
            self._running.remove(forward)
            self.quota.count -= 1
            if not self._running:
                self._idle.unpark_all()

    def cut(self, allowed: Callable[[Forward], bool]) -> int:
        """Cancel those that are not `allowed`; return how many."""
        forbidden = [forward for forward in self._running if not allowed(forward)]
        for forward in forbidden:
            forward.scope.cancel()
        return len(forbidden)
