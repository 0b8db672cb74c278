"""The client behind the API: a `Client` whose remotes come and go one by one.

What it was opened with is in the settings, and goes to each server with the config request, so that
a refusal of it ends the client.  What comes later is an `Item`, and can do no such harm.  A local
one is a listener here, and the server hears of it with its first connection.  A reverse one is told
to the server by a task of the session, which brings what it has been told in line with what is
wanted: whoever wants it only waits for that, so that a cancelled wait leaves nothing half done.
"""

from __future__ import annotations

import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.api.events import Connected, Events, ForwardFailed, Lost
from cotun_trio.api.forwards import Forward
from cotun_trio.client.client import Client
from cotun_trio.errors import ConfigRefused, ConnectionLost, CotunError, UsageError
from cotun_trio.forwards.running import Tally
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cotun_trio.client.session import ClientSession
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import ClientSettings

GO_SERVER = (
    "a Go server hears of reverse remotes only when a session begins: give it to open_client"
)


class Item:
    """A remote of the client's."""

    def __init__(self, events: Events, remote: Remote, inbox: Inbox | None) -> None:
        self.remote = remote
        self.inbox = inbox
        """Who takes its connections, where those end in this process."""
        self.listener: Listener | None = None
        """The one here, if it is not the server that listens."""
        self.settled = trio.Event()
        """Set when the server has answered for the first time."""
        self.failure: CotunError | None = None
        """What the present session's server has against it."""
        self._events = events
        self.tally = Tally(self.failed)

    def failed(self, reason: str) -> None:
        """Tell the world."""
        if self.forward is not None:
            self._events.publish(ForwardFailed(self.forward, reason))

    forward: Forward | None = None
    """What the owner of the client has of it; none for what listens by `TunnelListener`."""


def inbox_remote(host: str, port: int) -> Remote:
    """Return a reverse remote whose connections end in this process.

    Its target is a host that nobody has (RFC 6761 section 6.4).  Raises `UsageError`.
    """
    try:
        return Remote.build(
            local_host=host,
            local_port=port,
            remote_host=f"{secrets.token_hex(8)}.cotun-trio.invalid",
            remote_port=1,
            reverse=True,
        )
    except RemoteError as error:
        raise UsageError(str(error)) from None


class EmbeddedClient(Client):
    """A `Client` with remotes that come and go, and events.

    `inboxes` are for those remotes of `settings` whose connections end in this process.
    """

    def __init__(
        self,
        settings: ClientSettings,
        uplink: AnyUplink | None = None,
        inboxes: Mapping[Remote, Inbox] = MappingProxyType({}),
    ) -> None:
        super().__init__(settings, uplink=uplink)
        self.events = Events()
        self.last_failure: CotunError | None = None
        """Why the last attempt or session ended."""
        self.items = [Item(self.events, remote, inboxes.get(remote)) for remote in settings.remotes]
        """What there is: what it was opened with, and then what came later."""
        for item in self.items:
            if item.inbox is None:
                item.forward = Forward(self, item)
        self._unclaimed = [item for item in self.items if item.inbox is not None]
        self._base = frozenset(self.items)
        self._wanted = trio.lowlevel.ParkingLot()  # where the session's task waits for changes
        self._told: dict[Item, str] = {}  # what the session's server listens for, and where

    @property
    def connected(self) -> bool:
        """Whether there is an open session."""
        return self._session is not None

    async def wait_connected(self) -> None:
        """Wait until there is one."""
        while self._session is None:
            await self._opened.wait()

    def claim(self, host: str, port: int) -> Item | None:
        """Return what it was opened with to listen there, for this process; only once."""
        for item in self._unclaimed:
            if (item.remote.local_host, item.remote.local_port) == (host, port):
                self._unclaimed.remove(item)
                return item
        return None

    # ---- coming and going

    async def add(self, remote: Remote, inbox: Inbox | None = None) -> Item:
        """Begin with a remote.

        Raises `UsageError` where it cannot be, `ConfigRefused` where the server does not want it,
        and `ConnectionLost` where a server has to be asked and there is none.  When cancelled, it
        is as if it had never been.
        """
        if remote.stdio:
            raise UsageError("standard input and output are for the command line's stdio remotes")
        item = Item(self.events, remote, inbox)
        if inbox is None:
            item.forward = Forward(self, item)
        if remote.reverse:
            await self._add_reverse(item)
        else:
            await self._add_local(item)
        return item

    async def _add_local(self, item: Item) -> None:
        if self._accepting is None:
            raise ConnectionLost("the client is closed")
        item.listener = await self._listen(item.remote)
        self.items.append(item)
        self._accepting.start_soon(self._serve_listener, self._accepting, item.listener)

    async def _add_reverse(self, item: Item) -> None:
        with trio.move_on_after(self.settings.timings.ssh_wait):
            session = await self.wait_session()
            if not session.connection.peer_is_ours:
                raise ConfigRefused(GO_SERVER)
            self.items.append(item)
            self._declare()
            self._wanted.unpark_all()
            try:
                await item.settled.wait()
                if item.failure is not None:
                    raise item.failure
            except BaseException:
                self._drop(item)
                raise
            return
        raise ConnectionLost("there is no tunnel at present")

    async def remove(self, item: Item) -> None:
        """End a remote and cut its connections; see `Forward.aclose`."""
        self._drop(item)  # also when this is cancelled already
        await trio.lowlevel.checkpoint()
        while item in self._told:
            await self._wanted.park()

    def _drop(self, item: Item) -> None:
        if item not in self.items:
            return
        self.items.remove(item)
        remotes = tuple(remote for remote in self.settings.remotes if remote is not item.remote)
        self.settings = attrs.evolve(self.settings, remotes=remotes)
        self._declare()
        if item.inbox is not None:
            item.inbox.close()
        listener = item.listener or self._base_listener(item)
        if listener is not None:
            self._listeners.remove(listener)
            listener.close()
        for session in self._connector.sessions:
            session.forwards.cut(session.may_go_on)
        if self._session is not None and not self._session.connection.peer_is_ours:
            self._told.pop(item, None)  # it cannot be told, and listens on for nobody
        self._wanted.unpark_all()

    def _declare(self) -> None:
        self.declared = frozenset(i.remote.target for i in self.items if i.remote.reverse)

    def _base_listener(self, item: Item) -> Listener | None:
        return next((one for one in self._listeners if one.remote is item.remote), None)

    def address(self, item: Item) -> str:
        """Return where it listens."""
        listener = item.listener or self._base_listener(item)
        if listener is not None and not item.remote.reverse:
            return listener.addresses[0]
        return self._told.get(item) or item.remote.local_address

    # ---- what the server is told

    async def _keep_told(self, session: ClientSession) -> None:
        """Bring what the server listens for in line with what is wanted, again and again."""
        refused: set[Item] = set()  # in this session
        while True:
            wanted = [item for item in self.items if item.remote.reverse and item not in refused]
            new = [item for item in wanted if item not in self._told]
            if new:
                await self._tell_of(session, new, refused)
            elif len(wanted) < len(self._told):
                try:
                    await self._tell(session, wanted)
                except ConfigRefused as error:  # something else is not allowed any more
                    self.log.warning("the server goes on listening: %s", error)
                    self._told = {item: self._told[item] for item in wanted}
                    self._wanted.unpark_all()
            else:
                await self._wanted.park()

    async def _tell_of(self, session: ClientSession, new: list[Item], refused: set[Item]) -> None:
        """Ask for `new`: all at once, and if that is refused, one by one."""
        present = [item for item in self._told if item in self.items]
        try:
            await self._tell(session, [*present, *new])
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

    def _settle(self, item: Item, failure: CotunError | None) -> None:
        again = item.settled.is_set()
        item.failure = failure
        item.settled.set()
        if again and failure is not None:
            self.log.warning("%s: %s", item.remote, failure)
            item.failed(str(failure))

    async def _tell(self, session: ClientSession, items: list[Item]) -> None:
        local = [remote for remote in self.settings.remotes if not remote.reverse]
        await session.change_remotes((*local, *(item.remote for item in items)))
        self._note_told(session, items)

    def _note_told(self, session: ClientSession, items: list[Item]) -> None:
        addresses = session.reverse_addresses or ("",) * len(items)
        self._told = dict(zip(items, addresses, strict=True))
        self._wanted.unpark_all()

    async def _run_keep_told(self, session: ClientSession) -> None:
        try:
            await self._keep_told(session)
        except CotunError as error:
            self.log.debug("%s", error)  # the session has ended

    # ---- as the owner of sessions

    def has(self, remote: Remote) -> bool:
        """See `cotun_trio.client.session.Owner`; of two with the same words, one may have gone."""
        return any(item.remote is remote for item in self.items)

    def tally(self, uses: Target | Remote) -> Tally | None:
        """See `cotun_trio.client.session.Owner`."""
        item = self._find(uses)
        return None if item is None else item.tally

    def inbox(self, target: Target) -> Inbox | None:
        """See `cotun_trio.client.session.Owner`."""
        item = self._find(target)
        return None if item is None else item.inbox

    def _find(self, uses: Target | Remote) -> Item | None:
        for item in self.items:
            if item.remote is uses or (item.remote.reverse and item.remote.target == uses):
                return item
        return None

    def session_opened(self, session: ClientSession) -> None:
        """See `cotun_trio.client.session.Owner`."""
        items = {id(item.remote): item for item in self.items}
        reverse = [remote for remote in session.remotes if remote.reverse]
        # What was dropped while the session was being opened counts, until the server is told.
        self._note_told(
            session,
            [items.get(id(remote)) or Item(self.events, remote, None) for remote in reverse],
        )
        super().session_opened(session)
        self.events.publish(Connected(str(session.url), session.latency))
        if session.connection.peer_is_ours:
            session.start_soon(self._run_keep_told, session)
        else:
            self._refuse_all()

    async def _tell_remotes(self, session: ClientSession) -> None:
        """See `_keep_told`, which does it."""

    def _refuse_all(self) -> None:
        """Give up what has to be told and cannot be."""
        for item in self.items:
            if item.remote.reverse and item not in self._told:
                self._settle(item, ConfigRefused(GO_SERVER))

    def session_left(self, session: ClientSession) -> None:
        """See `cotun_trio.client.session.Owner`."""
        if self._session is session:
            self._told = {}
            self._wanted.unpark_all()
        super().session_left(session)

    def retrying(self, seconds: float, failure: CotunError) -> None:
        """See `cotun_trio.client.session.Owner`."""
        self.last_failure = failure
        super().retrying(seconds, failure)
        self.events.publish(Lost(str(failure), seconds))

    def ended(self) -> None:
        """Wake who still waits for something of it."""
        self._told = {}
        self._wanted.unpark_all()
        for item in self.items:
            if not item.settled.is_set():
                item.failure = ConnectionLost("the client is closed")
                item.settled.set()
            if item.inbox is not None:
                item.inbox.close()
        self.events.end()
