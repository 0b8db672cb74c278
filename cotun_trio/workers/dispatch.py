"""Accepted connections go to workers, and to other workers where one does not take them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cotun_trio.workers.balancer import Balancer

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from cotun_trio.workers.handover import Connection, Outgoing
    from cotun_trio.workers.worker_handle import WorkerHandle


class Dispatch:
    """Dispatches connections to those of `workers` that its `balancer` has.

    `close` it.
    """

    def __init__(self, workers: Collection[WorkerHandle]) -> None:
        self.balancer: Balancer[WorkerHandle] = Balancer()
        """The workers that can be given connections."""
        self._workers = workers
        # Connections that no worker takes.  There are few: a dead worker has left them, or they
        # were accepted before accepting paused.
        self._held: deque[tuple[Connection, socket.socket]] = deque()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether to accept more: a worker can take it, and nothing is held."""
        return not self._held and self.balancer.is_open

    def hand_over(self, connection: Connection, sock: socket.socket) -> None:
        """Give a connection to a worker, or hold it until there is one; `sock` is ours now."""
        if self._closed:
            sock.close()
            return
        self._held.append((connection, sock))
        self._give_held()

    def again(self) -> None:
        """Dispatch held connections, and those that late workers have not taken.

        To be called whenever there may be a worker that takes them.
        """
        for worker in self._workers:
            self._relieve(worker)
        self._give_held()

    def inherit(self, outgoing: Outgoing) -> None:
        """Give the untaken connections of a dead worker to others."""
        while (found := outgoing.take_back()) is not None:
            self.hand_over(*found)

    def close(self) -> None:
        """Close the connections that no worker has taken, and all that come from now on."""
        self._closed = True
        for _, sock in self._held:
            sock.close()
        self._held.clear()

    def _give_held(self) -> None:
        while self._held and (worker := self.balancer.choose()) is not None:
            if worker.give(*self._held[0]):
                self._held.popleft()

    def _relieve(self, worker: WorkerHandle) -> None:
        """Give the untaken connections of a late worker to workers that are not late.

        Where all are late, they stay: this worker may be the first to go on.
        """
        outgoing = worker.outgoing
        while outgoing.untaken and worker.is_late:
            other = self.balancer.choose(in_time=True)
            found = None if other is None else outgoing.take_back()
            if other is None or found is None:
                return
            if not other.give(*found):
                self._held.append(found)
