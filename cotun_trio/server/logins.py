"""Logins at a server: passwords are checked, and guessers are slowed down.

The checks of one source take turns, and so do its delays after wrong passwords; a good login from
another source waits for neither.  A source that has guessed too often is not even checked any more.
Hashes are computed off the event loop (`cotun_trio.server.login_threads`).
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.access.penalties import Penalties
from cotun_trio.access.sources import source_of
from cotun_trio.counts import meters
from cotun_trio.errors import Refused
from cotun_trio.escape import escape
from cotun_trio.server.login_threads import LoginThreads
from cotun_trio.server.peers import NO_PEERS
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.access.penalties import Bar, Verdict
    from cotun_trio.access.users import User
    from cotun_trio.logs import Context
    from cotun_trio.server.accounts import Accounts
    from cotun_trio.server.peers import Peers


class Failures(Protocol):
    """Keeps account of failed logins."""

    async def failed(self, source: str) -> Verdict:
        """Note a failed login of `source`, and return its penalty."""

    def barred(self, source: str) -> float:
        """Return for how many seconds more `source` is barred; 0 if it is not."""


class OwnFailures:
    """An account of this process alone: `Penalties`, by Trio's clock.

    `per_minute` failed logins bar their source; 0 is for no such limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._penalties = Penalties(per_minute)

    async def failed(self, source: str) -> Verdict:
        """See `Failures`."""
        return self._penalties.failed(source, trio.current_time())

    def barred(self, source: str) -> float:
        """See `Failures`."""
        return self._penalties.barred(source, trio.current_time())

    def bars(self) -> list[Bar]:
        """Return each source that is barred."""
        return self._penalties.bars(trio.current_time())

    def lift(self, source: str) -> bool:
        """Let `source` in again; return whether it was barred."""
        return self._penalties.lift(source, trio.current_time())

    def lift_all(self) -> int:
        """Let all of them in again; return how many there were."""
        return self._penalties.lift_all(trio.current_time())


class Logins:
    """Judges logins by `accounts`, and of `peers`; `failures` keeps account of failed ones."""

    def __init__(self, accounts: Accounts, failures: Failures, peers: Peers = NO_PEERS) -> None:
        self._accounts = accounts
        self._peers = peers
        self._failures = failures
        self._threads = LoginThreads()
        self._turns: dict[str, trio.Lock] = {}  # of sources that have a login being judged

    @property
    def everybody(self) -> bool:
        """Whether there are no users, and everybody is let in."""
        return self._accounts.users.everybody

    def barred(self, host: str) -> float:
        """Return for how many seconds nobody is let in from `host`, an address."""
        return self._failures.barred(source_of(host))

    async def judge(self, host: str, name: str, password: str, log: Context) -> User | None:
        """Return the user who logs in from the address `host`, or None, which takes a while.

        Raises `Refused` where the source was barred while this one waited for its turn.
        """
        logins = meters().logins
        if self.everybody and not self._peers.knows(name):
            logins.add("accepted")
            return self._accounts.users.find(name)
        source = source_of(host)
        async with self._turn(source):
            if seconds := self.barred(host):
                logins.add("barred")
                raise Refused(f"barred for {format_duration(round(seconds, 3))} more")
            user = await self._verify(source, name, password)
            logins.add("failed" if user is None else "accepted")
            if user is None:
                # In the form that the README gives to fail2ban: text of a client comes last.
                log = log.apart("logins")  # or a source could hide them behind other lines
                facts = {"source": host, "user": escape(name)}
                log.info(
                    "Authentication failed from %s for user '%s'",
                    host,
                    escape(name),
                    extra={"facts": facts},
                )
                log.event("refused", user=escape(name), reason="a wrong user or password")
                verdict = await self._failures.failed(source)
                if verdict.barred_for:
                    log.warning(
                        "Too many failures: %s is barred for %s",
                        source,
                        format_duration(verdict.barred_for),
                        extra={"facts": {"source": source, "seconds": verdict.barred_for}},
                    )
                await trio.sleep(verdict.delay)
            return user

    async def _verify(self, source: str, name: str, password: str) -> User | None:
        if self._peers.knows(name):
            return self._peers.verify(name, password)
        while True:
            users = self._accounts.users
            if users.costs:
                check = functools.partial(users.verify, name, password)
                user = await self._threads.run(source, check)
            else:
                user = users.verify(name, password)
            if users is self._accounts.users:  # or they have changed meanwhile
                return user

    @contextlib.asynccontextmanager
    async def _turn(self, source: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(source, trio.Lock())
        try:
            async with turn:
                yield
        finally:
            statistics = turn.statistics()
            if not statistics.locked and not statistics.tasks_waiting:
                self._turns.pop(source, None)
