"""The choice of the worker that gets a connection: it answers, and has the fewest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class Candidate(Protocol):
    """A worker that can be chosen."""

    @property
    def load(self) -> int:
        """The number of its connections that have not ended."""

    @property
    def is_late(self) -> bool:
        """Whether its answer is late; see `cotun_trio.workers.attention`."""

    @property
    def is_silent(self) -> bool:
        """Whether its answer is so late that it gets nothing more before that."""

    @property
    def has_room(self) -> bool:
        """Whether another connection can be on its way to it."""


C = TypeVar("C", bound=Candidate)


class Balancer(Generic[C]):
    """The workers that can be given connections, and the choice between them."""

    def __init__(self) -> None:
        self._workers: list[C] = []  # the one that was chosen last comes last

    def add(self, worker: C) -> None:
        """Add a worker that is ready."""
        self._workers.append(worker)

    def remove(self, worker: C) -> None:
        """Remove a worker that gets nothing more.  Can be called again."""
        if worker in self._workers:
            self._workers.remove(worker)

    def choose(self, *, in_time: bool = False) -> C | None:
        """Return the worker that gets the next connection; None where no worker can take one.

        Late workers come last, or not at all where it has to be `in_time`.  Among the others, the
        one with the smallest load is chosen, and among equals, the one that has waited longest.
        """
        able = (worker for worker in self._able() if not (in_time and worker.is_late))
        chosen = min(able, key=lambda worker: (worker.is_late, worker.load), default=None)
        if chosen is not None:
            self._workers.remove(chosen)
            self._workers.append(chosen)
        return chosen

    @property
    def is_open(self) -> bool:
        """Whether there is a worker to choose."""
        return any(True for _ in self._able())

    def _able(self) -> Iterator[C]:
        return (worker for worker in self._workers if worker.has_room and not worker.is_silent)

    def __len__(self) -> int:
        return len(self._workers)
