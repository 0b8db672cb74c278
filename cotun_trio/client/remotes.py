"""The remotes of a client, which come and go, and what the server has been told of them.

A local remote is a listener here, and the server hears of it with its first connection.  For a
reverse remote, the server has to be told, and then listens until it is told otherwise.

* The *basic* remotes are those of the settings.  They go to each server with the config request,
  and a server that refuses one ends the client.  `Remotes.replace` puts others in their place, all
  of them or none: SIGHUP does that.
* The others come by `Remotes.add`, and a refusal ends nothing else.

What the server is told is brought in line with what is wanted by one task of the session.  Whoever
adds a remote only waits for that, so that a cancelled wait leaves nothing half done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConfigRefused, ConnectionLost, CotunError, UsageError
from cotun_trio.protocol.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cotun_trio.client.current_session import CurrentSession
    from cotun_trio.client.session import ClientSession
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.places import Places
    from cotun_trio.forwards.running import Tally
    from cotun_trio.logs import Context
    from cotun_trio.protocol.target import Target

GO_SERVER = (
    "a Go server hears of reverse remotes only when a session begins: give it to open_client"
)
CLOSED = "the client is closed"
NO_STDIO = "standard input and output are for the command line's stdio remotes"


class ManagedRemote:
    """A remote, and how it is getting on.

    `inbox` takes its connections where they end in this process, `traffic` counts what it carries,
    and `is_basic` says that it goes to servers with the config request.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        inbox: Inbox | None = None,
        traffic: Tally | None = None,
        is_basic: bool = False,
    ) -> None:
        self.remote = remote
        self.inbox = inbox
        self.traffic = traffic
        self.is_basic = is_basic
        self.listener: Listener | None = None
        """The one here, if it is not the server that listens."""
        self.settled = trio.Event()
        """Set when the server has answered for the first time."""
        self.failure: CotunError | None = None
        """What the present session's server has against it."""

    async def listen(self, places: Places) -> Listener:
        """Open its listener here.  Raises `UsageError`."""
        self.listener = await places.open_listener(self.remote)
        return self.listener

    def settle(self, failure: CotunError | None) -> bool:
        """Note the server's answer; return whether there was one before."""
        again = self.settled.is_set()
        self.failure = failure
        self.settled.set()
        return again

    def close(self) -> None:
        """Listen no more here, and take no more connections.  Can be called again."""
        if self.inbox is not None:
            self.inbox.close()
        if self.listener is not None:
            self.listener.close()


class Remotes:
    """The remotes of one client, in `places`; `items` are the basic ones.

    `current` knows the session.  `patience` is how many seconds a new reverse remote waits for one.
    `cut` is called when connections may have lost their remote.
    """

    def __init__(
        self,
        items: Iterable[ManagedRemote],
        places: Places,
        current: CurrentSession,
        log: Context,
        *,
        patience: float,
        cut: Callable[[], None],
    ) -> None:
        self._items = list(items)
        self._places = places
        self._current = current
        self._log = log
        self._patience = patience
        self._cut = cut
        self._begin: Callable[[Listener], None] | None = None  # while connections are accepted
        self._told: dict[ManagedRemote, str] = {}  # what the server listens for, and where
        self._asked: frozenset[Target] = frozenset()  # what it is being asked to listen for
        self._telling = trio.Lock()
        self._changed = trio.lowlevel.ParkingLot()  # where the session's task waits
        self.declared: frozenset[Target] = frozenset()
        """The targets that servers may open channels to."""
        self._by_target: dict[Target, ManagedRemote] = {}
        self._by_remote: dict[int, ManagedRemote] = {}
        self._note_items()

    def _note_items(self) -> None:
        """Bring the tables in line with the items."""
        # Two remotes can have the same words, and one of them be gone.
        self._by_remote = {id(item.remote): item for item in self._items}
        reverse = [item for item in self._items if item.remote.reverse]
        self._by_target = {item.remote.target: item for item in reversed(reverse)}
        self.declared = frozenset(self._by_target) | self._asked

    # ---- what there is

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
        """Return the address at which a remote listens, here or at the server."""
        if item.listener is not None:
            return item.listener.addresses[0]
        return self._told.get(item) or item.remote.local_address

    def has(self, remote: Remote) -> bool:
        """Return whether it is one of these: the very object."""
        return id(remote) in self._by_remote

    def traffic(self, uses: Target | Remote) -> Tally | None:
        """Return what counts a connection by a remote, or to a target that the server names."""
        if isinstance(uses, Remote):
            item = self._by_remote.get(id(uses))
        else:
            item = self._by_target.get(uses)
        return None if item is None else item.traffic

    def inbox(self, target: Target) -> Inbox | None:
        """Return what takes connections to `target` in this process; None to dial it."""
        item = self._by_target.get(target)
        inbox = None if item is None else item.inbox
        return inbox or self._places.inbox(target)

    # ---- listeners

    async def listen(self) -> None:
        """Open the listeners of all local remotes.  Raises `UsageError`."""
        for item in self._items:
            if item.remote.local:
                await self._listen(item)

    async def _listen(self, item: ManagedRemote) -> None:
        listener = await item.listen(self._places)
        for address in listener.addresses:
            self._log.info("Listening on %s for %s", address, item.remote)

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
        self._told = {}
        self._changed.unpark_all()
        for item in self._items:
            if not item.settled.is_set():
                item.settle(ConnectionLost(CLOSED))
            item.close()

    # ---- coming and going

    async def add(self, item: ManagedRemote) -> None:
        """Begin with a remote.

        Raises `UsageError` where it cannot be, `ConfigRefused` where the server does not want it,
        and `ConnectionLost` where a server has to be asked and there is none.  When cancelled, it
        is as if it had never been.
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
        await self._listen(item)
        self._items.append(item)
        self._note_items()
        self._begin_with(item)

    async def _add_reverse(self, item: ManagedRemote) -> None:
        with trio.move_on_after(self._patience):
            session = await self._current.wait()
            if not session.connection.peer_is_ours:
                raise ConfigRefused(GO_SERVER)
            self._items.append(item)
            self._note_items()
            self._changed.unpark_all()
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

        Waits until a server of our kind has stopped listening, or the tunnel is lost; cancelling
        ends the wait only.
        """
        self._drop(item)  # also when this is cancelled already
        await trio.lowlevel.checkpoint()
        while item in self._told:
            await self._changed.park()

    def _drop(self, item: ManagedRemote) -> None:
        if item in self._items:
            self._items.remove(item)
            self._ended([item])

    def _ended(self, items: Sequence[ManagedRemote]) -> None:
        """Free what remotes that are no items any more have had."""
        self._note_items()
        for item in items:
            item.close()
        self._cut()
        session = self._current.now
        if session is not None and not session.connection.peer_is_ours:
            for item in items:
                self._told.pop(item, None)  # it cannot be told, and listens on for nobody
        self._changed.unpark_all()

    async def replace(self, remotes: Sequence[Remote]) -> None:
        """Put these in place of the basic ones; what is the same goes on.

        A local remote that cannot listen is a warning.  Raises `CotunError` where the server
        refuses the whole, and then nothing has changed.
        """
        gone = [item for item in self._items if item.is_basic]
        new, wanted = [], []
        for remote in remotes:
            item = next((item for item in gone if item.remote == remote), None)
            if item is None:
                item = ManagedRemote(remote, is_basic=True)
                new.append(item)
            else:
                gone.remove(item)
            wanted.append(item)
        changed = [*gone, *new]
        if any(item.remote.stdio for item in changed):
            raise UsageError("a stdio remote cannot come or go")
        wanted += [item for item in self._items if not item.is_basic]
        if any(item.remote.reverse for item in changed):
            await self._propose(wanted)
        self._items = wanted
        for item in gone:
            if item.remote.local:
                self._log.info("no longer listening for %s", item.remote)
        self._ended(gone)
        for item in new:
            if item.remote.local:
                try:
                    await self._listen(item)
                except UsageError as error:
                    self._log.warning("%s", error)
                else:
                    self._begin_with(item)

    async def _propose(self, items: Sequence[ManagedRemote]) -> None:
        """Have the present server accept all of `items`.  Raises `CotunError`."""
        session = self._current.now
        if session is None:
            return
        if not session.connection.peer_is_ours:
            self._log.warning(
                "this server hears of reverse remotes when a session begins: what has changed of "
                "them counts from the next one on"
            )
            return
        # What the server opens behind its answer is allowed already.
        self._asked = frozenset(item.remote.target for item in items if item.remote.reverse)
        self._note_items()
        try:
            async with self._telling:
                await self._tell(session, items)
        finally:
            self._asked = frozenset()
            self._note_items()

    # ---- what the server is told

    def session_opened(self, session: ClientSession) -> None:
        """A session has begun, with the basic remotes of its config request."""
        reverse = [remote for remote in session.remotes if remote.reverse]
        # What was dropped while the session was being opened counts, until the server is told.
        told = [self._by_remote.get(id(remote)) or ManagedRemote(remote) for remote in reverse]
        self._note_told(session, told)
        if session.connection.peer_is_ours:
            session.start_soon(self._keep_told, session)
            return
        for item in self._items:
            if item.remote.reverse and not item.is_basic:
                self._settle(item, ConfigRefused(GO_SERVER))

    def session_left(self) -> None:
        """There is no session any more."""
        self._told = {}
        self._changed.unpark_all()

    async def _keep_told(self, session: ClientSession) -> None:
        """Bring what the server listens for in line with what is wanted, again and again."""
        refused: set[ManagedRemote] = set()  # in this session
        try:
            while True:
                async with self._telling:
                    is_in_line = await self._bring_in_line(session, refused)
                if is_in_line:
                    await self._changed.park()
        except CotunError as error:
            self._log.debug("%s", error)  # the session has ended

    async def _bring_in_line(self, session: ClientSession, refused: set[ManagedRemote]) -> bool:
        """Tell the server what it does not know yet; return whether there was nothing."""
        wanted = [item for item in self._items if item.remote.reverse and item not in refused]
        new = [item for item in wanted if item not in self._told]
        if new:
            await self._tell_of(session, new, refused)
        elif len(wanted) < len(self._told):
            try:
                await self._tell(session, [*self._local, *wanted])
            except ConfigRefused as error:  # something else is not allowed any more
                self._log.warning("the server goes on listening: %s", error)
                self._told = {item: self._told[item] for item in wanted}
                self._changed.unpark_all()
        else:
            return True
        return False

    async def _tell_of(
        self, session: ClientSession, new: list[ManagedRemote], refused: set[ManagedRemote]
    ) -> None:
        """Ask for `new`: all at once, and if that is refused, one by one."""
        present = [item for item in self._told if item in self._items]
        try:
            await self._tell(session, [*self._local, *present, *new])
        except ConfigRefused as error:
            if len(new) > 1:
                for item in new:
                    await self._tell_of(session, [item], refused)
                return
            refused.update(new)
            self._settle(new[0], error)
        else:
            for item in new:
                self._settle(item, None)

    def _settle(self, item: ManagedRemote, failure: CotunError | None) -> None:
        if item.settle(failure) and failure is not None:
            self._log.warning("%s: %s", item.remote, failure)
            if item.traffic is not None:
                item.traffic.failed(str(failure))

    @property
    def _local(self) -> list[ManagedRemote]:
        return [item for item in self._items if not item.remote.reverse]

    async def _tell(self, session: ClientSession, items: Sequence[ManagedRemote]) -> None:
        """Have the server accept these in place of what it knows.  Raises `CotunError`."""
        local = [i.remote for i in items if not i.remote.reverse and i.is_basic]
        reverse = [item for item in items if item.remote.reverse]
        await session.change_remotes((*local, *(item.remote for item in reverse)))
        self._note_told(session, reverse)

    def _note_told(self, session: ClientSession, reverse: Sequence[ManagedRemote]) -> None:
        addresses = session.reverse_addresses or ("",) * len(reverse)
        self._told = dict(zip(reverse, addresses, strict=True))
        self._changed.unpark_all()
