"""Telling a server of the client's reverse remotes, by a task that keeps it up to date.

The task runs in each session with a server of our kind.  To add or end a reverse remote is to say
that there are `news`, and to wait for the outcome: so a wait that is cancelled leaves nothing half
done.  A remote that was refused is not asked for again in the same session, except
where the server cannot grant it just then: that is asked for every `AGAIN` seconds.  A Go server
hears of remotes with the config request, and never again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConfigRefused, CotunError, NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.session import ClientSession
    from cotun_trio.logs import Context

AGAIN = 10.0
"""Seconds after which a remote is asked for again that a server could not grant."""
GO_SERVER = (
    "a Go server hears of reverse remotes only when a session begins: give it to open_client"
)


class ToldRemotes:
    """The reverse remotes that the server of `session` listens for: at first, those in `told`.

    They were in its config request.  `wanted` returns all remotes that there should be, and
    `answered` is called with the server's answer for one: None for yes, or the reason.  `news`
    wakes the tasks that wait for either.
    """

    def __init__(
        self,
        session: ClientSession,
        told: Sequence[ManagedRemote],
        wanted: Callable[[], Sequence[ManagedRemote]],
        answered: Callable[[ManagedRemote, CotunError | None], None],
        news: trio.lowlevel.ParkingLot,
        log: Context,
    ) -> None:
        self._session = session
        self._wanted = wanted
        self._answered = answered
        self._news = news
        self._log = log
        self._told: dict[ManagedRemote, str] = {}  # each with the address that the server gave
        self._refused: dict[ManagedRemote, CotunError] = {}
        self.telling = trio.Lock()
        """Held while the server is told, or is not to be."""
        self._note(told)

    def __contains__(self, item: ManagedRemote) -> bool:
        return item in self._told

    @property
    def is_go(self) -> bool:
        """Whether the server cannot be told of changes."""
        return not self._session.connection.peer_is_ours

    def address(self, item: ManagedRemote) -> str:
        """Return the address at which the server listens; empty where it has not said so."""
        return self._told.get(item, "")

    def refusal(self, item: ManagedRemote) -> CotunError | None:
        """Return why the server does not listen for a remote; None where it does, or will be
        asked."""
        if self.is_go and item not in self._told:
            return ConfigRefused(GO_SERVER)
        return self._refused.get(item)

    def begin(self) -> None:
        """Keep the server up to date from now on, by a task of the session."""
        if not self.is_go:
            self._session.start_soon(self._keep_in_line)
            return
        for item in self._wanted():
            if item.remote.reverse and not item.is_basic:
                self._answered(item, ConfigRefused(GO_SERVER))

    def forget(self, item: ManagedRemote) -> None:
        """A remote has ended.  A Go server cannot be told, and listens on for nobody."""
        self._refused.pop(item, None)
        if self.is_go:
            self._told.pop(item, None)

    async def propose(self, items: Sequence[ManagedRemote]) -> None:
        """Have the server accept all of `items`; the caller holds `telling`.

        Raises `CotunError`, and nothing has changed.
        """
        await self._tell(items)

    async def _keep_in_line(self) -> None:
        try:
            while not self._session.draining:
                async with self.telling:
                    is_in_line = await self._bring_in_line()
                if is_in_line:
                    passing = [i for i, why in self._refused.items() if isinstance(why, NotNow)]
                    with trio.move_on_after(AGAIN if passing else math.inf):
                        await self._news.park()
                        continue
                    for item in passing:
                        self._refused.pop(item, None)
        except CotunError as error:
            self._log.debug("%s", error)  # the session has ended

    async def _bring_in_line(self) -> bool:
        """Tell the server of changes that it does not know yet; return whether there was none."""
        wanted = [i for i in self._wanted() if i.remote.reverse and i not in self._refused]
        new = [item for item in wanted if item not in self._told]
        if new:
            await self._tell_of(new)
        elif len(wanted) < len(self._told):
            try:
                await self._tell([*self._local(), *wanted])
            except (ConfigRefused, NotNow) as error:  # something else is not allowed any more
                self._log.warning("the server goes on listening: %s", error)
                self._told = {item: self._told[item] for item in wanted}
                self._news.unpark_all()
        else:
            return True
        return False

    async def _tell_of(self, new: list[ManagedRemote]) -> None:
        """Ask for `new`: all at once, and if that is refused, one by one."""
        wanted = self._wanted()
        present = [item for item in self._told if item in wanted]
        try:
            await self._tell([*self._local(), *present, *new])
        except (ConfigRefused, NotNow) as error:
            if len(new) > 1:
                for item in new:
                    await self._tell_of([item])
                return
            self._refused[new[0]] = error
            self._answered(new[0], error)
        else:
            for item in new:
                self._answered(item, None)

    def _local(self) -> list[ManagedRemote]:
        return [item for item in self._wanted() if not item.remote.reverse]

    async def _tell(self, items: Sequence[ManagedRemote]) -> None:
        """Have the server accept these in place of those that it knows.  Raises `CotunError`."""
        local = [i.remote for i in items if not i.remote.reverse and i.is_basic]
        reverse = [item for item in items if item.remote.reverse]
        await self._session.change_remotes((*local, *(item.remote for item in reverse)))
        self._note(reverse)

    def _note(self, reverse: Sequence[ManagedRemote]) -> None:
        addresses = self._session.reverse_addresses or ("",) * len(reverse)
        self._told = dict(zip(reverse, addresses, strict=True))
        self._news.unpark_all()
