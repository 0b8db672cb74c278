"""A server or a client that has just the state that a test wants an administrator to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cotun_trio.admin.watched import Own
from cotun_trio.counts import Meters
from cotun_trio.snapshot import EndedTotals, Figures, SessionFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.watched import Fact
    from cotun_trio.errors import CotunError


def session_of(number: int, **figures: Any) -> SessionFigures:
    """Return the figures of a session."""
    default = {
        "peer": "192.0.2.1",
        "user": "alice",
        "version": "0.1.0",
        "remotes": ("0.0.0.0:5432:db:5432",),
        "seconds": 61.0,
        "channels": 2,
        "bytes_out": 1000,
        "bytes_in": 2000,
        "round_trip": 0.02,
    }
    return SessionFigures(number=number, **{**default, **figures})


class FakeWatched(Own):
    """A server, or what a test makes of it; with an `error`, its figures are not to be had."""

    certificate_expires = None
    facts: Sequence[Fact] = ()
    not_ready: str | None = None

    def __init__(self, role: str = "server") -> None:
        super().__init__(EndedTotals(), list)
        self.role = role
        self.present = Figures()
        self.open: list[SessionFigures] = []
        self.error: CotunError | None = None

    async def stats(self) -> tuple[Figures, Meters]:
        """See `Watched`."""
        if self.error is not None:
            raise self.error
        return self.present, Meters()

    async def sessions(self) -> Sequence[SessionFigures]:
        """See `Watched`."""
        if self.error is not None:
            raise self.error
        return self.open
