"""The time that the check of a hashed password takes, and warnings about slow hashes.

Every login computes a hash of each cost in use (`cotun_trio.access.users`), by one of as many
threads as there are processors.  A hash that takes seconds makes all logins wait.

A costly hash may take a quarter of a minute, and a gigabyte.  So a smaller one is measured, and the
time of the costly one follows from it.  The work of argon2id grows with its memory and its passes;
that of bcrypt doubles with each unit of its cost.  Lanes share the work between threads, and do not
reduce it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.access.passwords import decoy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cotun_trio.access.passwords import Cost

SLOW = 0.3
"""Seconds of a processor: with more than that, it checks fewer than three logins a second."""
BUDGET = 1.0
"""Seconds for all measurements together, except the last one; the time of further costs is
calculated from the largest one of their kind."""
MAX_WORK = 128 * 1024
"""KiB times passes of an argon2id hash that is computed to be measured, some 0.2 s."""
MAX_ROUNDS = 11
"""The same of bcrypt's cost, some 0.12 s."""


def measure(
    costs: Mapping[Cost, object], known: Mapping[Cost, float], clock: Callable[[], float]
) -> dict[Cost, float]:
    """Return how many seconds of a processor a check of each of `costs` takes.

    Costs that are `known` are not measured again.  `clock` gives the seconds of a processor that
    this thread has had.  A cost is left out where there is not enough memory for a small one.
    """
    seconds: dict[Cost, float] = {}
    largest: dict[str, tuple[int, float]] = {}  # work and seconds, by the kind
    spent = 0.0
    for cost in costs:
        if cost in known:
            seconds[cost] = known[cost]
            continue
        kind = cost[0]
        work, took = largest.get(kind, (0, 0.0))
        if spent < BUDGET or not work:
            sample = _sample(cost)
            began = clock()
            try:
                decoy(sample).matches("")
            except MemoryError:
                continue
            work, took = _work(sample), clock() - began
            spent += took
            largest[kind] = max(largest.get(kind, (0, 0.0)), (work, took))
        seconds[cost] = took * _work(cost) / work
    return seconds


def _sample(cost: Cost) -> Cost:
    """Return a cost of the same kind that is small enough to be measured."""
    if cost[0] == "bcrypt":
        return ("bcrypt", f"{min(int(cost[1]), MAX_ROUNDS):02}")
    memory = min(int(cost[1]), MAX_WORK)
    passes = min(int(cost[2]), MAX_WORK // memory)
    return ("argon2id", str(memory), str(passes), "1")


def _work(cost: Cost) -> int:
    return 2 ** int(cost[1]) if cost[0] == "bcrypt" else int(cost[1]) * int(cost[2])


def slow_hashes(
    seconds: Mapping[Cost, float], where: Mapping[Cost, str]
) -> Iterator[tuple[Cost, str]]:
    """Yield a warning about each cost that is too high; `where` says where it is found.

    Where none is too high alone, but all of them together are, the only warning is about that, and
    has an empty cost.
    """
    slow = False
    for cost, took in seconds.items():
        if took > SLOW:
            slow = True
            text = (
                f"{where[cost]}: a check of this password takes some {took:.1f} s of a processor, "
                "and so does the login of every other user: make a cheaper hash by cotun-trio "
                "hash-password"
            )
            yield cost, text
    total = sum(seconds.values())
    if total > SLOW and not slow:
        text = (
            f"every login takes some {total:.1f} s of a processor, since it computes a hash of "
            f"each of the {len(seconds)} kinds in use: have one kind"
        )
        yield (), text
