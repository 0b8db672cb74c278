"""Counts: of open connections, perhaps shared with other processes; of outcomes and durations; of
the traffic of each user."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, Self

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_USERS = 100
"""Users that are counted by name.  Each is three series of a monitor, and a server can have a
hundred thousand users."""
OTHERS = ":other"
"""The name for all other users, and for sessions without one.  No user of a users file has a colon
in the name."""


class Count(Protocol):
    """A number of things of one kind, here and in the processes that share a limit with us."""

    @property
    def own(self) -> int:
        """The number in this process, which is the only one to change it."""

    @property
    def total(self) -> int:
        """The sum over all processes."""

    def add(self, number: int) -> None:
        """Add `number` to our own; it is negative for things that have ended."""


class OwnCount:
    """A count that is shared with no other process."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own = 0

    @property
    def total(self) -> int:
        """See `Count`."""
        return self.own

    def add(self, number: int) -> None:
        """See `Count`."""
        self.own += number


def _count(number: float) -> int:
    """Return a number as the count that it is.  Raises `ValueError` where it is none."""
    if type(number) is not int or number < 0:
        raise ValueError("not a count")
    return number


class Tally:
    """How often each of some outcomes was: the names are ours, and few."""

    __slots__ = ("counts",)

    def __init__(self, *outcomes: str) -> None:
        self.counts = dict.fromkeys(outcomes, 0)
        """The number for each."""

    def add(self, outcome: str) -> None:
        """Count one more."""
        self.counts[outcome] += 1

    @property
    def numbers(self) -> list[int]:
        """All numbers, for another process."""
        return list(self.counts.values())

    def add_numbers(self, numbers: Sequence[float]) -> None:
        """Add the `numbers` of another one.  Raises `ValueError` where they are not such."""
        for outcome, number in zip(self.counts, numbers, strict=True):
            self.counts[outcome] += _count(number)


class Durations:
    """How long things took: a histogram, and the sum.  Times are in seconds."""

    __slots__ = ("_counts", "total")

    BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
    """The upper bounds of its buckets; a last one is for all that is longer."""

    def __init__(self) -> None:
        self.total = 0.0
        """The sum of all durations."""
        self._counts = [0] * (len(self.BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Note one more."""
        self.total += seconds
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1

    def cumulative(self) -> list[int]:
        """Return for each bound how many were not longer, and then how many there were."""
        return list(accumulate(self._counts))

    @property
    def numbers(self) -> list[float]:
        """All numbers, for another process."""
        return [self.total, *self._counts]

    def add_numbers(self, numbers: Sequence[float]) -> None:
        """Add the `numbers` of another one.  Raises `ValueError` where they are not such."""
        total, *counts = numbers
        pairs = zip(self._counts, counts, strict=True)
        self._counts = [mine + _count(number) for mine, number in pairs]
        self.total += total


@attrs.frozen
class UserTraffic:
    """What the sessions of one user carry."""

    sessions: int = 0
    """Current sessions."""
    bytes_out: int = 0
    bytes_in: int = 0

    def __add__(self, other: UserTraffic) -> UserTraffic:
        return UserTraffic(
            self.sessions + other.sessions,
            self.bytes_out + other.bytes_out,
            self.bytes_in + other.bytes_in,
        )


def counted_name(users: Mapping[str, UserTraffic], name: str | None) -> str:
    """Return the name by which a user is counted beside `users`: `OTHERS` where it has no place.

    A name that has a place keeps it.  So the counters of each name never go back.
    """
    if name is None or (name not in users and len(users) - (OTHERS in users) >= MAX_USERS):
        return OTHERS
    return name


def add_users(
    some: Mapping[str, UserTraffic], more: Mapping[str, UserTraffic]
) -> dict[str, UserTraffic]:
    """Return the traffic of both by user; those in `some` have their places first."""
    total = dict(some)
    for name, traffic in more.items():
        counted = counted_name(total, name)
        total[counted] = total.get(counted, UserTraffic()) + traffic
    return total


class Meters:
    """The tallies and durations of a process, of both roles and all sessions."""

    __slots__ = (
        "channels", "connects", "dials", "handshakes", "lags", "logins", "pings", "visitors",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connects = Tally("opened", "unreachable", "refused", "lost")
        """Attempts of this client to get a session."""
        self.logins = Tally("accepted", "failed", "barred")
        """Logins at this server."""
        self.channels = Tally("opened", "denied", "unreachable", "too_many", "refused_by_peer")
        """Channels that either end asked for, by their outcome."""
        self.visitors = Tally("not_allowed", "bad_header", "too_many")
        """Connections to listeners that were refused for what their visitors are."""
        self.handshakes = Durations()
        """From the beginning of a session to its open remotes."""
        self.dials = Durations()
        """From the wish for a target to its connection."""
        self.pings = Durations()
        """Round trips of pings."""
        self.lags = Durations()
        """How late the event loop was, where that is measured (`cotun_trio.admin.lag`)."""

    @property
    def numbers(self) -> dict[str, list[float]]:
        """All numbers by their names, for another process; see `of`."""
        return {name: getattr(self, name).numbers for name in self.__slots__}

    @classmethod
    def of(cls, numbers: Mapping[str, Sequence[float]]) -> Self:
        """Return the meters that have these `numbers`.  Raises `ValueError` where none can."""
        made = cls()
        if numbers.keys() != set(cls.__slots__):
            raise ValueError("other meters")
        for name, values in numbers.items():
            getattr(made, name).add_numbers(values)
        return made

    def __add__(self, other: Meters) -> Meters:
        total = Meters.of(self.numbers)
        for name, values in other.numbers.items():
            getattr(total, name).add_numbers(values)
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Meters) and self.numbers == other.numbers

    __hash__ = None  # type: ignore[assignment]  # they change


_meters: trio.lowlevel.RunVar[Meters] = trio.lowlevel.RunVar("meters")


def meters() -> Meters:
    """Return the meters of this Trio run; outside of one, some that nobody reads."""
    try:
        return _meters.get()
    except LookupError:
        made = Meters()
        _meters.set(made)
        return made
    except RuntimeError:
        return Meters()
