"""A step of an examination, and the list of them as it grows."""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from cotun_trio.client.doctor.meanings import explain
from cotun_trio.errors import CotunError
from cotun_trio.protocol.http_answer import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cotun_trio.client.doctor.step_names import StepName

Fact: TypeAlias = "str | int | float | bool | list[str]"
"""Text in it is safe to print."""


class Outcome(enum.StrEnum):
    """How a step has ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something about it is bad or may become so."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It was not tried, or does not matter here."""


@attrs.frozen
class Step:
    """A step, once it has ended."""

    name: StepName
    outcome: Outcome
    seconds: float
    """How long it took."""
    facts: Mapping[str, Fact]
    """Names that end in ``_seconds`` or ``_bytes`` have that unit; ``_rate`` is bytes per second.
    ``error`` is what the client would say."""
    meaning: str = ""
    """For the user: what it means, where it is not simply good."""
    advice: str = ""
    """For the user: what would help."""


@attrs.define
class Draft:
    """A step under way."""

    facts: dict[str, Fact] = attrs.field(factory=dict)
    outcome: Outcome = Outcome.OK
    diagnosis: Diagnosis | None = None

    def warn(self, meaning: str, advice: str = "") -> None:
        """Have it end with a warning."""
        self.outcome, self.diagnosis = Outcome.WARNING, Diagnosis(meaning, advice)

    def fail(self, name: StepName, error: CotunError) -> None:
        """Have it end with an error, whose meaning need not be in its text then."""
        self.outcome = Outcome.FAILED
        if self.diagnosis is None:
            self.diagnosis = explain(error, name)
        self.facts["error"] = str(error).removesuffix(f": {self.diagnosis}")

    def end(self, name: StepName, seconds: float) -> Step:
        """Return the step, which took so long."""
        said = self.diagnosis or Diagnosis()
        return Step(name, self.outcome, seconds, self.facts, said.meaning, said.advice)


class Steps:
    """The steps of an examination: `report` is called with each, as it ends.

    `planned` are the names of the steps that come if none fails.
    """

    def __init__(self, planned: Sequence[StepName], report: Callable[[Step], None]) -> None:
        self._left = list(planned)
        self._report = report

    @contextlib.contextmanager
    def step(self, name: StepName) -> Iterator[Draft]:
        """Record a step: the block, which notes its facts in the draft.

        A `CotunError` is its failure, and goes on from here.  A step that is cancelled is no step.
        """
        draft, since = Draft(), trio.current_time()
        try:
            yield draft
        except CotunError as error:
            draft.fail(name, error)
            self.add(draft.end(name, trio.current_time() - since))
            raise
        self.add(draft.end(name, trio.current_time() - since))

    def add(self, step: Step) -> None:
        """Report a step that has ended."""
        if step.name in self._left:
            self._left.remove(step.name)
        self._report(step)

    def skip_rest(self) -> None:
        """Report that the steps which are left are not tried."""
        for name in list(self._left):
            self.add(Step(name, Outcome.SKIPPED, 0.0, {}))
