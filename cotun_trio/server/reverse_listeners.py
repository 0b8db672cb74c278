"""The reverse listeners of a server's sessions: opened together, freed together, claimed back.

A client that has lost its connection comes back for its ports before the server may have noticed
that the old session is dead.  The kernel keeps them for that one, and that is right towards
everybody else; but the client itself gets them at once.  The same client is one with the same
identity, which every cotun-trio process makes for itself and never shows to anybody else: it cannot
have two sessions.  Or else the same user, where there are users, and the old session does not
answer any more: two programs may share a user, and must not throw each other out.

Where several processes serve the same port, the old session may be in another one: a session that
cannot listen then asks `Elsewhere`.  In a fleet, a place can also be another client's on another
machine: `Elsewhere` has the last word about each listener, and hears of its end.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import NotNow, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.net.dial import address_family
from cotun_trio.protocol.addresses import canonical_host, is_wildcard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from cotun_trio.forwards.listener import Listener
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote

PATIENCE = 0.5
"""Seconds for an old session of the same user to show that it is alive; a client that comes back
has its port within a second."""


class Place(Protocol):
    """Where one listens; a `Remote` says it."""

    @property
    def local_host(self) -> str:
        """A name or an address without brackets; empty where there is a path."""

    @property
    def local_port(self) -> int:
        """0 for any free one, and where there is a path."""

    @property
    def local_path(self) -> str:
        """The path of a Unix-domain socket; empty where there is a host."""

    @property
    def udp(self) -> bool:
        """Whether it is a port of UDP, not of TCP."""


class Claimant(Protocol):
    """A session that wants to listen."""

    @property
    def identity(self) -> str:
        """The client's own; empty for a Go client."""

    @property
    def user_name(self) -> str | None:
        """The user that has logged in; None where there are no users."""


class ListenerOwner(Claimant, Protocol):
    """A session that has reverse listeners, or wants some."""

    @property
    def number(self) -> int:
        """Its number in this process."""

    @property
    def has_others(self) -> bool:
        """Whether its client keeps sessions with several servers, with the same remotes."""

    @property
    def share(self) -> Share:
        """Its share of name look-ups."""

    async def is_alive(self, timeout: float) -> bool:
        """Whether the client answers."""

    def replace(self) -> None:
        """End the session; its listeners are freed at once."""


class Yielded(Enum):
    """The outcome of a claim."""

    NOTHING = "nothing"
    """There was nothing in the way."""
    FREED = "freed"
    """The listeners in the way are gone."""
    KEPT = "kept"
    """It stays: another client has it."""


class Elsewhere(Protocol):
    """Listeners that sessions in other processes have."""

    @property
    def keeps_draining(self) -> bool:
        """Whether a session that drains goes on listening, until another one has its places."""

    async def claim(self, claimant: ListenerOwner, place: Place) -> Yielded:
        """Have listeners in the way of `place` closed, where they are an earlier session's of the
        same client.  Raises `NotNow` where another client has the place."""

    def given_up(self, claimant: ListenerOwner, place: Place) -> None:
        """It was claimed, and the session cannot listen there all the same."""

    async def opened(self, owner: ListenerOwner, listener: Listener) -> None:
        """A session listens here.  Raises `NotNow` where another client has the place."""

    def closed(self, owner: ListenerOwner, listener: Listener) -> None:
        """It does not listen here any more: the listener is closed next."""


class NothingElsewhere:
    """No other process has listeners; see `Elsewhere`."""

    keeps_draining = False

    async def claim(self, claimant: ListenerOwner, place: Place) -> Yielded:  # noqa: ARG002
        """See `Elsewhere`."""
        return Yielded.NOTHING

    def given_up(self, claimant: ListenerOwner, place: Place) -> None:
        """See `Elsewhere`."""

    async def opened(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""

    def closed(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""


NOTHING_ELSEWHERE = NothingElsewhere()


@attrs.frozen
class Change:
    """The outcome of a change of remotes."""

    listeners: list[Listener]
    """One for each remote, in their order."""
    opened: list[Listener]
    """The new ones."""
    closed: list[Remote]
    """The remotes without a listener from now on."""


class _Plan:
    """How listeners that are `held` become those for `remotes`."""

    def __init__(self, remotes: Sequence[Remote], held: Sequence[Listener]) -> None:
        self.left = list(held)
        """The ones that will be closed."""
        self.listeners: list[Listener | None] = []
        """One for each remote, once it is there."""
        self.opened: list[Listener] = []
        """The new ones."""
        self._remotes = remotes
        for remote in remotes:
            same = next((each for each in self.left if each.remote == remote), None)
            if same is not None:
                self.left.remove(same)
            self.listeners.append(same)

    def new(self, *, in_place: bool) -> Iterator[tuple[int, Remote]]:
        """Give the remotes without a listener, with their numbers: either the ones for which
        another listener has to make room, or the others."""
        for number, remote in enumerate(self._remotes):
            if self.listeners[number] is None and _overlap(remote, self.left) == in_place:
                yield number, remote

    def make_room(self, remote: Remote) -> None:
        """Close the listeners in the way of `remote`."""
        for listener in self.left:
            if _same_place(remote, listener.remote):
                listener.close()

    def take(self, number: int, listener: Listener) -> None:
        """Note that the remote of this number has a new listener."""
        self.listeners[number] = listener
        self.opened.append(listener)

    def change(self) -> Change:
        """Return the outcome."""
        listeners = [listener for listener in self.listeners if listener is not None]
        return Change(listeners, self.opened, [listener.remote for listener in self.left])


class Listeners:
    """The listeners of all sessions of a server; `open_listener` opens one.

    `elsewhere` are the listeners of sessions in other processes.
    """

    def __init__(
        self,
        open_listener: Callable[[Remote, Share], Awaitable[Listener]] = open_listener,
        elsewhere: Elsewhere = NOTHING_ELSEWHERE,
    ) -> None:
        self._open_listener = open_listener
        self._elsewhere = elsewhere
        self._held: dict[ListenerOwner, list[Listener]] = {}
        self._closings = trio.lowlevel.ParkingLot()

    async def open(self, owner: ListenerOwner, remotes: Sequence[Remote]) -> list[Listener]:
        """Listen for all of `remotes`, or for none.

        Raises `NotNow` with the address that failed.
        """
        held = self._held.setdefault(owner, [])
        try:
            for remote in remotes:
                listener = await self._open_one(owner, remote)
                if self._held.get(owner) is not held:
                    self._close(owner, listener)
                    raise NotNow("the session has ended")  # and all was freed, meanwhile
                held.append(listener)
        except BaseException:
            self.free(owner)
            raise
        return held

    async def change(self, owner: ListenerOwner, remotes: Sequence[Remote]) -> Change:
        """Listen for all of `remotes`, and for no others; listeners for the same remotes stay open.

        Raises `NotNow` with the address that failed, and then nothing has changed.
        """
        held = self._held.setdefault(owner, [])
        plan = _Plan(remotes, held)
        try:
            # First the ones that need no other's place: this can fail, and nothing is lost yet.
            for in_place in (False, True):
                for number, remote in plan.new(in_place=in_place):
                    if in_place:
                        plan.make_room(remote)
                    plan.take(number, await self._open_one(owner, remote))
                    if self._held.get(owner) is not held:
                        raise NotNow("the session has ended")
        except BaseException:
            for listener in plan.opened:
                self._close(owner, listener)
            raise
        for listener in plan.left:
            held.remove(listener)
            self._close(owner, listener)
        held += plan.opened
        return plan.change()

    def narrow(self, owner: ListenerOwner, allowed: Callable[[Remote], bool]) -> list[Remote]:
        """Close the listeners of `owner` for remotes that are not `allowed`; return these
        remotes."""
        held = self._held.get(owner, [])
        forbidden = [listener for listener in held if not allowed(listener.remote)]
        for listener in forbidden:
            held.remove(listener)
            self._close(owner, listener)
        return [listener.remote for listener in forbidden]

    def held_by(self, owner: ListenerOwner) -> Sequence[Listener]:
        """Return the listeners of `owner`."""
        return self._held.get(owner, ())

    def leave(self, owner: ListenerOwner, *, draining: bool) -> None:
        """Close the listeners of `owner`, which has ended or drains.  Can be called again."""
        if not (draining and self._elsewhere.keeps_draining):
            self.free(owner)

    def free(self, owner: ListenerOwner) -> None:
        """Close the listeners of `owner`.  Can be called again."""
        for listener in self._held.pop(owner, ()):
            self._close(owner, listener)

    async def wait_none(self, owner: ListenerOwner) -> None:
        """Wait until `owner` has no listener."""
        while self.held_by(owner):
            await self._closings.park()

    def _close(self, owner: ListenerOwner, listener: Listener) -> None:
        self._elsewhere.closed(owner, listener)
        listener.close()
        self._closings.unpark_all()

    async def _open_one(self, owner: ListenerOwner, remote: Remote) -> Listener:
        try:
            listener = await self._listen(owner, remote)
        except BaseException:
            self._elsewhere.given_up(owner, remote)
            raise
        try:
            await self._elsewhere.opened(owner, listener)
        except BaseException:
            self._close(owner, listener)
            raise
        return listener

    async def _listen(self, owner: ListenerOwner, remote: Remote) -> Listener:
        try:
            return await self._open_listener(remote, owner.share)
        except UsageError as error:
            refusal = NotNow(f"Server {error}")
        holders = self._holders(remote)
        if not await _may_replace(owner, holders):
            raise refusal
        others = await self._elsewhere.claim(owner, remote)
        if others is Yielded.KEPT or not (holders or others is Yielded.FREED):
            raise refusal
        for old in holders:
            old.replace()
        try:
            return await self._open_listener(remote, owner.share)
        except UsageError as error:
            raise NotNow(f"Server {error}") from None

    async def claimed(self, claimant: Claimant, place: Place) -> Yielded:
        """Close the listeners in the way of `place`, which a session in another process wants.

        All of them, or none; but they may be closed for nothing, where one in a third process
        stays.  Their client does not answer any more.
        """
        holders = self._holders(place)
        if not holders:
            return Yielded.NOTHING
        if not await _may_replace(claimant, holders):
            return Yielded.KEPT
        for old in holders:
            old.replace()
        return Yielded.FREED

    def _holders(self, place: Place) -> list[ListenerOwner]:
        return [owner for owner, listeners in self._held.items() if _overlap(place, listeners)]


def _overlap(remote: Place, listeners: Sequence[Listener]) -> bool:
    """Return whether one of `listeners` may stand in the way of `remote`."""
    return any(_same_place(remote, listener.remote) for listener in listeners)


def _same_place(one: Place, other: Place) -> bool:
    if one.local_path or other.local_path:
        return one.local_path == other.local_path
    if (one.local_port, one.udp) != (other.local_port, other.udp):
        return False
    # Two different addresses do not meet, except where one of them is all of both families, or a
    # name.
    hosts = {canonical_host(one.local_host), canonical_host(other.local_host)}
    return len(hosts) == 1 or any(address_family(h) is None or is_wildcard(h) for h in hosts)


async def _may_replace(owner: Claimant, holders: Sequence[ListenerOwner]) -> bool:
    """Return whether all of `holders` are earlier sessions of the same client."""
    replaceable = []

    async def check(old: ListenerOwner) -> None:
        if old is owner or owner.user_name != old.user_name:
            return
        same_client = owner.identity != "" and owner.identity == old.identity
        same_user = owner.user_name is not None
        if same_client or (same_user and not await old.is_alive(PATIENCE)):
            replaceable.append(old)

    async with trio.open_nursery() as nursery:
        for old in holders:
            nursery.start_soon(check, old)
    return len(replaceable) == len(holders)
