"""The reverse listeners of a server's sessions: opened together, freed together, claimed back.

A client that has lost its connection comes back for its ports before the server may have noticed
that the old session is dead.  The kernel keeps them for that one, and that is right towards
everybody else; but the client itself gets them at once.  Who is the same client?  One with the
same identity, which every cotun-trio process makes for itself and never shows to anybody else: it
cannot have two sessions.  Or else the same user, where there are users, and the old session does
not answer any more: two programs may share a user, and shall not throw each other out.

Where several processes serve the same port, the old session may be in another one: whoever cannot
listen then asks `Elsewhere`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import ConfigRefused, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.net.dial import address_family

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cotun_trio.forwards.listener import Listener
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote

_ALL = ("0.0.0.0", "::")  # noqa: S104
PATIENCE = 0.5
"""Seconds for an old session of the same user to show that it is alive; a client that comes back
shall have its port within a second."""


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
    """Who wants to listen."""

    @property
    def identity(self) -> str:
        """The client's own; empty for a Go client."""

    @property
    def user_name(self) -> str | None:
        """Who logged in; None where everybody may."""


class Owner(Claimant, Protocol):
    """A session that has reverse listeners, or wants some."""

    @property
    def share(self) -> Share:
        """What it may look up at once."""

    async def is_alive(self, timeout: float) -> bool:
        """Whether the client answers."""

    def replace(self) -> None:
        """End the session; its listeners are freed at once."""


class Yielded(Enum):
    """What has come of a claim."""

    NOTHING = "nothing"
    """There was nothing in the way."""
    FREED = "freed"
    """What was in the way is gone."""
    KEPT = "kept"
    """It stays: it is somebody else's."""


class Elsewhere(Protocol):
    """Listeners that sessions in other processes have."""

    async def claim(self, claimant: Claimant, place: Place) -> Yielded:
        """Have what is in the way of `place` freed, where it is an earlier session's of the same
        client."""


@attrs.frozen
class Change:
    """What has come of other remotes."""

    listeners: list[Listener]
    """One for each remote, in their order."""
    opened: list[Listener]
    """Those that are new."""
    closed: list[Remote]
    """What is not listened for any more."""


class Listeners:
    """What all sessions of a server listen on; `open_listener` opens it.

    `elsewhere` is what sessions in other processes listen on.
    """

    def __init__(
        self,
        open_listener: Callable[[Remote, Share], Awaitable[Listener]] = open_listener,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._open_listener = open_listener
        self._elsewhere = elsewhere
        self._held: dict[Owner, list[Listener]] = {}

    async def open(self, owner: Owner, remotes: Sequence[Remote]) -> list[Listener]:
        """Listen for all of `remotes`, or for none.

        Raises `ConfigRefused` with the address that failed.
        """
        held = self._held.setdefault(owner, [])
        try:
            for remote in remotes:
                listener = await self._open_one(owner, remote)
                if self._held.get(owner) is not held:
                    listener.close()
                    raise ConfigRefused("the session has ended")  # and all was freed, meanwhile
                held.append(listener)
        except BaseException:
            self.free(owner)
            raise
        return held

    async def change(self, owner: Owner, remotes: Sequence[Remote]) -> Change:
        """Listen for all of `remotes`, and for nothing else; what is the same stays as it is.

        Raises `ConfigRefused` with the address that failed, and then nothing has changed.
        """
        held = self._held.setdefault(owner, [])
        left = list(held)
        listeners: list[Listener | None] = []
        for remote in remotes:
            same = next((listener for listener in left if listener.remote == remote), None)
            if same is not None:
                left.remove(same)
            listeners.append(same)
        opened: dict[int, Listener] = {}
        try:
            # First what needs nobody's place: this can fail, and nothing is lost yet.
            for in_place in (False, True):
                for number, remote in enumerate(remotes):
                    if listeners[number] is None and _overlap(remote, left) == in_place:
                        if in_place:
                            for listener in left:
                                if _same_place(remote, listener.remote):
                                    listener.close()
                        opened[number] = await self._open_one(owner, remote)
                        if self._held.get(owner) is not held:
                            raise ConfigRefused("the session has ended")
        except BaseException:
            for listener in opened.values():
                listener.close()
            raise
        for listener in left:
            held.remove(listener)
            listener.close()
        held += opened.values()
        return Change(
            [listener or opened[number] for number, listener in enumerate(listeners)],
            list(opened.values()),
            [listener.remote for listener in left],
        )

    def narrow(self, owner: Owner, allowed: Callable[[Remote], bool]) -> list[Remote]:
        """Free what `owner` has for remotes that are not `allowed`; return those."""
        held = self._held.get(owner, [])
        forbidden = [listener for listener in held if not allowed(listener.remote)]
        for listener in forbidden:
            held.remove(listener)
            listener.close()
        return [listener.remote for listener in forbidden]

    def held_by(self, owner: Owner) -> Sequence[Listener]:
        """Return what `owner` has."""
        return self._held.get(owner, ())

    def free(self, owner: Owner) -> None:
        """Free what `owner` has.  Can be called again."""
        for listener in self._held.pop(owner, ()):
            listener.close()

    async def _open_one(self, owner: Owner, remote: Remote) -> Listener:
        try:
            return await self._open_listener(remote, owner.share)
        except UsageError as error:
            refusal = ConfigRefused(f"Server {error}")
        holders = self._holders(remote)
        if not await _may_replace(owner, holders):
            raise refusal
        others = Yielded.NOTHING
        if self._elsewhere is not None:
            others = await self._elsewhere.claim(owner, remote)
        if others is Yielded.KEPT or not (holders or others is Yielded.FREED):
            raise refusal
        for old in holders:
            old.replace()
        try:
            return await self._open_listener(remote, owner.share)
        except UsageError as error:
            raise ConfigRefused(f"Server {error}") from None

    async def claimed(self, claimant: Claimant, place: Place) -> Yielded:
        """Free what is in the way of `place`, which somebody in another process wants to have.

        All of it, or nothing; but what yields here may have yielded for nothing, where something
        in a third process does not.  It was somebody's who does not answer any more.
        """
        holders = self._holders(place)
        if not holders:
            return Yielded.NOTHING
        if not await _may_replace(claimant, holders):
            return Yielded.KEPT
        for old in holders:
            old.replace()
        return Yielded.FREED

    def _holders(self, place: Place) -> list[Owner]:
        return [owner for owner, listeners in self._held.items() if _overlap(place, listeners)]


def _overlap(remote: Place, listeners: Sequence[Listener]) -> bool:
    """Return whether one of `listeners` may be what stands in the way of `remote`."""
    return any(_same_place(remote, listener.remote) for listener in listeners)


def _same_place(one: Place, other: Place) -> bool:
    if one.local_path or other.local_path:
        return one.local_path == other.local_path
    if (one.local_port, one.udp) != (other.local_port, other.udp):
        return False
    # Two different addresses do not meet, but where one of them is all, or a name.
    hosts = {one.local_host, other.local_host}
    return len(hosts) == 1 or any(address_family(h) is None or h in _ALL for h in hosts)


async def _may_replace(owner: Claimant, holders: Sequence[Owner]) -> bool:
    """Return whether all of `holders` are earlier sessions of the same client."""
    replaceable = []

    async def check(old: Owner) -> None:
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
