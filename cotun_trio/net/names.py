"""Looking names up, in threads of their own: so many at once, and in fair shares.

The system's resolver blocks its thread.  Where no server answers, it blocks it for half a minute,
also when nobody waits for the answer any more.  Peers say which names are looked up, so a peer with
names that nobody answers could take all threads, and everybody else would wait.  Therefore:

* Look-ups have places of their own.  No other work waits for these.
* A look-up that was given up keeps its place until its thread has come back.
* Each session has a `Share`: a few look-ups at once.  The others wait in its own queue, which is
  bounded; beyond that, a look-up is refused.
* Sessions of the same owner (a user, or an address where there are no users) share a quota: as long
  as it has fewer look-ups running than there are free places, it may start another one.  So one
  owner gets half of the places at most, two get a third each, and an owner that has none running
  finds a place unless more than a hundred others hang.  This is how switches share their buffers
  (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet
  switches", 1998).  The sessions of one owner share its quota by the same rule.
* Look-ups for the program itself have other places.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, cast
from weakref import WeakValueDictionary

import trio

from cotun_trio.errors import Shortage
from cotun_trio.net.descriptors import reserve, soft_limit
from cotun_trio.protocol.addresses import ascii_name

if TYPE_CHECKING:
    from collections.abc import Hashable

PLACES = 128
"""Look-ups for peers at a time.  Each has a thread (60 KiB) and a socket, and these have to fit
into half of the reserve of descriptors: the resolver opens one without asking us."""
MIN_PLACES = 2
"""The same where there are very few descriptors."""
PER_SHARE = 8
"""Look-ups of one session at a time.  Where names are answered in 20 ms, that is 400 a second."""
MAX_WAITING = 256
"""Look-ups of one session that wait for a place: a page of a browser, many times over."""
OWN_PLACES = 16
"""Look-ups of the program itself at a time."""
MAX_ADDRESSES = 16
"""Addresses of one name that are used.  Each could become an attempt to connect, or a listener."""

Address: TypeAlias = tuple[socket.AddressFamily, str]
"""An address in digits, with its zone where it has one."""


async def look_up(
    host: str, kind: socket.SocketKind = socket.SOCK_STREAM, *, share: Share | None = None
) -> list[Address]:
    """Return the addresses of `host`, in the system's order and once each, at most `MAX_ADDRESSES`.

    It counts in `share`; without one, it is for the program itself.  Raises `Shortage` where too
    many wait already, and `OSError`, with a `strerror`, where there is no address.  When cancelled,
    it returns at once; its place is free when the resolver has come back.
    """
    if "\0" in host:  # the resolver would look up the part before it
        raise OSError(errno.EHOSTUNREACH, "not a name that can be looked up")
    try:
        found = ask_for_digits(host, kind) or await _ask_in_thread(host, kind, share)
    except UnicodeError:
        raise OSError(errno.EHOSTUNREACH, "not a name that can be looked up") from None
    except RuntimeError as error:  # "can't start new thread"
        raise Shortage(f"it cannot be looked up: {error}", errno.EAGAIN) from None
    return list(islice(dict.fromkeys(found), MAX_ADDRESSES))


async def _ask_in_thread(host: str, kind: socket.SocketKind, share: Share | None) -> list[Address]:
    name = ascii_name(host).encode("ascii")
    limiter = _own_places() if share is None else share
    return await trio.to_thread.run_sync(
        ask_system,
        name,
        kind,
        abandon_on_cancel=True,
        # Trio takes any object with these two methods, but its types do not say so.
        limiter=cast("trio.CapacityLimiter", limiter),
    )


def ask_for_digits(host: str, kind: socket.SocketKind) -> list[Address]:
    """Return the address that `host` is in any spelling (``127.1``); none for a name.

    Never blocks.  Raises `OSError`.
    """
    try:
        return _ask(host, kind, socket.AI_NUMERICHOST)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            raise
        return []


def ask_system(name: bytes, kind: socket.SocketKind) -> list[Address]:
    """Have the system look `name` up.  Blocks.  Raises `OSError`."""
    return _ask(name, kind)


def _ask(host: str | bytes, kind: socket.SocketKind, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, None, type=kind, flags=flags)
    return [(family, _with_zone(*where)) for family, _, _, _, where in found]


def _with_zone(address: object, _port: object, _flow: object = 0, zone: object = 0) -> str:
    return f"{address}%{zone}" if zone and "%" not in str(address) else str(address)


# ---- places


def share_of(owner: Hashable) -> Share:
    """Return a new share, for one session of `owner`.  Only in a Trio run, of which it is."""
    room = _room.get()
    if room is None:
        room = _Room(count_places())
        _room.set(room)
    group = room.groups.get(owner)
    if group is None:
        group = room.groups[owner] = _Group()
    return Share(room, group)


def count_places() -> int:
    """Return how many look-ups for peers there may be at a time."""
    limit = soft_limit()
    places = PLACES if limit is None else min(PLACES, reserve(limit) // 2)
    return max(MIN_PLACES, places)


def _own_places() -> trio.CapacityLimiter:
    limiter = _own.get()
    if limiter is None:
        limiter = trio.CapacityLimiter(OWN_PLACES)
        _own.set(limiter)
    return limiter


class _Group:
    """The sessions of one owner."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: OrderedDict[Share, None] = OrderedDict()  # the next one in turn first


class Share:
    """The look-ups of one session at a time: a limiter, as `trio.to_thread.run_sync` takes one."""

    def __init__(self, room: _Room, group: _Group) -> None:
        self._room = room
        self.group = group
        self.running = 0
        self.waiting = trio.lowlevel.ParkingLot()

    async def acquire_on_behalf_of(self, borrower: object) -> None:  # noqa: ARG002
        """Take a place, when there is one.  Raises `Shortage` where too many wait already."""
        if not self.waiting and self._room.has_place_for(self):
            self._room.take(self)
        elif len(self.waiting) >= MAX_WAITING:
            raise Shortage("too many names are being looked up", errno.EAGAIN)
        else:
            self._room.add_waiting(self)
            try:
                await self.waiting.park()  # the one that wakes us has taken the place for us
            finally:
                if not self.waiting:
                    self._room.remove_waiting(self)

    def release_on_behalf_of(self, borrower: object) -> None:  # noqa: ARG002
        """Give a place back: the thread has ended."""
        self._room.give_back(self)


class _Room:
    """All places for the look-ups of peers."""

    def __init__(self, places: int) -> None:
        self.groups: WeakValueDictionary[Hashable, _Group] = WeakValueDictionary()
        """The groups that have sessions, or look-ups that were given up."""
        self._free = places
        self._waiting: OrderedDict[_Group, None] = OrderedDict()  # the next one in turn first

    def has_place_for(self, share: Share) -> bool:
        """Return whether one more look-up of `share` may start."""
        left = self._free - share.group.running
        return share.running < (left if left < PER_SHARE else PER_SHARE)

    def take(self, share: Share) -> None:
        """Start one."""
        self._free -= 1
        share.running += 1
        share.group.running += 1

    def give_back(self, share: Share) -> None:
        """Note the end of one, and let those start that may now."""
        self._free += 1
        share.running -= 1
        share.group.running -= 1
        while (following := self._next()) is not None:
            self.take(following)
            following.waiting.unpark()
            self._waiting.move_to_end(following.group)
            following.group.waiting.move_to_end(following)
            if not following.waiting:
                self.remove_waiting(following)

    def _next(self) -> Share | None:
        for group in self._waiting:
            if group.running < self._free:
                for share in group.waiting:
                    if self.has_place_for(share):
                        return share
        return None

    def add_waiting(self, share: Share) -> None:
        """Let it have its turn."""
        share.group.waiting[share] = None
        self._waiting[share.group] = None

    def remove_waiting(self, share: Share) -> None:
        """It has nothing that waits.  Can be called again."""
        share.group.waiting.pop(share, None)
        if not share.group.waiting:
            self._waiting.pop(share.group, None)


_room: trio.lowlevel.RunVar[_Room | None] = trio.lowlevel.RunVar("names", None)
_own: trio.lowlevel.RunVar[trio.CapacityLimiter | None] = trio.lowlevel.RunVar("own_names", None)
