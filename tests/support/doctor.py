"""An examination by the doctor, and the steps that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from cotun_trio.client.doctor.examination import examine
from cotun_trio.client.doctor.steps import Outcome
from tests.support.tunnel import client_settings

if TYPE_CHECKING:
    from cotun_trio.client.doctor.steps import Step
    from cotun_trio.errors import CotunError


@attrs.frozen
class Examined:
    """The steps of an examination, and the failure that ended it, if one did."""

    steps: list[Step]
    failure: CotunError | None

    def __getitem__(self, name: str) -> Step:
        (step,) = [step for step in self.steps if step.name == name]
        return step

    @property
    def failed(self) -> Step:
        """The only step that has failed: all before it are tried, and none after it is."""
        at = next(n for n, step in enumerate(self.steps) if step.outcome is Outcome.FAILED)
        assert all(step.outcome in (Outcome.OK, Outcome.WARNING) for step in self.steps[:at])
        assert {step.outcome for step in self.steps[at + 1 :]} <= {Outcome.SKIPPED}
        assert self.failure is not None
        return self.steps[at]


async def examined(server: str, *, idle: float = 0.0, **settings: Any) -> Examined:
    """Examine the way to the server at an address or a URL."""
    steps: list[Step] = []
    failure = await examine(client_settings(server, **settings), steps.append, idle=idle)
    return Examined(steps, failure)
