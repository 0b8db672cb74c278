"""How late the event loop is: a task sleeps, and notes how late it was woken.

A loop that is late has too much to do at a time, or something in it has blocked; all connections
have waited as long.  It is looked at once a second, so a moment of 0.2 s is noticed one time in
five.
"""

from __future__ import annotations

import trio

from cotun_trio.counts import meters

PERIOD = 1.0
"""Seconds between two looks: for so few, nobody pays."""


async def measure_lag() -> None:
    """Note the delays in the meters of this Trio run, until cancelled."""
    lags = meters().lags
    while True:
        due = trio.current_time() + PERIOD
        await trio.sleep_until(due)
        lags.add(max(0.0, trio.current_time() - due))
