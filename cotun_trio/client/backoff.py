"""How long a client waits between two rounds of attempts.

The waits grow exponentially and have full jitter, so that a thousand clients that lost the same
server do not come back in the same moment: up to 3 s, 6 s, 12 s and so on, up to the user's limit.

For the first two minutes they stay short, since most outages are over by then, and people wait:
the next attempt begins 15 s after the beginning of the last one at the latest.  So a server that
comes back within two minutes has all its clients within 15 s.  Over 15 s a crowd is thin: a tenth
of a second has 0.7 % of it on average.  An attempt that took longer than 12 s itself is followed by
a wait of up to 3 s all the same: a server that is too busy for logins must not have all of them
again in the moment that they fail.  After the two minutes the waits double from there on.

For the first half minute they do not grow while no connection can be made at all: a network that is
away for some seconds should not be followed by a wait of twenty.  A connection that cannot be made
costs a server nothing, and so there is nothing to spare it.  The arithmetic, for a network that is
healed up to half a minute after the session was lost:

* The first attempt begins 3 s after the loss at the latest.
* The next one begins 4 s after it at the latest: where it fails, the wait is 4 s at most, counted
  from its beginning; where nothing is heard, another begins beside it after 3 s
  (`cotun_trio.client.attempts`).  The same holds for each that follows.

So at most 4 s after the healing something is sent that gets through, by an attempt that was not
begun in the dark.  Most of the time it is earlier, since the system repeats the SYN of an attempt
after 1 s.  That leaves a second of 5 for the connection itself: TCP, TLS, WebSocket, SSH, the login
and the remotes, about eight round trips.  It holds for one server; with several, each has its
turn.

The user's shortest interval sets the scale of all that.  With its default of 1 s it is as above;
otherwise the first wait is up to three times as long as that interval.  No wait is shorter than
it by more than 1 s, which is for chance: so a wait may be 0 with the default, and one of a client
with 30 s is 29 s at the least.  The longest interval counts more than the shortest.

All this is about a client that knows that its session is lost.  Before that come a keepalive and
its ping timeout, or a break that the system reports.
"""

from __future__ import annotations

import math
import random

FIRST_INTERVAL = 3.0
"""Seconds: the longest wait before the first retry; it doubles with each round that fails.  Over a
shorter one a crowd of clients would be too dense: so a tenth of a second has 3 % of them, and even
of a hundred hardly ever more than 10."""
HOLD = 30.0
"""Seconds from the first failure on for which the waits do not grow while nothing is reached."""
HELD = 2.0, 4.0
"""Seconds from the beginning of an attempt to the next meanwhile, the fewest and the most.  The
most leaves a second of the 5 in which a client is to be back.  The fewest is for the crowd: at most
5 % of it try in a tenth of a second then, the first and the second retries together.  From 0 on it
would be 7 %."""
EARLY = 120.0
"""Seconds from the first failure on for which attempts stay close to each other."""
CLOSE = 15.0
"""Seconds from the beginning of an attempt to the next meanwhile, at the most."""
MAX_DOUBLINGS = 30
"""3 s, doubled as often, is far above any limit, and far below what a float can hold."""
DEFAULT_SHORTEST = 1.0
"""Seconds: the user's shortest interval that goes with the figures above, as in Go."""
LEAST_SHORTEST = 0.1
"""Seconds: what a shorter one counts as, as in Go, or a client would try without a pause."""


class Backoff:
    """Draws the waits of a client.

    `shortest` and `longest` are the user's limits, in seconds.  `hold` is whether waits stay short
    at first: not where the rounds are counted, for they would all be used up in that time.
    """

    def __init__(self, longest: float, *, hold: bool, shortest: float = DEFAULT_SHORTEST) -> None:
        self._longest = longest
        self.least = max(0.0, min(shortest, longest) - DEFAULT_SHORTEST)
        """Seconds: no wait is shorter."""
        self._first = max(shortest, LEAST_SHORTEST) * FIRST_INTERVAL / DEFAULT_SHORTEST
        self._held = max(self.least, HELD[0]), max(self._first, HELD[1])
        self._hold = hold
        self._doublings = 0
        self._failing_since: float | None = None

    def start_again(self) -> None:
        """Begin with short waits: a session has lasted."""
        self._doublings = 0
        self._failing_since = None

    def draw(self, now: float, *, dialled: float, reached: bool) -> float:
        """Return the seconds to wait after a round that failed at the time `now`.

        `dialled` is when its last attempt began, and `reached` whether there was a connection to
        any of the servers.
        """
        if self._failing_since is None:
            self._failing_since = now
        interval = min(self._first * 2 ** min(self._doublings, MAX_DOUBLINGS), self._longest)
        failing = now - self._failing_since if self._hold else math.inf
        if failing < HOLD and not reached and interval > self._held[1]:
            return max(self.least, dialled + random.uniform(*self._held) - now)
        if failing < EARLY:
            if interval < CLOSE:
                self._doublings += 1
            most = max(dialled + CLOSE - now, FIRST_INTERVAL, self._first)
            return random.uniform(self.least, min(interval, most))
        self._doublings += 1
        return random.uniform(self.least, interval)
