"""Which worker gets a connection: the one that has the fewest, of those that answer."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Candidate(Protocol):
    """A worker, as far as it matters here."""

    @property
    def load(self) -> int:
        """How many connections it has been given that have not ended."""

    @property
    def answers(self) -> bool:
        """Whether it has answered when it was last asked whether it is there."""


C = TypeVar("C", bound=Candidate)


class Roster(Generic[C]):
    """The workers that can be given connections."""

    def __init__(self) -> None:
        self._workers: list[C] = []  # who was chosen last comes last

    def add(self, worker: C) -> None:
        """Take in one that is ready."""
        self._workers.append(worker)

    def remove(self, worker: C) -> None:
        """Take out one that shall get nothing more.  Can be called again."""
        if worker in self._workers:
            self._workers.remove(worker)

    def choose(self) -> C | None:
        """Return who gets the next connection; None where there is nobody.

        Among equals, it is who has waited longest.  Who does not answer comes last.
        """
        if not self._workers:
            return None
        chosen = min(self._workers, key=lambda worker: (not worker.answers, worker.load))
        self._workers.remove(chosen)
        self._workers.append(chosen)
        return chosen

    def __len__(self) -> int:
        return len(self._workers)
