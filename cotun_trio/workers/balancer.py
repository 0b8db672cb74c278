"""Which worker gets a connection: the one that has the fewest, of those that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class Candidate(Protocol):
    """A worker, as far as it matters here."""

    @property
    def load(self) -> int:
        """How many connections it has been given that have not ended."""

    @property
    def is_late(self) -> bool:
        """Whether it has let us wait for a while; see `cotun_trio.workers.attention`."""

    @property
    def is_silent(self) -> bool:
        """Whether it has let us wait for so long that it gets nothing until it answers."""

    @property
    def has_room(self) -> bool:
        """Whether another connection can be on its way to it."""


C = TypeVar("C", bound=Candidate)


class Balancer(Generic[C]):
    """The workers that can be given connections."""

    def __init__(self) -> None:
        self._workers: list[C] = []  # the one that was chosen last comes last

    def add(self, worker: C) -> None:
        """Take in one that is ready."""
        self._workers.append(worker)

    def remove(self, worker: C) -> None:
        """Take out one that gets nothing more.  Can be called again."""
        if worker in self._workers:
            self._workers.remove(worker)

    def choose(self, *, in_time: bool = False) -> C | None:
        """Return the worker that gets the next connection; None where there is none.

        One that is late comes after those that are not, or not at all where it has to be one that
        is `in_time`; then it is the load; and among equals, the time since the last one.
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
