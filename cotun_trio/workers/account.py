"""The account of a worker, or of several: their figures and meters."""

from __future__ import annotations

import attrs

from cotun_trio.counts import Meters
from cotun_trio.snapshot import Figures


@attrs.frozen
class Account:
    """The figures, and the tallies and durations, of one or several processes."""

    figures: Figures = attrs.field(factory=Figures)
    meters: Meters = attrs.field(factory=Meters)

    def __add__(self, other: Account) -> Account:
        return Account(self.figures + other.figures, self.meters + other.meters)

    def ended(self) -> Account:
        """Return the account when its processes have ended, perhaps by force.

        All sessions have ended then.  Totals stay, since nothing may make them go backwards.
        """
        last = self.figures
        figures = Figures(
            ended=last.ended + last.sessions,
            bytes_in=last.bytes_in,
            bytes_out=last.bytes_out,
            dropped=last.dropped,
        )
        return attrs.evolve(self, figures=figures)
