"""The remotes of a client, which come and go.

A local remote is a listener here, and the server hears of it with its first connection.  For a
reverse remote, the server has to be told, and then listens until it is told otherwise.  A client
with several connections tells all their servers; a remote is there when one of them listens.

* The *basic* remotes are those of the settings.  They go to each server with the config request,
  and a server that does not allow one ends the client.  `Remotes.replace` puts others in their
  place, all of them or none: SIGHUP does that.
* The others come by `Remotes.add`, and a refusal ends nothing else.

How the servers are told is in `cotun_trio.client.told_servers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.client.managed_remote import ManagedRemote, listen
from cotun_trio.client.told_remotes import GO_SERVER
from cotun_trio.client.told_servers import ToldServers
from cotun_trio.errors import ConfigRefused, ConnectionLost, UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cotun_trio.client.open_sessions import OpenSessions
    from cotun_trio.client.session import ClientSession
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.places import Places
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote_options import ProxyVersion
    from cotun_trio.protocol.target import Target

CLOSED = "the client is closed"
NO_STDIO = "standard input and output are for the command line's stdio remotes"


class Remotes:
    """The remotes of one client, in `places`; `items` are the basic ones.

    `open_sessions` knows the sessions.  `patience` is how many seconds a new reverse remote waits
    for one.  `cut` is called when connections may have lost their remote.
    """

    def __init__(
        self,
        items: Iterable[ManagedRemote],
        places: Places,
        open_sessions: OpenSessions,
        log: Context,
        *,
        patience: float,
        cut: Callable[[], None],
    ) -> None:
        self._items = list(items)
        self._places = places
        self._open_sessions = open_sessions
        self._log = log
        self._patience = patience
        self._cut = cut
        self._begin: Callable[[Listener], None] | None = None  # while connections are accepted
        self._told = ToldServers(lambda: self._items, log)
        self._asked: dict[Target, ProxyVersion] = {}  # of a proposal to the server
        self._note_items()

    def _note_items(self) -> None:
        """Bring the tables in line with the items."""
        # Two remotes can have the same words, and one of them be gone.
        self._by_remote: dict[int, ManagedRemote] = {id(item.remote): item for item in self._items}
        reverse = [item for item in self._items if item.remote.reverse]
        self._by_target: dict[Target, ManagedRemote] = {
            item.remote.target: item for item in reversed(reverse)
        }
        self.declared: dict[Target, ProxyVersion] = _headers(reverse) | self._asked
        """See `cotun_trio.client.rights.Declared`."""

    # ---- current remotes

    @property
    def items(self) -> Sequence[ManagedRemote]:
        """Current remotes: the basic ones in the order of the settings, then those added later."""
        return tuple(self._items)

    @property
    def basic(self) -> tuple[Remote, ...]:
        """Current remotes for the config request."""
        return tuple(item.remote for item in self._items if item.is_basic)

    @property
    def addresses(self) -> list[str]:
        """Addresses of the listeners here, ``host:port`` each."""
        listeners = [item.listener for item in self._items if item.listener is not None]
        return [address for listener in listeners for address in listener.addresses]

    def address(self, item: ManagedRemote) -> str:
        """Return the address at which a remote listens, here or at a server."""
        if item.listener is not None:
            return item.listener.addresses[0]
        return self._told.address(item) or item.remote.local_address

    def has(self, remote: Remote) -> bool:
        """Return whether it is one of these: the very object."""
        return id(remote) in self._by_remote

    def traffic(self, uses: Target | Remote) -> Traffic | None:
        """Return the counters for a connection by a remote, or to a target that the server
        names."""
        if isinstance(uses, Remote):
            item = self._by_remote.get(id(uses))
        else:
            item = self._by_target.get(uses)
        return None if item is None else item.traffic

    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""
        item = self._by_target.get(target)
        inbox = None if item is None else item.inbox
        return inbox or self._places.inbox(target)

    # ---- listeners

    async def listen(self) -> None:
        """Open the listeners of all local remotes.  Raises `UsageError`."""
        for item in self._items:
            if item.remote.local:
                await listen([item], self._places, self._log)

    def accept(self, begin: Callable[[Listener], None]) -> None:
        """Have `begin` called for each listener, those of remotes still to come included."""
        self._begin = begin
        for item in self._items:
            self._begin_with(item)

    def _begin_with(self, item: ManagedRemote) -> None:
        if item.listener is None:
            return
        if self._begin is None:  # the client has ended meanwhile
            item.close()
        else:
            self._begin(item.listener)

    def close(self) -> None:
        """Close all listeners.  Nothing can be added any more.  Can be called again."""
        self._begin = None
        for item in self._items:
            if item.listener is not None:
                item.listener.close()

    def end(self) -> None:
        """Wake all tasks that wait for something of a remote: the client has ended."""
        self._told.end()
        for item in self._items:
            if not item.settled.is_set():
                item.settle(ConnectionLost(CLOSED))
            item.close()

    # ---- coming and going

    async def add(self, item: ManagedRemote) -> None:
        """Begin with a remote.

        Raises `UsageError` where it cannot be, `ConfigRefused` where the server does not want it,
        `NotNow` where it cannot have it at present, and `ConnectionLost` where a server has to be
        asked and there is none.  When cancelled, it is as if it had never been.
        """
        if item.remote.stdio:
            raise UsageError(NO_STDIO)
        if item.remote.reverse:
            await self._add_reverse(item)
        else:
            await self._add_local(item)

    async def _add_local(self, item: ManagedRemote) -> None:
        if self._begin is None:
            raise ConnectionLost(CLOSED)
        await listen([item], self._places, self._log)
        self._items.append(item)
        self._note_items()
        self._begin_with(item)

    async def _add_reverse(self, item: ManagedRemote) -> None:
        with trio.move_on_after(self._patience):
            await self._open_sessions.wait()
            if self._told.all_are_go:
                raise ConfigRefused(GO_SERVER)
            self._items.append(item)
            self._note_items()
            self._told.changed()
            try:
                await item.settled.wait()
                if item.failure is not None:
                    raise item.failure
            except BaseException:
                self._drop(item)
                raise
            return
        raise ConnectionLost("there is no tunnel at present")

    async def remove(self, item: ManagedRemote) -> None:
        """End a remote and cut its connections.  Can be called again.

        Waits until the servers of our kind have stopped listening, or their tunnels are lost;
        cancelling ends the wait only.
        """
        self._drop(item)  # also when this is cancelled already
        await trio.lowlevel.checkpoint()
        await self._told.wait_ended(item)

    def _drop(self, item: ManagedRemote) -> None:
        if item in self._items:
            self._items.remove(item)
            self._ended([item])

    def _ended(self, items: Sequence[ManagedRemote]) -> None:
        """Free the listeners of remotes that are no items any more, and cut their connections."""
        self._note_items()
        for item in items:
            item.close()
        self._cut()
        self._told.changed(ended=items)

    async def replace(self, remotes: Sequence[Remote]) -> None:
        """Put these in place of the basic ones; what is the same goes on.

        A local remote that cannot listen is a warning, and is tried again the next time; of those
        of one range, all or none begin.  Raises `CotunError` where the server refuses the whole,
        and then nothing has changed.
        """
        before = [item for item in self._items if item.is_basic]
        basic, gone, new = _compare(before, remotes)
        changed = [*gone, *new]
        if any(item.remote.stdio for item in changed):
            raise UsageError("a stdio remote cannot come or go")
        wanted = [*basic, *(item for item in self._items if not item.is_basic)]
        if any(item.remote.reverse for item in changed):
            await self._propose(wanted)
        self._items = wanted
        for item in gone:
            if item.remote.local:
                self._log.info("no longer listening for %s", item.remote)
        self._ended(gone)
        for items in _by_range(basic):
            await self._begin_new([item for item in items if item.listener is None])
        self._log.event("reloaded", remotes=len(remotes))

    async def _begin_new(self, items: Sequence[ManagedRemote]) -> None:
        try:
            await listen(items, self._places, self._log)
        except UsageError as error:
            text = items[0].remote.range_text
            rest = f": nothing new of the range '{escape(text)}'" if text else ""
            self._log.warning("%s%s", error, rest)
            return
        for item in items:
            self._begin_with(item)

    async def _propose(self, items: Sequence[ManagedRemote]) -> None:
        """Have the present servers accept all of `items`.  Raises `CotunError`."""
        if self._told.some_are_go:
            self._log.warning(
                "this server hears of reverse remotes when a session begins: what has changed of "
                "them counts from the next one on"
            )
        # Channels that the server opens right behind its answer are allowed already.
        self._asked = _headers([item for item in items if item.remote.reverse])
        self._note_items()
        try:
            await self._told.propose(items)
        finally:
            self._asked = {}
            self._note_items()

    # ---- sessions

    def session_opened(self, session: ClientSession) -> None:
        """A session has begun, with the basic remotes of its config request."""
        reverse = [remote for remote in session.remotes if remote.reverse]
        # A remote that was dropped while the session was being opened counts until the server is
        # told.
        told = [self._by_remote.get(id(remote)) or ManagedRemote(remote) for remote in reverse]
        self._told.begin(session, told)

    def session_left(self, session: ClientSession) -> None:
        """A session is no longer open."""
        self._told.left(session)


def _headers(reverse: Iterable[ManagedRemote]) -> dict[Target, ProxyVersion]:
    """Return the targets of remotes, with the version of the PROXY header of each."""
    return {item.remote.target: item.remote.options.proxy for item in reverse}


def _compare(
    before: Sequence[ManagedRemote], remotes: Sequence[Remote]
) -> tuple[list[ManagedRemote], list[ManagedRemote], list[ManagedRemote]]:
    """Return an item for each of `remotes`, the items that are gone, and those that are new."""
    left: dict[Remote, list[ManagedRemote]] = {}
    for item in before:
        left.setdefault(item.remote, []).append(item)
    items, new = [], []
    for remote in remotes:
        if same := left.get(remote):
            item = same.pop(0)
        else:
            item = ManagedRemote(remote, is_basic=True)
            new.append(item)
        items.append(item)
    return items, [item for same in left.values() for item in same], new


def _by_range(items: Iterable[ManagedRemote]) -> list[list[ManagedRemote]]:
    """Return the local ones: those of one range together, each of the others by itself."""
    found: dict[object, list[ManagedRemote]] = {}
    for item in items:
        if item.remote.local:
            found.setdefault(item.remote.range_text or item, []).append(item)
    return list(found.values())
