"""The places of this node's reverse remotes, claimed for the whole fleet.

A session listens here only for a place that the fleet's rules give it (`cotun_trio.fleet.node`).
Where the ingress listens there, for an owner at another node, it makes room; and when no session
here has the place any more, it is the ingress's again, if another node has an owner.

Ports of UDP are claimed, too, but visitors do not hop to them: datagrams are served where the
client is.  Unix sockets are a node's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.fleet.node import mark_of
from cotun_trio.fleet.places import listener_place, place_name
from cotun_trio.fleet.records import Wish
from cotun_trio.server.reverse_listeners import Yielded

if TYPE_CHECKING:
    from cotun_trio.fleet.ingress import Ingress
    from cotun_trio.fleet.node import Node
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.server.reverse_listeners import ListenerOwner, Place

TCP = "tcp/"


class ReversePlaces:
    """Claims places at `node`; an `Elsewhere` of `cotun_trio.server.reverse_listeners`.

    `ingress` listens for places of other nodes; None where only owners listen.
    """

    keeps_draining = True

    def __init__(self, node: Node, ingress: Ingress | None) -> None:
        self._node = node
        self._ingress = ingress

    async def claim(self, claimant: ListenerOwner, place: Place) -> Yielded:
        """See `Elsewhere`: where the ingress is in the way, it goes, if the place is given.

        Raises `NotNow` where it is not.
        """
        name = place_name(place)
        if self._ingress is None or name not in self._ingress.places:
            return Yielded.NOTHING
        await self._node.claim(_wish(claimant, name))
        self._ingress.leave(name)
        return Yielded.FREED

    def given_up(self, claimant: ListenerOwner, place: Place) -> None:
        """See `Elsewhere`."""
        if not place.local_path and place.local_port:
            self._release(claimant, place_name(place))

    async def opened(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""
        if not listener.remote.local_path:
            await self._node.claim(_wish(owner, listener_place(listener)))

    def closed(self, owner: ListenerOwner, listener: Listener) -> None:
        """See `Elsewhere`."""
        if not listener.remote.local_path:
            self._release(owner, listener_place(listener))

    def _release(self, owner: ListenerOwner, name: str) -> None:
        self._node.release(name, owner.number)
        self.changed(name)

    def changed(self, place: str) -> None:
        """Another node has come to own a place, or does not any more: listen for it, or not."""
        if self._ingress is None or not place.startswith(TCP):
            return
        if not self._node.routes(place) and self._node.is_owned_elsewhere(place):
            self._ingress.want(place)
        else:
            self._ingress.leave(place)


def _wish(owner: ListenerOwner, place: str) -> Wish:
    mark = mark_of(owner.identity)
    return Wish(
        place=place,
        session=owner.number,
        user=owner.user_name or "",
        group=mark if owner.has_others else "",
        mark=mark,
    )
