"""Penalties for the sources of failed logins: delays, and bars.

The answer to each failure is held back for a while.  A source that fails too often in too short a
time is barred: for a minute at first, for twice as long each further time.  sshd has had the like
since OpenSSH 9.8 (PerSourcePenalties in sshd_config(5)), and fail2ban has it for other programs.

A good login takes nothing back: otherwise, a user could guess the password of another one for ever.
"""

from __future__ import annotations

import math
from collections import deque

import attrs

MINUTE = 60.0
FIRST_DELAY, MAX_DELAY = 0.1, 2.0
"""Seconds before the answer to the first failure, which is a typing error mostly, and to the later
ones, each twice the one before."""
FIRST_BAR, MAX_BAR = 60.0, 3600.0
"""Seconds of the first bar, and of the longest one."""
FORGET = 2 * MAX_BAR
"""Seconds after its last failure for which a source's earlier bars count."""
MAX_SOURCES = 65_536
"""Sources that are remembered, for IPv4 and for IPv6 each: an attacker with many addresses of one
kind cannot have sources of the other kind forgotten."""


@attrs.frozen
class Verdict:
    """The penalty for a failed login."""

    delay: float
    """Seconds for which its answer is held back."""
    barred_for: float = 0.0
    """Seconds for which the source is barred because of it; 0 if it is not."""


@attrs.define
class _Record:
    """The failed logins of a source, and its bars."""

    failures: deque[float] = attrs.field(factory=deque)
    """The times of failures in the last minute; empty after a bar."""
    failed_at: float = -math.inf
    bars: int = 0
    barred_until: float = -math.inf


@attrs.frozen
class Bar:
    """A source that is barred."""

    source: str
    """An IPv4 address, or a /64 of IPv6."""
    seconds: float
    """For how many seconds more."""
    bars: int
    """Its bars so far, this one included: each is twice as long as the one before."""


class Penalties:
    """Counts failed logins: `per_minute` of them bar a source.  0 is for no limit, and no delay.

    Times are seconds of a clock that does not go backwards.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        # The source that has failed last comes last.
        self._records: dict[bool, dict[str, _Record]] = {False: {}, True: {}}

    def failed(self, source: str, now: float) -> Verdict:
        """Note a failed login of `source`; return the penalty."""
        if not self._per_minute:
            return Verdict(0.0)
        records = self._records[":" in source]
        record = records.pop(source, None) or _Record()
        if now - record.failed_at > FORGET:
            record = _Record()
        failures = record.failures
        while failures and failures[0] <= now - MINUTE:
            failures.popleft()
        failures.append(now)
        record.failed_at = now
        delay = min(FIRST_DELAY * 2.0 ** min(len(failures) - 1, 16), MAX_DELAY)
        self._make_room(records, now)
        records[source] = record
        if len(failures) < self._per_minute:
            return Verdict(delay)
        bar = min(FIRST_BAR * 2.0 ** min(record.bars, 16), MAX_BAR)
        record.bars += 1
        failures.clear()
        record.barred_until = now + bar
        return Verdict(delay, bar)

    def barred(self, source: str, now: float) -> float:
        """Return for how many seconds more `source` is barred; 0 if it is not."""
        record = self._records[":" in source].get(source)
        return 0.0 if record is None else max(record.barred_until - now, 0.0)

    def bars(self, now: float) -> list[Bar]:
        """Return every source that is barred."""
        return [
            Bar(source, record.barred_until - now, record.bars)
            for records in self._records.values()
            for source, record in records.items()
            if record.barred_until > now
        ]

    def lift(self, source: str, now: float) -> bool:
        """Let `source` in again, and forget its failures; return whether it was barred."""
        barred = self.barred(source, now) > 0
        if barred:
            del self._records[":" in source][source]
        return barred

    def lift_all(self, now: float) -> int:
        """Do the same for all that are barred; return how many there were."""
        return sum(self.lift(bar.source, now) for bar in self.bars(now))

    @staticmethod
    def _make_room(records: dict[str, _Record], now: float) -> None:
        """Forget sources that failed so long ago that it does not matter; at least the first."""
        while records:
            first = next(iter(records))
            if len(records) < MAX_SOURCES and now - records[first].failed_at <= FORGET:
                break
            del records[first]

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))
