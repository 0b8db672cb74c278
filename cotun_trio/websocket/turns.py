"""When a wire may process the bytes of its peer, and how many of them.

A turn has a budget (`cotun_trio.budget`).  A peer that has logged in and means well never notices:
its turns come as its bytes do.  All other turns come one after the other, by the slow lane:

* those of peers that have not logged in: there can be many, and each key exchange takes a
  millisecond;
* those for the rest of an earlier turn;
* those of sessions that are busier than their allowance.

A session that wastes our time rests as well, until it has an allowance again.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import trio

from cotun_trio.budget import BEFORE_LOGIN, TURN, Allowance
from cotun_trio.net.lane import slow_lane

if TYPE_CHECKING:
    from cotun_trio.budget import Budget

SMALL_READ = 16 * 1024
"""Bytes that are read at once of a peer that has not logged in, and of one that sends crumbs: the
rest of a turn is kept, and this is the most that it can be."""
MAX_BYTES_BEFORE_LOGIN = 128 * 1024
"""Bytes that a peer can send before its login is done; a login takes 3 KiB."""


class Resting:
    """The sessions of this Trio run that rest at present: there is one share for each."""

    def __init__(self) -> None:
        self._until: list[float] = []  # a heap

    def count(self, now: float) -> int:
        """Return how many rest at the time `now`."""
        while self._until and self._until[0] <= now:
            heappop(self._until)
        return len(self._until)

    def rest(self, until: float) -> None:
        """Count one more until then, even if it ends earlier."""
        heappush(self._until, until)


_resting: trio.lowlevel.RunVar[Resting] = trio.lowlevel.RunVar("resting")


def resting() -> Resting:
    """Return the resting sessions of this Trio run."""
    try:
        return _resting.get()
    except LookupError:
        sessions = Resting()
        _resting.set(sessions)
        return sessions


class Turns:
    """The turns of one wire."""

    __slots__ = ("_busy", "_rest_until", "_wasting", "budget", "late", "read_size", "slow")

    def __init__(self, budget: Budget) -> None:
        self.read_size = SMALL_READ
        """Bytes to ask of the network."""
        self.budget = budget
        """The work that a turn may do."""
        self.late = True
        """Whether others come first: the peer has not logged in, is too busy, or has just wasted a
        turn."""
        self._busy: Allowance | None = None  # once the peer has logged in
        self._wasting: Allowance | None = None
        self._rest_until = 0.0
        self.slow = True
        """Whether the next turn has to be waited for."""

    def use_budget(self, budget: Budget) -> None:
        """Follow this budget from now on."""
        self.budget = budget

    def logged_in(self) -> None:
        """Trust the peer more from now on."""
        now = trio.current_time()
        self._busy, self._wasting = Allowance(now), Allowance(now)
        self.late = self.slow = False

    def too_much(self, bytes_in: int) -> bool:
        """Return whether the peer has sent or caused more than a login takes, without a login."""
        return self._busy is None and (
            bytes_in > MAX_BYTES_BEFORE_LOGIN or self.budget.spent > BEFORE_LOGIN
        )

    async def enter(self) -> None:
        """Wait for the next turn, where it is a `slow` one; `leave` has to follow."""
        if self._rest_until:
            await trio.sleep_until(self._rest_until)
            self._rest_until = 0.0
        await slow_lane().enter(self, late=self.late)

    def enter_now(self) -> bool:
        """Take the next turn without a wait, where nobody else wants one; return whether it is so.

        `leave` has to follow then.
        """
        return not self._rest_until and slow_lane().enter_now(self)

    def leave(self) -> None:
        """Let others have their turn."""
        slow_lane().leave()

    def done(self, *, unfinished: bool) -> None:
        """Note the end of a turn, and whether it has left something over."""
        budget = self.budget
        if unfinished:
            self.read_size = SMALL_READ
        if budget.busy or budget.wasted or self.late:
            self._take_from_allowances()
        self.slow = self.late or unfinished

    def _take_from_allowances(self) -> None:
        """Decide whether a session has to wait for others, or to rest."""
        if self._busy is None or self._wasting is None:
            return
        now = trio.current_time()
        others = resting()
        busy, wasted = self.budget.take()
        rest = self._wasting.take(wasted, now, others.count(now) + 1)
        too_busy = self._busy.take(busy, now) > 0
        self.late = too_busy or rest > 0 or wasted >= TURN // 2
        self._rest_until = now + rest if rest else 0.0
        if rest:
            others.rest(now + rest)

    def read(self, size: int, most: int) -> None:
        """Note that the network gave `size` bytes: if as many as were asked for, ask for more."""
        if size >= self.read_size < most and self._busy is not None:
            self.read_size = min(2 * self.read_size, most)
