"""The lease of a node: when it is renewed, and until when the node can count on it."""

from __future__ import annotations

import math

TTL = 10.0
"""Seconds of a lease.  When it runs out, all that the node owns is free for others."""
RENEWAL = 3.0
"""Seconds between renewals: two can be lost, and the lease is still held."""
RETRY = 1.0
"""Seconds from a failed operation to the next one; twice as many after each further failure, up to
`RENEWAL`."""


class Lease:
    """A lease, as its node sees it.

    It is counted from the moment when a renewal was *sent*, which is never later than the moment
    when the directory did it: the node does not count on it for longer than the others do.
    """

    def __init__(self, now: float) -> None:
        self._held_until = -math.inf
        self._sent = now
        self._failures = 0
        self.next_renewal = now
        """When it has to be renewed."""

    def sent(self, now: float) -> None:
        """A renewal is on its way."""
        self._sent = now
        self.next_renewal = math.inf

    def renewed(self) -> None:
        """The renewal has been done."""
        self._failures = 0
        self._held_until = self._sent + TTL
        self.next_renewal = self._sent + RENEWAL

    def failed(self, now: float) -> None:
        """The directory has failed; nobody knows what it has done."""
        self.next_renewal = now + min(RETRY * 2.0**self._failures, RENEWAL)
        self._failures = min(self._failures + 1, 8)

    def renew_at_once(self) -> None:
        """Renew it next, unless that is on its way."""
        if self.next_renewal != math.inf:
            self.next_renewal = -math.inf

    def is_held(self, now: float) -> bool:
        """Return whether the others have to respect it."""
        return now < self._held_until

    def ends(self, at_least: float) -> float:
        """Return until when it is held at present, or `at_least`."""
        return max(self._held_until, at_least)
