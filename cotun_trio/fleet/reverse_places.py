"""The places of this node's reverse remotes, claimed for the whole fleet.

A session listens here only for a place that the fleet's rules give it (`cotun_trio.fleet.node`).
Where the ingress listens there, for an owner at another node, it makes room; and when no session
here has the place any more, it is the ingress's again, if another node has an owner.  The sockets
stay the same, with the visitors that wait in them.

Ports of UDP are claimed, too, but visitors do not hop to them: datagrams are served where the
client is.  Unix sockets are a node's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.fleet.node import mark_of
from cotun_trio.fleet.places import listener_place, place_name
from cotun_trio.fleet.records import Wish
from cotun_trio.forwards.listener import Listener
from cotun_trio.forwards.places import SystemPlaces
from cotun_trio.net.sockets import close
from cotun_trio.server.reverse_listeners import Yielded

if TYPE_CHECKING:
    import socket

    from cotun_trio.fleet.ingress import Ingress
    from cotun_trio.fleet.node import Node
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.server.reverse_listeners import ListenerOwner, Place

TCP = "tcp/"


class ReversePlaces(SystemPlaces):
    """Claims places at `node`; an `Elsewhere` of `cotun_trio.server.reverse_listeners`.

    `ingress` listens for places of other nodes; None where only owners listen.  Listeners that it
    opens, on `interface` where their remote names none, have the ingress's sockets if it was there.
    """

    keeps_draining = True

    def __init__(self, node: Node, ingress: Ingress | None, interface: str | None) -> None:
        super().__init__(interface)
        self._freed: dict[str, list[socket.socket]] = {}  # by the ingress, for a new listener
        self._node = node
        self._ingress = ingress

    async def open_listener(self, remote: Remote, share: Share | None = None) -> Listener:
        """See `Places`."""
        if self._freed and (sockets := self._freed.pop(place_name(remote), [])):
            return Listener(remote, sockets)
        return await super().open_listener(remote, share)

    async def claim(self, claimant: ListenerOwner, place: Place) -> Yielded:
        """See `Elsewhere`: where the ingress is in the way, it goes, if the place is given.

        Raises `NotNow` where it is not.
        """
        name = place_name(place)
        if self._ingress is None or name not in self._ingress.places:
            return Yielded.NOTHING
        await self._node.claim(_wish(claimant, name))
        self._freed[name] = self._ingress.give(name)
        return Yielded.FREED

    def given_up(self, claimant: ListenerOwner, place: Place) -> None:
        """See `Elsewhere`."""
        if not place.local_path and place.local_port:
            name = place_name(place)
            for sock in self._freed.pop(name, ()):
                close(sock)
            self._node.release(name, claimant.number)
            self.changed(name)

    async def opened(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""
        if not listener.remote.local_path:
            await self._node.claim(_wish(owner, listener_place(listener)))

    def closed(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""
        if listener.remote.local_path:
            return
        name = listener_place(listener)
        self._node.release(name, owner.number)
        if self._ingress is not None and self._is_for_ingress(name):
            self._ingress.adopt(name, listener.duplicates())
        self.changed(name)

    def changed(self, place: str) -> None:
        """Another node has come to own a place, or does not any more: listen for it, or not."""
        if self._ingress is None:
            return
        if self._is_for_ingress(place):
            self._ingress.want(place)
        else:
            self._ingress.leave(place)

    def _is_for_ingress(self, place: str) -> bool:
        has_owner_elsewhere = self._node.is_owned_elsewhere(place)
        return place.startswith(TCP) and has_owner_elsewhere and not self._node.routes(place)


def _wish(owner: ListenerOwner, place: str) -> Wish:
    mark = mark_of(owner.identity)
    return Wish(
        place=place,
        session=owner.number,
        user=owner.user_name or "",
        group=mark if owner.has_others else "",
        mark=mark,
    )
