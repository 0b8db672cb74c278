"""The ingress: this node listens for the places that other nodes own, and passes visitors on.

A visitor takes one hop to the node of an owner, which `choose` names.  Where that refuses, before
any byte of the visitor's was taken, another one is tried once.  Then the visitor is reset, as by a
port that nobody listens on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.errors import ConnectionLost, CotunError, UsageError
from cotun_trio.fleet.hop import Hop
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.streams import carry
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners
from cotun_trio.net.sockets import close
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.remote import Remote

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Collection

    from cotun_trio.fleet.peer_links import PeerLinks
    from cotun_trio.fleet.records import NodeFacts, Route
    from cotun_trio.logs import Context

MAX_VISITORS = 10_000
"""Visitors at a time whom this node passes on; more are reset."""


class Owners(Protocol):
    """The routes of other nodes, from memory."""

    def choose(self, place: str, tried: Collection[str]) -> tuple[NodeFacts, Route] | None:
        """Return an owner of a place and its node, but none of the nodes `tried`."""

    def avoid(self, node: str) -> None:
        """A node could not be reached."""


class Ingress:
    """Listens for places of other nodes.  `run` it, and tell it of `owned` places.

    `owners` says where a visitor goes, and `links` lead there.  `open_sockets` listens on a host
    and a port.
    """

    def __init__(
        self,
        owners: Owners,
        links: PeerLinks,
        log: Context,
        open_sockets: Callable[[str, int], Awaitable[list[socket.socket]]] = open_listeners,
    ) -> None:
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
        if place in self._listening or self._nursery is None or self._draining:
            for sock in sockets:
                close(sock)
            return place in self._listening
        self._listening[place] = sockets
        self._log.info("Listening on %s for a client at another node", address)

        def accepted(sock: socket.socket, peer: object) -> None:
            assert self._nursery is not None
            shown = join_host_port(*peer[:2]) if isinstance(peer, tuple) else "local"
            if self._visitors >= MAX_VISITORS:
                close(sock, reset=True)
            else:
                self._visitors += 1
                self._nursery.start_soon(self._visit, place, sock, shown)

        for sock in sockets:
            self._nursery.start_soon(accept_forever, sock, accepted)
        return True

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

    async def _visit(self, place: str, sock: socket.socket, visitor: str) -> None:
        log = self._log.within(source=visitor, place=place)
        try:
            await self._pass_on(place, sock, log)
        except Exception:
            log.exception("internal error, the connection is closed")
        finally:
            self._visitors -= 1
            self._endings.unpark_all()
            close(sock, reset=True)  # unless it is closed already

    async def _pass_on(self, place: str, sock: socket.socket, log: Context) -> None:
        tried: list[str] = []
        failure: CotunError | None = None
        while (found := self._owners.choose(place, tried)) is not None:
            node, route = found
            tried.append(node.id)
            link = self._links.to(node)
            with link.used():
                try:
                    session = await link.session()
                    hop = Hop(route.session, place).encode()
                    channel = await link.open_channel(session, hop)
                except ConnectionLost as error:
                    failure = error
                    self._owners.avoid(node.id)
                    log.debug("node %s cannot be reached: %s", node.id, error)
                    continue
                except CotunError as error:
                    failure = error
                    log.debug("node %s refuses: %s", node.id, error)
                    continue
                log.debug("goes to session %d of node %s", route.session, node.id)
                with session.flows.begin(_AS_REMOTE):
                    await carry(Relay(channel, sock), log)
                return
        log.refused(failure or "no node has a client for it")


_AS_REMOTE = Remote(local_host="0.0.0.0", local_port=1, remote_host="fleet", remote_port=1)  # noqa: S104
"""The flows of a link are those of no remote that the user has given."""
