"""The threads that check passwords: as many as there are processors, since a check does nothing but
compute.  `cotun_trio.access.login_queue` decides the order.

A thread cannot be stopped.  Trio's own limiter would let a source that goes away in the middle of a
check have another thread at once; here, it waits until the first one is back.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar

import trio

from cotun_trio.access.login_queue import LoginQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from outcome import Outcome

    from cotun_trio.access.login_queue import Turn

T = TypeVar("T")


class LoginThreads:
    """Runs checks in threads, in the order of a `LoginQueue`."""

    def __init__(self, count: int | None = None) -> None:
        self.queue = LoginQueue(count or os.cpu_count() or 1)

    async def run(self, source: str, check: Callable[[], T | None]) -> T | None:
        """Return the result of `check` for `source`, None where the password is wrong.

        Raises exceptions of `check`.  When cancelled, the thread goes on and nobody hears of it.
        """
        turn_came = trio.Event()
        turn = self.queue.wait(source, trio.current_time(), turn_came.set)
        try:
            await turn_came.wait()
        except trio.Cancelled:
            if turn_came.is_set():
                self.queue.done(turn, trio.current_time(), right=None)
            else:
                self.queue.give_up(turn)
            raise
        return await self._run(turn, check)

    async def _run(self, turn: Turn, check: Callable[[], T | None]) -> T | None:
        token = trio.lowlevel.current_trio_token()
        back = trio.Event()
        results: list[Outcome[T | None]] = []
        right = False

        def work() -> T | None:
            nonlocal right
            found = check()
            right = found is not None
            return found

        def take(result: Outcome[T | None]) -> None:
            results.append(result)
            self.queue.done(turn, trio.current_time(), right=right)
            back.set()

        def deliver(result: Outcome[T | None]) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # nobody is there any more
                token.run_sync_soon(take, result)

        try:
            trio.lowlevel.start_thread_soon(work, deliver, "login")
        except RuntimeError:  # the system has no more threads
            self.queue.done(turn, trio.current_time(), right=None)
            raise
        await back.wait()
        return results[0].unwrap()
