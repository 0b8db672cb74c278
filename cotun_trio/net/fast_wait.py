"""A place in front of Trio's wait: sockets are served without a turn of its scheduler.

Trio's loop asks its I/O manager for events, and that waits for them in an epoll.  `stand_in_front`
puts an object in the manager's place which waits in an epoll of ours, where Trio's own is one of
the descriptors.  If ours are ready, they are served at once.  If that has woken no task, it waits
on, up to the next deadline of Trio.  So Trio sees nothing else than a wait; it has its turn as soon
as there is something for it: an event of its own, a task to run, a deadline.  Nothing of it can
starve, however much there is to serve, since a round of ours has an end.

While a task waits for all tasks to be blocked, or a clock jumps when they are, each round is an
event for Trio: something has happened.

This leans on names of Trio that are not public.  They are all in this module, `_find` checks them
when it is asked for, and `tests/net/test_fast_wait.py` names each.  Where they are not as expected,
and in guest mode, where another thread does the waiting, there is no such place.
"""

from __future__ import annotations

import math
import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Events = list[tuple[int, int]]

MOST = 128
"""Events that are taken at once: so many sockets are looked at in one round."""
LONGEST = 3600.0
"""Seconds of one wait: epoll takes no infinity."""
_SERVED: Any = ("served",)
"""The events of a wait in which only ours were ready.  It is true: time alone has not passed."""


class _Front:
    """Trio's I/O manager as its loop sees it."""

    def __init__(self, runner: Any, epoll: select.epoll, serve: Callable[[Events], None]) -> None:
        self.manager = manager = runner.io_manager
        self._runner = runner
        self._poll = epoll.poll
        self._serve = serve
        self._trio = manager._epoll.fileno()  # noqa: SLF001
        # What Trio and its users call often.
        self.wait_readable = manager.wait_readable
        self.wait_writable = manager.wait_writable
        self.notify_closing = manager.notify_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self.manager, name)

    def get_events(self, timeout: float) -> Any:
        """Serve our sockets until there is something for Trio; return its events."""
        events = self._poll(timeout, MOST)
        if not events:
            return events
        while events:
            if self._take_out_trio(events):
                if events:
                    self._serve(events)
                return self.manager.get_events(0) or _SERVED
            self._serve(events)
            timeout = self._time_left()
            if timeout <= 0:
                break
            events = self._poll(timeout if timeout < LONGEST else LONGEST, MOST)
        return _SERVED

    def _take_out_trio(self, events: Events) -> bool:
        """Remove the event of Trio's epoll; return whether there was one."""
        for event in events:
            if event[0] == self._trio:
                events.remove(event)
                return True
        return False

    def _time_left(self) -> float:
        """Return for how many seconds there is nothing to do for Trio."""
        runner = self._runner
        if runner.runq or runner.waiting_for_idle or runner.clock_autojump_threshold != math.inf:
            return 0
        left: float = runner.clock.deadline_to_sleep_time(runner.deadlines.next_deadline())
        return left

    def process_events(self, events: Any) -> None:
        """Have Trio take its events."""
        if events is not _SERVED:
            self.manager.process_events(events)


def _find() -> Any | None:
    """Return Trio's runner, if all that is used of it is there."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        runner = GLOBAL_RUN_CONTEXT.runner
        manager = runner.io_manager
        calls = [
            *(getattr(manager, name) for name in ("get_events", "process_events")),
            *(getattr(manager, name) for name in ("wait_readable", "wait_writable")),
            manager.notify_closing,
            runner.clock.deadline_to_sleep_time,
            runner.deadlines.next_deadline,
        ]
        values = [runner.waiting_for_idle, runner.clock_autojump_threshold, runner.runq]
        fits = isinstance(manager._epoll, select.epoll) and all(map(callable, calls))  # noqa: SLF001
        return runner if fits and len(values) == 3 and not runner.is_guest else None
    except (ImportError, AttributeError):
        return None


def stand_in_front(
    epoll: select.epoll, serve: Callable[[Events], None]
) -> Callable[[], None] | None:
    """Have `serve` called with the events of `epoll`, from Trio's loop, until the end.

    Return the function that ends it; None where it cannot be done.  `serve` must not raise.
    """
    runner = _find()
    if runner is None:
        return None
    front = _Front(runner, epoll, serve)
    epoll.register(front.manager._epoll.fileno(), select.EPOLLIN)  # noqa: SLF001
    runner.io_manager = front

    def leave() -> None:
        assert runner.io_manager is front
        runner.io_manager = front.manager

    return leave
