"""The poller: one epoll for all sockets of a Trio run that are read again and again.

A task that waits with `trio.lowlevel.wait_readable` registers its socket anew for each message, and
gets a turn of the scheduler for each.  That is half of the price of a small message.  Here a socket
is registered once, with a *step*: a function that reads what there is and passes it on, within
bounds.  All sockets that are readable at a time have their steps called in one go, a *round*.  The
task of the socket sleeps until its step has something to say to it.

Nobody above sees any of this: `while_readable` waits in Trio's own way where there is no poller,
because none is held (`Poller.hold`), or because the platform has no epoll.

A round is shared by *groups*: the streams of a session with its wire, its datagrams, a listener.
Where there are many, `cotun_trio.net.rounds` has their order.  A round ends after `ROUND` seconds;
the rest waits for the next one.

What the steps of a round send is held back until its end, so that it goes out in one piece
(`Cork`).  Where a single socket is readable, nothing is held back.

There are two ways to wait for the epoll.  A task that waits for its descriptor is the ordinary one.
The fast one stands in front of Trio's own wait (`cotun_trio.net.fast_wait`).
"""

from __future__ import annotations

import contextlib
import select
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio
from outcome import Error, Value
from trio.lowlevel import (
    Abort,
    current_task,
    reschedule,
    spawn_system_task,
    wait_readable,
    wait_task_rescheduled,
)

from cotun_trio.logs import get_logger
from cotun_trio.net import fast_wait
from cotun_trio.net.lane import slow_lane
from cotun_trio.net.rounds import Crowd

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from outcome import Outcome

log = get_logger("poller")

FEW = 8
"""Sockets in a round up to which their groups and the time of their steps are not looked at."""
MEASURED = 32
"""Of so many rounds, the steps of one are measured in any case: in a crowd, the groups that are
known for short steps come first."""
CROWD = 8
"""Sockets from which on they share an epoll that a task waits for.  For one that is busy alone,
that costs a tenth more than Trio's own wait."""
ROUND = 0.001
"""Seconds after which a round ends: then Trio's tasks have their turn."""

Result = TypeVar("Result")


class Corked(Protocol):
    """Sends in one piece what it has held back."""

    def uncork(self) -> None:
        """Send it."""


class Cork:
    """Whether small messages are held back at present, and the senders that have some."""

    __slots__ = ("holding", "on")

    def __init__(self) -> None:
        self.on = False
        """Whether a round is under way that has several sockets."""
        self.holding: list[Corked] = []
        """The senders to be uncorked at its end; each adds itself."""

    def pull(self) -> None:
        """End it."""
        self.on = False
        holding, self.holding = self.holding, []
        for each in holding:
            try:
                each.uncork()
            except Exception:  # all others are still to be uncorked
                log.exception("internal error, bytes of a session were not sent")


class _Reader:
    """A socket that is registered, with its step and the task that sleeps."""

    __slots__ = ("context_run", "descriptor", "group", "step", "task")

    def __init__(self, descriptor: int, step: Callable[[], object], group: object) -> None:
        self.descriptor = descriptor
        self.step = step
        self.group = self if group is None else group
        self.task = current_task()
        self.context_run = self.task.context.run


class Poller:
    """The poller of one Trio run.  It is open while it is held."""

    def __init__(self) -> None:
        self.cork = Cork()
        self._lane = slow_lane()
        self.waiting = 0
        """How many sockets wait in Trio's own way."""
        self._holders = 0
        self._epoll: select.epoll | None = None
        self._readers: dict[int, _Reader] = {}
        self._crowd: Crowd[_Reader] = Crowd()
        self._until_measured = MEASURED
        self._leave_front: Callable[[], None] | None = None  # where it is in front of Trio's wait
        self._task: trio.CancelScope | None = None  # where a task waits

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def is_fast(self) -> bool:
        """Whether it stands in front of Trio's wait."""
        return self._leave_front is not None

    @property
    def is_quiet(self) -> bool:
        """Whether a socket is better not registered, or cannot be."""
        if self.is_fast:
            return False
        return self._epoll is None or len(self._readers) + self.waiting < CROWD

    # ---- its life

    @contextlib.contextmanager
    def hold(self, *, fast: bool) -> Iterator[None]:
        """Have it open; `fast` asks for the place in front of Trio's wait, if that can be had.

        That stays until the last holder has gone.
        """
        self._holders += 1
        try:
            if self._epoll is None and hasattr(select, "epoll"):
                self._epoll = select.epoll()
            if self._epoll is not None:
                self._begin(self._epoll, fast=fast)
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._close()

    def _begin(self, epoll: select.epoll, *, fast: bool) -> None:
        if fast and self._leave_front is None:
            self._end_task(epoll)  # Trio's epoll cannot be in this one, and this one in Trio's
            self._leave_front = fast_wait.stand_in_front(epoll, self.serve)
        if self._leave_front is None and self._task is None:
            self._task = trio.CancelScope()
            spawn_system_task(self._run, epoll, self._task)

    def _end_task(self, epoll: select.epoll) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
            trio.lowlevel.notify_closing(epoll.fileno())

    def _close(self) -> None:
        epoll, self._epoll = self._epoll, None
        if epoll is None:
            return
        for reader in list(self._readers.values()):
            self._wake(reader, Value(None))  # it waits in Trio's way from now on
        self._crowd = Crowd()
        if self._leave_front is not None:
            self._leave_front()
            self._leave_front = None
        self._end_task(epoll)
        epoll.close()

    async def _run(self, epoll: select.epoll, scope: trio.CancelScope) -> None:
        with scope:
            while not scope.cancel_called:  # or else the epoll is closed
                self.serve(epoll.poll(0, fast_wait.MOST))
                await wait_readable(epoll.fileno())

    # ---- its sockets

    def add(self, reader: _Reader) -> None:
        """Register a socket.  Raises `trio.BusyResourceError` where it is registered already."""
        if reader.descriptor in self._readers:
            raise trio.BusyResourceError("another task is already reading this socket")
        assert self._epoll is not None
        self._epoll.register(reader.descriptor, select.EPOLLIN)
        self._readers[reader.descriptor] = reader

    def remove(self, reader: _Reader) -> None:
        """Forget a socket."""
        del self._readers[reader.descriptor]
        if self._epoll is not None:
            with contextlib.suppress(OSError):  # it is closed
                self._epoll.unregister(reader.descriptor)

    def closing(self, descriptor: int) -> None:
        """Wake the task of a socket that is about to be closed, if there is one."""
        if (reader := self._readers.get(descriptor)) is not None:
            self._wake(reader, Error(trio.ClosedResourceError("another task closed this socket")))

    def _wake(self, reader: _Reader, told: Outcome[Any]) -> None:
        self.remove(reader)
        reschedule(reader.task, told)

    # ---- its rounds

    def serve(self, events: list[tuple[int, int]]) -> None:
        """Call the steps of the sockets in `events`, as epoll returns them."""
        self._lane.new_round()
        self._until_measured -= 1
        is_measured = self._crowd or len(events) > FEW or not self._until_measured
        if len(events) == 1 and not is_measured:
            if (reader := self._readers.get(events[0][0])) is not None:
                self._call(reader)
            return
        self.cork.on = len(events) > 1 or bool(self._crowd)
        try:
            if not is_measured:
                for descriptor, _ in events:
                    if (reader := self._readers.get(descriptor)) is not None:
                        self._call(reader)
            else:
                self._serve_many(events)
        finally:
            self.cork.pull()

    def _serve_many(self, events: list[tuple[int, int]]) -> None:
        """Call the steps one group after the other, for as long as the round lasts."""
        self._until_measured = MEASURED
        readers, crowd = self._readers, self._crowd
        for descriptor, _ in events:
            if (reader := readers.get(descriptor)) is not None:
                crowd.add(reader.group, descriptor, reader)
        now = perf_counter()
        end = now + ROUND
        while crowd:
            began = now
            group, reader = crowd.take()
            if readers.get(reader.descriptor) is reader:
                self._call(reader)
            now = perf_counter()
            crowd.took(group, now - began)
            if now > end:
                return

    def _call(self, reader: _Reader) -> None:
        """Call a step; wake its task where the step has a result, or fails."""
        try:
            result = reader.context_run(reader.step)
        except Exception as error:  # noqa: BLE001  it is for the task of the step
            told: Outcome[Any] = Error(error)
        else:
            if result is None:
                return
            told = Value(result)
        if self._readers.get(reader.descriptor) is reader:  # it may have ended its own task
            self._wake(reader, told)


_poller: trio.lowlevel.RunVar[Poller] = trio.lowlevel.RunVar("poller")


def poller() -> Poller:
    """Return the poller of this Trio run, open or not."""
    try:
        return _poller.get()
    except LookupError:
        made = Poller()
        _poller.set(made)
        return made


async def while_readable(
    sock: socket.socket, step: Callable[[], Result | None], group: object = None
) -> Result:
    """Call `step` whenever `sock` is readable, until it returns something; return that.

    A step reads without blocking, and takes a bounded time.  It may be called for nothing.  It is
    called in the context of this task, but perhaps outside of all tasks: it must not enter a
    `trio.CancelScope`.  It has to leave, by a result, where it has not read.  Groups have equal
    shares of a round; without a `group`, it is one by itself.

    Raises what `step` raises, and `trio.ClosedResourceError` where the socket is closed, or is
    being closed (`notify_closing`).  When cancelled, `step` is not called any more.
    """
    run = poller()
    while True:
        descriptor = sock.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("this socket was already closed")
        if run.is_quiet:
            run.waiting += 1
            try:
                await wait_readable(sock)
            finally:
                run.waiting -= 1
            result = step()
        else:
            result = await _sleep(run, _Reader(descriptor, step, group))
        if result is not None:
            return result


async def _sleep(run: Poller, reader: _Reader) -> Any:
    """Return what the reader's step returns, or None where the poller is closed."""
    run.add(reader)

    def abort(_raise_cancel: object) -> Abort:
        run.remove(reader)
        return Abort.SUCCEEDED

    return await wait_task_rescheduled(abort)


def notify_closing(sock: socket.socket) -> None:
    """Wake all tasks that wait for `sock`, here or in Trio: it is about to be closed."""
    poller().closing(sock.fileno())
    trio.lowlevel.notify_closing(sock)
