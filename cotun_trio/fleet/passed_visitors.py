"""Visitors whom peers pass on: the owner's side of a hop.

A peer asks for a channel to a session of ours, and to a place that the session listens at (`Hop`).
The visitor is then carried as if it had come to the listener here.  A hop never leads to another
one: only sessions of this very node are looked for.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError
from cotun_trio.fleet.credentials import is_node
from cotun_trio.fleet.hop import GONE, NOT_ALLOWED, Hop, may_visit
from cotun_trio.fleet.places import listener_place
from cotun_trio.forwards.relay import Relay
from cotun_trio.forwards.splice import Splice
from cotun_trio.forwards.visitor import Visitor
from cotun_trio.protocol.visitor_address import split_visitor, with_visitor
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    from cotun_trio.access.users import User
    from cotun_trio.fleet.credentials import FleetKey
    from cotun_trio.forwards.flows import Flow
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.server.server import Server
    from cotun_trio.server.session import ServerSession
    from cotun_trio.session import Session
    from cotun_trio.ssh.openings import IncomingOpen

TOO_MANY = "too many connections"


class PassedVisitors:
    """Carries them to the sessions of the server that it is told to `serve`.

    Peers log in by the fleet's `key`.  It is a `cotun_trio.server.peers.Peers`.
    """

    def __init__(self, key: FleetKey) -> None:
        self._key = key
        self._server: Server | None = None

    def serve(self, server: Server) -> None:
        """This is the server."""
        self._server = server

    def knows(self, name: str) -> bool:
        """See `Peers`."""
        return is_node(name)

    def verify(self, name: str, password: str) -> User | None:
        """See `Peers`."""
        assert self._server is not None
        return self._key.verify(name, password, self._server.fingerprint)

    def pass_on(self, session: Session, opening: IncomingOpen) -> None:
        """See `Peers`."""
        try:
            target, endpoints = split_visitor(opening.extra)
            hop = Hop.parse(target)
        except ProtocolError as error:
            session.log.refused(error)
            opening.refuse(messages.OPEN_PROHIBITED, str(error))
            return
        found = self.find(hop)
        if found is None:
            session.log.debug("refused a hop to %s: %s", hop.place, GONE)
            opening.refuse(messages.OPEN_GONE, GONE)
            return
        owner, remote = found
        visitor = Visitor(None, endpoints)
        by = session.log.pairs.get("user", "")
        log = owner.log.within(by=by, source=visitor, remote=remote)
        if not may_visit(remote, visitor):
            log.refused(NOT_ALLOWED)
            opening.refuse(messages.OPEN_PROHIBITED, NOT_ALLOWED)
        elif not owner.flows.make_room():
            log.refused(TOO_MANY)
            opening.refuse(messages.OPEN_RESOURCE_SHORTAGE, TOO_MANY)
        elif remote.socks:
            self._by_socket(session, opening, owner, remote, visitor)
        else:
            flow = owner.flows.begin(remote, source=visitor)
            target = remote.channel_target
            if owner.flows.tells_visitors:
                target = with_visitor(target, endpoints)
            owner.start_soon(_carry, session, opening, owner, target, flow, log)

    def find(self, hop: Hop) -> tuple[ServerSession, Remote] | None:
        """Return the session that a hop leads to, with its remote; None where there is none."""
        assert self._server is not None
        for session in self._server.sessions:
            if session.number == hop.session:
                for listener in self._server.listeners.held_by(session):
                    if listener_place(listener) == hop.place:
                        return session, listener.remote
        return None

    def _by_socket(
        self,
        session: Session,
        opening: IncomingOpen,
        owner: ServerSession,
        remote: Remote,
        visitor: Visitor,
    ) -> None:
        """Have a SOCKS client served as at the listener, which wants a socket."""
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        owner.forward(there, visitor, remote)
        session.start_soon(Relay(opening.confirm(), here).run)


async def _carry(
    session: Session,
    opening: IncomingOpen,
    owner: ServerSession,
    target: bytes,
    flow: Flow,
    log: Context,
) -> None:
    """Open a channel to the client, and splice the two, as a child of the owner.

    Where the owner ends before, the peer is told that it has gone, and its visitor tries again.
    """
    code, reason = messages.OPEN_GONE, GONE
    try:
        with flow:
            try:
                channel = await owner.connection.open_channel(target)
            except ConnectionLost:
                return
            except CotunError as error:
                log.refused(error)
                code, reason = messages.OPEN_CONNECT_FAILED, str(error)
                return
            if session.connection.failure is not None:  # the peer has gone meanwhile
                channel.close()
                return
            await Splice(opening.confirm(), channel).run()
        code, reason = messages.OPEN_PROHIBITED, "not allowed any more"  # if it was cut before
    finally:
        if not opening.answered and session.connection.failure is None:
            opening.refuse(code, reason)
