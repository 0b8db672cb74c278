"""The ingress: this node listens for the places that other nodes own, and passes visitors on.

A visitor takes one hop to the node of an owner, which `choose` names.  Where that refuses, before
any byte of the visitor's was taken, another one is tried once, as soon as there is one.  Then the
visitor is reset, as by a port that nobody listens on.

When a client moves from one node to another, its place does, and the listening sockets with it:
those of the ingress are the session's, or the other way round, and no visitor is turned away.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import ConnectionLost, CotunError, OpenRefused, UsageError
from cotun_trio.fleet.choice import MAX_HOPS
from cotun_trio.fleet.hop import NOT_ALLOWED, Hop, may_visit
from cotun_trio.forwards.admission import EVERYBODY, Gate
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.streams import carry
from cotun_trio.forwards.visitor import Visitor
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners
from cotun_trio.net.sockets import close, duplicates
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.visitor_address import with_visitor
from cotun_trio.ssh.messages import OPEN_GONE

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Collection

    from cotun_trio.fleet.peer_links import PeerLink, PeerLinks
    from cotun_trio.fleet.records import NodeFacts, Route
    from cotun_trio.forwards.admission import Admission
    from cotun_trio.logs import Context
    from cotun_trio.server.session import ServerSession

MAX_VISITORS = 10_000
"""Visitors at a time whom this node passes on; more are reset."""
SETTLING = 2.0
"""Seconds in which a visitor waits for an owner, where the one that was known has gone: a client
that has lost its node is at another one after half a second."""
LOOK_AGAIN = 0.05
"""Seconds between two looks for that."""


@attrs.frozen
class LocalOwner:
    """A session of this node, with the remote of the place that it listens at."""

    session: ServerSession
    remote: Remote

    def take(self, sock: socket.socket, visitor: Visitor, log: Context) -> None:
        """Carry a visitor whom this node's rules have let in, unless the remote's own do not."""
        if may_visit(self.remote, visitor):
            self.session.forward(sock, visitor, self.remote)
        else:
            log.refused(NOT_ALLOWED)
            close(sock, reset=True)


class Owners(Protocol):
    """The routes of other nodes, from memory."""

    def choose(
        self, place: str, tried: Collection[tuple[str, int]]
    ) -> tuple[NodeFacts, Route] | None:
        """Return an owner of a place at another node, none of those `tried`: nodes with the number
        of a session each."""

    def avoid(self, node: str) -> None:
        """A node could not be reached."""


class Ingress:
    """Listens for places of other nodes.  `run` it, and tell it of `owned` places.

    `owners` says where a visitor goes, and `links` lead there.  `local` returns the owner at this
    node, if there is one by now: that comes first.  `open_sockets` listens on a host and a port,
    and `admission` has the rules of this node about visitors; the owner has others.
    """

    def __init__(
        self,
        owners: Owners,
        links: PeerLinks,
        log: Context,
        open_sockets: Callable[[str, int], Awaitable[list[socket.socket]]] = open_listeners,
        local: Callable[[str], LocalOwner | None] = lambda _place: None,
        admission: Admission = EVERYBODY,
    ) -> None:
        self._local = local
        self._admission = admission
        self._open_sockets = open_sockets
        self._owners = owners
        self._links = links
        self._log = log
        self._listening: dict[str, list[socket.socket]] = {}
        self._visitors = 0
        self._endings = trio.lowlevel.ParkingLot()  # of visitors
        self._draining = False
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Accept and pass visitors on until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await trio.sleep_forever()
        finally:
            for place in list(self._listening):
                self.leave(place)

    def want(self, place: str) -> None:
        """Listen at a place, soon."""
        if self._nursery is not None and place not in self._listening and not self._draining:
            self._nursery.start_soon(self.listen, place)

    @property
    def places(self) -> Collection[str]:
        """The places that it listens at."""
        return self._listening.keys()

    async def listen(self, place: str) -> bool:
        """Listen at a place; return whether it does.

        It does not where the system refuses: a port that is taken here by something else.
        """
        if place in self._listening:
            return True
        kind, _, address = place.partition("/")
        assert kind == "tcp"
        host, _, port = address.rpartition(":")
        try:
            sockets = await self._open_sockets(host.strip("[]"), int(port))
        except UsageError as error:
            self._log.warning("%s, which a client at another node has: %s", place, error)
            return False
        self.adopt(place, sockets)
        return place in self._listening

    def adopt(self, place: str, sockets: list[socket.socket]) -> None:
        """Listen at a place with these sockets, which are the ingress's from now on."""
        is_wanted = self._nursery is not None and not self._draining
        if not sockets or not is_wanted or place in self._listening:
            for sock in sockets:
                close(sock)
            return
        self._listening[place] = sockets
        address = place.partition("/")[2]
        self._log.info("Listening on %s for a client at another node", address)

        assert self._nursery is not None
        let_in: Callable[[socket.socket, Visitor], None] = partial(self._let_in, place)
        if not self._admission.is_open:
            log = self._log.within(place=place)
            let_in = Gate(self._admission, let_in, self._nursery.start_soon, log).take
        for sock in sockets:
            self._nursery.start_soon(
                accept_forever, sock, lambda sock, peer: let_in(sock, Visitor(peer))
            )

    def _let_in(self, place: str, sock: socket.socket, visitor: Visitor) -> None:
        assert self._nursery is not None
        if self._visitors >= MAX_VISITORS:
            close(sock, reset=True)
        else:
            self._visitors += 1
            self._nursery.start_soon(self._visit, place, sock, visitor)

    def give(self, place: str) -> list[socket.socket]:
        """Listen no more at a place; return the sockets, with the visitors that wait there."""
        sockets = duplicates(self._listening.get(place, ()))
        self.leave(place)
        return sockets

    def leave(self, place: str) -> bool:
        """Listen no more at a place; return whether it did.  Visitors that are here go on."""
        sockets = self._listening.pop(place, [])
        for sock in sockets:
            close(sock)
        return bool(sockets)

    async def drain(self) -> None:
        """Listen nowhere any more, and wait for the visitors that are here to end."""
        self._draining = True
        for place in list(self._listening):
            self.leave(place)
        while self._visitors:
            await self._endings.park()

    async def _visit(self, place: str, sock: socket.socket, visitor: Visitor) -> None:
        log = self._log.within(source=visitor, place=place)
        try:
            await self._pass_on(place, sock, visitor, log)
        except Exception:
            log.exception("internal error, the connection is closed")
            close(sock, reset=True)
        except BaseException:
            close(sock, reset=True)
            raise
        finally:
            self._visitors -= 1
            self._endings.unpark_all()

    async def _pass_on(
        self, place: str, sock: socket.socket, visitor: Visitor, log: Context
    ) -> None:
        tried: list[tuple[str, int]] = []
        failure: CotunError | None = None
        moves = True  # the client, perhaps, as far as is known
        while (owner := await self._next_owner(place, tried, wait=moves)) is not None:
            if isinstance(owner, LocalOwner):
                owner.take(sock, visitor, log)
                return
            node, route = owner
            tried.append((node.id, route.session))
            try:
                link = self._links.to(node)
                with link.used():
                    await self._hop(link, route, sock, visitor, log)
                return
            except ConnectionLost as error:
                failure = error
                self._owners.avoid(node.id)
                log.debug("node %s cannot be reached: %s", node.id, error)
            except CotunError as error:
                failure = error
                is_gone = isinstance(error, OpenRefused) and error.code == OPEN_GONE
                moves = moves and is_gone
                log.debug("node %s refuses: %s", node.id, error)
        log.refused(failure or "no node has a client for it")
        close(sock, reset=True)

    async def _hop(
        self, link: PeerLink, route: Route, sock: socket.socket, visitor: Visitor, log: Context
    ) -> None:
        """Carry a visitor by a link, until that is over.

        Raises `CotunError` where the owner does not take it; by then nothing of it is lost.
        """
        session = await link.session()
        hop = Hop(route.session, route.place).encode()
        if session.flows.tells_visitors:
            hop = with_visitor(hop, visitor.endpoints(sock))
        channel = await link.open_channel(session, hop)
        log.debug("goes to session %d of %s", route.session, session.url)
        with session.flows.begin(_AS_REMOTE, source=visitor):
            await carry(Relay(channel, sock), log)

    async def _next_owner(
        self, place: str, tried: Collection[tuple[str, int]], *, wait: bool
    ) -> LocalOwner | tuple[NodeFacts, Route] | None:
        """Return the owner for a visitor whom these routes have refused.

        While its client is on its way from one node to another, or to this one, a place has none
        for a moment: that is waited for, if `wait`.
        """
        with trio.move_on_after(SETTLING):
            while len(tried) < MAX_HOPS:
                owner = self._local(place) or self._owners.choose(place, tried)
                if owner is not None or not wait:
                    return owner
                await trio.sleep(LOOK_AGAIN)
        return None


_AS_REMOTE = Remote(local_host="0.0.0.0", local_port=1, remote_host="fleet", remote_port=1)  # noqa: S104
"""The flows of a link are those of no remote that the user has given."""
