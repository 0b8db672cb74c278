"""Links to other nodes: ordinary sessions, by which visitors are passed on.

A node is a client of its peer.  The peer's host key has to be the one that the directory says, and
the login is `cotun_trio.fleet.credentials`.  A link is opened when the first visitor needs it, and
closed when it has carried nothing for a while; so there are two at most between two nodes, one each
way.  Its flow control is that of its channels: back-pressure, half-close and resets cross it.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.client.client import Client
from cotun_trio.errors import ConnectionLost, CotunError, UsageError
from cotun_trio.escape import escape
from cotun_trio.logs import Context, get_logger
from cotun_trio.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.client.session import ClientSession
    from cotun_trio.fleet.credentials import FleetKey
    from cotun_trio.fleet.records import NodeFacts
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.channel import Channel

PATIENCE = 2.0
"""Seconds for a link to open; after that, a visitor is passed to another owner, or refused."""
SILENCE = 1.0
"""Seconds until a peer that has not answered is pinged, and for its answer to that."""
IDLE = 60.0
"""Seconds without a visitor after which a link is closed."""


class _LinkLog(Context):
    """The log of a link's client, whose lines are all at DEBUG: visitors who are refused, and for
    which reason, are in that of the ingress."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See `Context.log`."""
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)


class PeerLink:
    """The link to one node: `run` it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._failure: CotunError | None = None
        self._ended = trio.Event()
        self._users = 0  # visitors that it carries, or that wait for it
        self._unused = trio.CancelScope(deadline=trio.current_time() + IDLE)

    @property
    def is_over(self) -> bool:
        """Whether it takes nobody any more."""
        return self._ended.is_set()

    async def run(self) -> None:
        """Be connected until it is idle or lost, or until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_when_idle)
                try:
                    await self._client.run()
                except CotunError as error:
                    self._failure = error
                nursery.cancel_scope.cancel()
        finally:
            self._ended.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Stay open during the block, for a visitor."""
        self._users += 1
        self._unused.deadline = math.inf
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.deadline = trio.current_time() + IDLE

    async def _close_when_idle(self) -> None:
        with self._unused:
            await trio.sleep_forever()
        self._ended.set()
        self._client.shut_down()

    async def session(self) -> ClientSession:
        """Return the open session.  Raises `ConnectionLost` where there is none in time."""
        found: list[ClientSession] = []
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    found.append(await self._client.open_sessions.wait())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(wait)
                await self._ended.wait()
                nursery.cancel_scope.cancel()
        if not found:
            raise ConnectionLost(str(self._failure or f"no session in {PATIENCE:g} s"))
        return found[0]

    async def open_channel(self, session: ClientSession, target: bytes) -> Channel:
        """Open a channel to a visitor's target, which can take the client there a while to dial.

        A peer that does not even answer a ping meanwhile ends the link.  Raises `ConnectionLost`
        for that, and `Refused`.
        """
        found: list[Channel] = []
        failure: CotunError | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                answered = True
                while answered:
                    await trio.sleep(SILENCE)
                    answered = await _answers(session)
                session.fail(ConnectionLost("the node does not answer"))

            nursery.start_soon(watch)
            try:
                found.append(await session.connection.open_channel(target))
            except CotunError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return found[0]


class PeerLinks:
    """The links of the node `me`, which has the fleet's `key`.  `run` them."""

    def __init__(self, me: str, key: FleetKey, timings: Timings) -> None:
        self._me = me
        self._key = key
        self._timings = timings
        self._links: dict[str, PeerLink] = {}  # by the id of their node
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Keep links until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    def to(self, node: NodeFacts) -> PeerLink:
        """Return the link to a node, which is opened if there is none.

        Raises `ConnectionLost` for a node whose address makes no sense.
        """
        link = self._links.get(node.id)
        if link is None or link.is_over:
            log = get_logger("client").within(node=escape(node.id))
            try:
                client = Client(self._settings(node), log=_LinkLog(log.logger, log.pairs))
            except UsageError as error:
                raise ConnectionLost(str(error)) from None
            link = self._links[node.id] = PeerLink(client)
            assert self._nursery is not None
            self._nursery.start_soon(self._run, node, link)
        return link

    async def _run(self, node: NodeFacts, link: PeerLink) -> None:
        try:
            await link.run()
        finally:
            if self._links.get(node.id) is link:
                del self._links[node.id]

    def _settings(self, node: NodeFacts) -> ClientSettings:
        settings = ClientSettings.from_options(
            node.address,
            fingerprint=node.fingerprint,  # which says who it is: names in certificates do not
            tls_skip_verify=node.address.startswith("https:"),
            max_retry_count=0,
            timings=self._timings,
            fast_loop=True,
        )
        return attrs.evolve(settings, auth=self._key.credentials(self._me, node.fingerprint))

    def __len__(self) -> int:
        return len(self._links)


async def _answers(session: ClientSession) -> bool:
    with trio.move_on_after(SILENCE), contextlib.suppress(CotunError):
        await session.connection.ping()
        return True
    return False
