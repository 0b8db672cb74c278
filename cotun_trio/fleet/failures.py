"""Failed logins, counted for all nodes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.penalties import Bar, Penalties, Verdict
from cotun_trio.fleet.directory import DirectoryFailed
from cotun_trio.fleet.operations import CountFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.fleet.bars import Bars
    from cotun_trio.fleet.directory import Directory

PATIENCE = 1.0
"""Seconds for the directory to count a failure; its answer is held back anyway."""


class FleetFailures:
    """The account of all nodes: a `cotun_trio.server.logins.Failures`, and an
    `cotun_trio.admin.watched.Bars`.

    `per_minute` failed logins, at whatever nodes, bar their source at all of them; 0 is for no such
    limit.  Whether a source is barred is known from memory.  Where the directory does not count a
    failure in time, those of this node alone count.  `lift` is called to have all nodes let a
    source in again.
    """

    def __init__(
        self, directory: Directory, bars: Bars, per_minute: int, lift: Callable[[str], None]
    ) -> None:
        self._lift = lift
        self._directory = directory
        self._bars = bars
        self._per_minute = per_minute
        self._own = Penalties(per_minute)
        bars.notify(lambda source: self._own.lift(source, trio.current_time()))

    async def failed(self, source: str) -> Verdict:
        """Note a failed login of `source`, and return its penalty: the larger one of both."""
        now = trio.current_time()
        own = self._own.failed(source, now)
        if not self._per_minute:
            return own
        name = _name(source)
        try:
            with trio.fail_after(PATIENCE):
                verdict = await self._directory.perform(CountFailure(name, self._per_minute))
        except (DirectoryFailed, trio.TooSlowError):
            return own
        assert isinstance(verdict, Verdict)
        if verdict.barred_for:
            self._bars.bar(source, verdict.barred_for, now)  # before the stream says so
        return Verdict(max(own.delay, verdict.delay), max(own.barred_for, verdict.barred_for))

    def barred(self, source: str) -> float:
        """Return for how many seconds more `source` is barred; 0 if it is not."""
        now = trio.current_time()
        return max(
            self._own.barred(source, now),
            self._bars.barred(source, now),
            self._bars.barred(_name(source), now),
        )

    def bars(self) -> list[Bar]:
        """Return each source that is barred, at whatever node."""
        now = trio.current_time()
        own = {bar.source: bar for bar in self._own.bars(now)}
        others = {source: Bar(source, rest, 1) for source, rest in self._bars.present(now)}
        return list({**others, **own}.values())

    def lift(self, source: str) -> bool:
        """Let `source` in again at all nodes; return whether it was barred."""
        barred = self.barred(source) > 0
        if barred:
            self._lift(_name(source))
        return barred

    def lift_all(self) -> int:
        """Do the same for all that are barred; return how many there were."""
        return sum(self.lift(bar.source) for bar in self.bars())


def _name(source: str) -> str:
    """Return the name of a source in the directory, which is text."""
    return source.encode(errors="backslashreplace").decode()
