"""Telling the server of the client's reverse remotes, by a task that keeps it up to date.

The task runs in each session with a server of our kind.  To add or end a reverse remote is to say
that something has `changed`, and to wait for the outcome: so a wait that is cancelled leaves
nothing half done.  A remote that was refused is not asked for again in the same session, except
where the server cannot grant it just then: that is asked for every `AGAIN` seconds.  A Go server
hears of remotes with the config request, and never again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConfigRefused, CotunError, NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.session import ClientSession
    from cotun_trio.logs import Context

AGAIN = 10.0
"""Seconds after which a remote is asked for again that a server could not grant."""
GO_SERVER = (
    "a Go server hears of reverse remotes only when a session begins: give it to open_client"
)


class ToldRemotes:
    """The reverse remotes that the server of the present session listens for.

    `wanted` returns all remotes that there should be.
    """

    def __init__(self, wanted: Callable[[], Sequence[ManagedRemote]], log: Context) -> None:
        self._wanted = wanted
        self._log = log
        self._told: dict[ManagedRemote, str] = {}  # each with the address that the server gave
        self._telling = trio.Lock()
        self._news = trio.lowlevel.ParkingLot()

    def __contains__(self, item: ManagedRemote) -> bool:
        return item in self._told

    def address(self, item: ManagedRemote) -> str:
        """Return the address at which the server listens; empty where it has not said so."""
        return self._told.get(item, "")

    def changed(self, session: ClientSession | None, ended: Iterable[ManagedRemote] = ()) -> None:
        """Other remotes are wanted: have the server of `session` told, soon.

        A Go server cannot be told of those that have `ended`, and listens on for nobody.
        """
        if session is not None and not session.connection.peer_is_ours:
            for item in ended:
                self._told.pop(item, None)
        self._news.unpark_all()

    async def wait_ended(self, item: ManagedRemote) -> None:
        """Wait until the server does not listen for a remote any more."""
        while item in self._told:
            await self._news.park()

    # ---- sessions

    def begin(self, session: ClientSession, told: Sequence[ManagedRemote]) -> None:
        """A session has opened, whose config request had `told`."""
        self._note(session, told)
        if session.connection.peer_is_ours:
            session.start_soon(self._keep_in_line, session)
            return
        for item in self._wanted():
            if item.remote.reverse and not item.is_basic:
                self._settle(item, ConfigRefused(GO_SERVER))

    def end(self) -> None:
        """There is no session any more."""
        self._told = {}
        self._news.unpark_all()

    async def propose(self, session: ClientSession, items: Sequence[ManagedRemote]) -> None:
        """Have the server accept all of `items`.  Raises `CotunError`, and nothing has changed."""
        async with self._telling:
            await self._tell(session, items)

    async def _keep_in_line(self, session: ClientSession) -> None:
        refused: set[ManagedRemote] = set()  # in this session
        try:
            while not session.draining:
                async with self._telling:
                    is_in_line = await self._bring_in_line(session, refused)
                if is_in_line:
                    with trio.move_on_after(AGAIN if any(map(_is_passing, refused)) else math.inf):
                        await self._news.park()
                        continue
                    refused -= {item for item in refused if _is_passing(item)}
        except CotunError as error:
            self._log.debug("%s", error)  # the session has ended

    async def _bring_in_line(self, session: ClientSession, refused: set[ManagedRemote]) -> bool:
        """Tell the server of changes that it does not know yet; return whether there was none."""
        wanted = [i for i in self._wanted() if i.remote.reverse and i not in refused]
        new = [item for item in wanted if item not in self._told]
        if new:
            await self._tell_of(session, new, refused)
        elif len(wanted) < len(self._told):
            try:
                await self._tell(session, [*self._local(), *wanted])
            except (ConfigRefused, NotNow) as error:  # something else is not allowed any more
                self._log.warning("the server goes on listening: %s", error)
                self._told = {item: self._told[item] for item in wanted}
                self._news.unpark_all()
        else:
            return True
        return False

    async def _tell_of(
        self, session: ClientSession, new: list[ManagedRemote], refused: set[ManagedRemote]
    ) -> None:
        """Ask for `new`: all at once, and if that is refused, one by one."""
        wanted = self._wanted()
        present = [item for item in self._told if item in wanted]
        try:
            await self._tell(session, [*self._local(), *present, *new])
        except (ConfigRefused, NotNow) as error:
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
        before = item.failure
        told_before = isinstance(failure, NotNow) and str(failure) == str(before)
        if item.settle(failure) and failure is not None and not told_before:
            self._log.warning("%s: %s", item.remote, failure)
            if item.traffic is not None:
                item.traffic.failed(str(failure))

    def _local(self) -> list[ManagedRemote]:
        return [item for item in self._wanted() if not item.remote.reverse]

    async def _tell(self, session: ClientSession, items: Sequence[ManagedRemote]) -> None:
        """Have the server accept these in place of those that it knows.  Raises `CotunError`."""
        local = [i.remote for i in items if not i.remote.reverse and i.is_basic]
        reverse = [item for item in items if item.remote.reverse]
        await session.change_remotes((*local, *(item.remote for item in reverse)))
        self._note(session, reverse)

    def _note(self, session: ClientSession, reverse: Sequence[ManagedRemote]) -> None:
        addresses = session.reverse_addresses or ("",) * len(reverse)
        self._told = dict(zip(reverse, addresses, strict=True))
        self._news.unpark_all()


def _is_passing(item: ManagedRemote) -> bool:
    return isinstance(item.failure, NotNow)
