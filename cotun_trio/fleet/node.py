"""A node of a fleet: the rules at work, with Trio's clock and a directory.

The server asks it for places, and is told what others want by a `NodeHost`.  Nothing here is on the
way of a tunnel's bytes.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import NotNow
from cotun_trio.escape import escape
from cotun_trio.fleet import choice, effects, operations
from cotun_trio.fleet.counts import CountOfKind, CountsOfKind
from cotun_trio.fleet.directory import DirectoryFailed
from cotun_trio.fleet.failures import FleetFailures
from cotun_trio.fleet.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cotun_trio.fleet.directory import Directory
    from cotun_trio.fleet.effects import Effect
    from cotun_trio.fleet.operations import Operation
    from cotun_trio.fleet.records import NodeFacts, Route, Wish
    from cotun_trio.logs import Context

DEADLINE = 2.0
"""Seconds for an operation of the directory."""
FOLLOW_DEADLINE = 4.0
"""Seconds for a look at the stream, which waits for entries for a part of them."""
GATHER = 0.05
"""Seconds from some entries of the stream to the next ones: in a large fleet, many come at once."""


def new_id(name: str) -> str:
    """Return an id for one run of the node `name`, which has letters, digits, '-', '_' and '.'."""
    return f"{name}~{secrets.token_hex(4)}"


def mark_of(identity: str) -> str:
    """Return the mark of a client's identity for a `Wish`; empty for a client without one."""
    return identity and hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()


class NodeHost(Protocol):
    """The server, as its node sees it."""

    def yield_place(self, place: str, session: int, reason: str) -> None:
        """A session has lost its place: close its listener, and tell its client."""

    async def is_alive(self, session: int) -> bool:
        """Return whether the client of a session answers.  Has a deadline of its own."""

    def cut_user(self, user: str) -> None:
        """End all sessions that a user has at present."""

    def places_changed(self, places: Collection[str]) -> None:
        """Other nodes have come to own these places, or do not any more."""


@attrs.define
class _Waiter:
    """A task that waits for its place."""

    event: trio.Event = attrs.field(factory=trio.Event)
    epoch: int = 0
    refusal: str = ""


class Node:
    """The node that `facts` describe, of the fleet that meets in `directory`.

    `local` is for the time without the directory, see `Rules`; `max_auth_failures` is that of the
    server.
    """

    def __init__(
        self,
        facts: NodeFacts,
        directory: Directory,
        host: NodeHost,
        log: Context,
        *,
        local: bool = False,
        max_auth_failures: int = 0,
    ) -> None:
        self.id = facts.id
        """Of this run of the node."""
        self.rules = Rules(facts, trio.current_time(), local=local)
        """What it knows, and what follows from that: for others to be read only."""
        self._directory = directory
        self._host = host
        self._log = log
        self._news = trio.Event()
        self._waiters: dict[tuple[str, int], _Waiter] = {}
        self._nursery: trio.Nursery | None = None
        self._reason = ""  # for the last failure of the directory
        self.failures = FleetFailures(directory, self.rules.bars, max_auth_failures, self._lift)
        """The account of failed logins."""

    async def run(self) -> None:
        """Be a node until cancelled.  The lease runs out then, unless it was left before."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._operate)
            nursery.start_soon(self._read)
            nursery.start_soon(self._follow)

    # ---- for the server

    async def claim(self, wish: Wish) -> int:
        """Get a session its place; return the epoch.

        Raises `NotNow` with the reason where it does not get it, in some seconds at most.  A
        cancelled claim takes nothing.  A place that was got can be lost later: `NodeHost`.
        """
        if not _is_text(wish):
            raise NotNow(f"'{escape(wish.place)}' or its user is no text that all nodes can read")
        waiter = self._waiters.setdefault(wish.key, _Waiter())
        try:
            self.rules.wish(wish, trio.current_time())
            self._turn()
            await waiter.event.wait()
        except BaseException:
            self._waiters.pop(wish.key, None)
            self.release(wish.place, wish.session)
            raise
        if waiter.refusal:
            raise NotNow(f"{escape(wish.place)}: {waiter.refusal}")
        return waiter.epoch

    def release(self, place: str, session: int) -> None:
        """A session has no use for a place any more.  Can be called again."""
        self.rules.release(place, session)
        self._turn()

    def routes(self, place: str) -> list[Route]:
        """Return this node's own routes to a place."""
        return self.rules.claims.routes(place)

    def choose(
        self, place: str, tried: Collection[tuple[str, int]] = ()
    ) -> tuple[NodeFacts, Route] | None:
        """Return the other node that a visitor is sent to, with the route there; None for none.

        It is for a place without a route of our own: that comes first.  `tried` are the
        sessions that have refused this visitor, each after the id of its node.
        """
        found = choice.choose(self.rules.view.table, place, trio.current_time(), tried)
        return None if found is None else (found[0].facts, found[1])

    def is_owned_elsewhere(self, place: str) -> bool:
        """Return whether another node has an owner of a place."""
        return place in self.rules.view.table

    def avoid(self, node: str) -> None:
        """A node could not be reached: send no visitor there for a while."""
        choice.avoid(self.rules.view.table, node, trio.current_time())

    def counts(self, kind: str) -> CountsOfKind:
        """Return counts by source or user, summed up over all nodes; `kind` is one word."""
        return CountsOfKind(self.rules.counts, kind, self._poke)

    def count(self, kind: str) -> CountOfKind:
        """Return one count, summed up over all nodes; `kind` is one word."""
        return CountOfKind(self.rules.counts, kind, self._poke)

    def _lift(self, source: str) -> None:
        self.rules.lift(source)
        self._turn()

    def set_load(self, load: int) -> None:
        """The number of open sessions has changed."""
        self.rules.set_load(load)

    def set_users(self, digest: str) -> None:
        """The users file has been read, and has this digest."""
        self.rules.set_users(digest)

    def revoke(self, user: str) -> None:
        """Have all nodes cut the sessions of a user, this one at once."""
        self.rules.revoke(user)
        self._turn()

    def drain(self) -> None:
        """Have other nodes send no more visitors here than they must."""
        self.rules.drain()
        self._poke()

    async def leave(self) -> None:
        """Give up the lease and all places, as the last thing.  Takes two `DEADLINE` at most."""
        self.rules.leave()
        self._poke()
        while not self.rules.has_left:
            await self._news.wait()

    # ---- tasks

    async def _operate(self) -> None:
        """Do the operations of the rules."""
        rules = self.rules
        while not rules.has_left:
            self._turn()
            operation = rules.next_operation(trio.current_time())
            if operation is None:
                await self._wait_until(rules.next_deadline)
            elif (answer := await self._perform(operation)) is _FAILED:
                rules.failed(trio.current_time())
            else:
                self._answered(operation, answer)
        self._turn()

    def _answered(self, operation: Operation, answer: object) -> None:
        rules, now = self.rules, trio.current_time()
        match operation, answer:
            case operations.Renew(), operations.Renewed():
                rules.renewed(operation, answer, now)
            case operations.Write(), operations.Written() | operations.Outdated():
                rules.written(operation, answer, now)
            case operations.Restate(), operations.Retold() | operations.Outdated():
                rules.restated(operation, answer)
            case _:
                rules.left()

    async def _read(self) -> None:
        """Read what the rules want to know."""
        view = self.rules.view
        while True:
            reading = view.next_reading(trio.current_time())
            if reading is None:
                await self._wait_until(view.next_reading_time)
                continue
            match await self._perform(reading):
                case operations.Surveyed() as answer:
                    view.surveyed(answer, trio.current_time())
                case operations.Statement() as answer if isinstance(reading, operations.Read):
                    view.stated(reading.node, answer)
                case _:
                    view.reading_failed(trio.current_time())
            self._turn()

    async def _follow(self) -> None:
        """Follow the stream, from where the rules are."""
        view = self.rules.view
        while True:
            position = view.position
            if position is None:
                await self._news.wait()
                continue
            try:
                with trio.fail_after(FOLLOW_DEADLINE):
                    news = await self._directory.after(position)
            except (DirectoryFailed, trio.TooSlowError):
                view.lose_position()
                self._turn()
                continue
            if news:
                view.heard(news, trio.current_time())
                self._turn()
                await trio.sleep(GATHER)

    async def _probe(self, probe: effects.Probe) -> None:
        """Find out whether an owner is alive that another node asks about."""
        alive = await self._host.is_alive(probe.session)
        self.rules.probed(probe.place, probe.session, probe.epoch, alive=alive)
        self._turn()

    async def _perform(self, operation: Operation) -> object:
        """Return the answer, or `_FAILED`."""
        try:
            with trio.fail_after(DEADLINE):
                return await self._directory.perform(operation)
        except DirectoryFailed as error:
            self._reason = str(error)
        except trio.TooSlowError:
            self._reason = f"no answer in {DEADLINE:g} s"
        return _FAILED

    async def _wait_until(self, time: Callable[[], float]) -> None:
        """Wait for something to change, until the `time` at most."""
        news = self._news
        with trio.move_on_at(time()):
            await news.wait()

    # ---- the rules' turn

    def _turn(self) -> None:
        """Do what follows from a change."""
        self.rules.tick(trio.current_time())
        for effect in self.rules.take_effects():
            self._do(effect)
        if changed := self.rules.view.table.take_changed():
            self._host.places_changed(changed)
        self._poke()

    def _poke(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    def _do(self, effect: Effect) -> None:
        match effect:
            case effects.Give(place, session, epoch):
                self._settle(place, session, epoch=epoch)
            case effects.Refuse(place, session, reason):
                self._settle(place, session, refusal=reason)
            case effects.Yield(place, session, reason):
                self._log.warning("%s is lost to another session: %s", escape(place), reason)
                self._host.yield_place(place, session, reason)
            case effects.Probe() if self._nursery is not None:
                self._nursery.start_soon(self._probe, effect)
            case effects.CutUser(user):
                self._host.cut_user(user)
            case _:
                _tell(self._log, effect, self._reason)

    def _settle(self, place: str, session: int, *, epoch: int = 0, refusal: str = "") -> None:
        if (waiter := self._waiters.pop((place, session), None)) is not None:
            waiter.epoch, waiter.refusal = epoch, refusal
            waiter.event.set()


_FAILED = object()
"""In place of an answer."""


def _is_text(wish: Wish) -> bool:
    """Return whether all nodes can read the words of a wish."""
    try:
        f"{wish.place}{wish.user}{wish.group}{wish.mark}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _tell(log: Context, effect: Effect, reason: str) -> None:
    """Log an effect for the administrator; `reason` is that of the directory's last failure."""
    match effect:
        case effects.DirectoryLost():
            text = "The fleet's directory does not answer (%s): all stays as it is"
            log.warning(text, reason or "no answer yet")
        case effects.DirectoryBack():
            log.info("The fleet's directory answers again")
        case effects.UsersDiffer(facts):
            log.warning("Node %s has another users file", escape(facts.id))
        case _:
            pass
