"""All servers that are told of the client's reverse remotes, and what has come of each remote.

Each open session has a `cotun_trio.client.told_remotes`.  A remote is there when one of the servers
listens for it; it is refused when all of them have refused it.  What one of several refuses is a
warning, and nothing else.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from cotun_trio.client.told_remotes import ToldRemotes
from cotun_trio.errors import NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.session import ClientSession
    from cotun_trio.errors import CotunError
    from cotun_trio.logs import Context


class ToldServers:
    """The servers of all open sessions.  `wanted` returns all remotes that there should be."""

    def __init__(self, wanted: Callable[[], Sequence[ManagedRemote]], log: Context) -> None:
        self._wanted = wanted
        self._log = log
        self._told: dict[ClientSession, ToldRemotes] = {}
        self._news = trio.lowlevel.ParkingLot()

    @property
    def some_are_go(self) -> bool:
        """Whether one of them cannot be told of changes."""
        return any(told.is_go for told in self._told.values())

    @property
    def all_are_go(self) -> bool:
        """Whether none of them can be told of changes."""
        return all(told.is_go for told in self._told.values())

    def address(self, item: ManagedRemote) -> str:
        """Return the address at which one of them listens; empty where none has said so."""
        return next(filter(None, (told.address(item) for told in self._told.values())), "")

    def changed(self, ended: Iterable[ManagedRemote] = ()) -> None:
        """Other remotes are wanted, and some have `ended`: have the servers told, soon."""
        for item in ended:
            for told in self._told.values():
                told.forget(item)
        self._news.unpark_all()

    async def wait_ended(self, item: ManagedRemote) -> None:
        """Wait until none of them listens for a remote any more."""
        while any(item in told for told in self._told.values()):
            await self._news.park()

    async def propose(self, items: Sequence[ManagedRemote]) -> None:
        """Have all that can be told accept all of `items`.

        Raises `CotunError`; then those that have accepted them are soon told the former ones again.
        """
        # Until the last one has accepted them, nobody brings the first back in line.
        async with contextlib.AsyncExitStack() as telling:
            for told in [told for told in self._told.values() if not told.is_go]:
                await telling.enter_async_context(told.telling)
                await told.propose(items)

    # ---- sessions

    def begin(self, session: ClientSession, told: Sequence[ManagedRemote]) -> None:
        """A session has opened, whose config request had `told`."""
        self._told[session] = new = ToldRemotes(
            session, told, self._wanted, self._answered, self._news, self._log
        )
        new.begin()
        self._news.unpark_all()

    def left(self, session: ClientSession) -> None:
        """A session is no longer open."""
        self._told.pop(session, None)
        self._news.unpark_all()
        for item in self._wanted():
            if item.remote.reverse:
                self._judge(item)

    def end(self) -> None:
        """There will be no session any more."""
        self._told = {}
        self._news.unpark_all()

    # ---- what has come of a remote

    def _answered(self, item: ManagedRemote, failure: CotunError | None) -> None:
        """A server has answered: it listens for a remote, or refuses it for a reason."""
        told_before = isinstance(failure, NotNow) and str(failure) == str(item.refusal)
        item.refusal = failure
        if failure is None:
            if not item.settled.is_set():
                item.settle(None)
        elif not self._judge(item) and not told_before:
            self._log.warning("%s: %s", item.remote, failure)
            if item.traffic is not None:
                item.traffic.failed(str(failure))

    def _judge(self, item: ManagedRemote) -> bool:
        """Settle a remote that all servers have refused; return whether that is done now."""
        refusals = [told.refusal(item) for told in self._told.values()]
        if item.settled.is_set() or not refusals or not all(refusals):
            return False
        item.settle(refusals[0])
        return True
