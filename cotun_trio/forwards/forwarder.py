"""The connections of one session, in both directions: limits and rights first, then the data.
carrying.

A connection that is accepted here goes out by a channel.  A channel that the peer opens leads to a
target here, if the peer has a right to it.  Both are flows, and tasks of the session.
"""

from __future__ import annotations

import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.forwards.carry import carry_in, carry_out
from cotun_trio.forwards.counted import Counted
from cotun_trio.forwards.open_session import Opener, OpenSession
from cotun_trio.net.sockets import close
from cotun_trio.protocol.proxy_header import proxy_header
from cotun_trio.protocol.target import parse_target
from cotun_trio.protocol.visitor_address import split_visitor
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.forwards.carry import Continuation
    from cotun_trio.forwards.flows import Flow
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.visitor import Visitor
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.protocol.endpoints import Endpoints
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.remote_options import ProxyVersion
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import Timings
    from cotun_trio.ssh.openings import IncomingOpen

TOO_MANY = "too many connections"


class Rights(Protocol):
    """The rights of the peer."""

    def refuses(self, target: Target) -> str | None:
        """Return why the peer may not have a channel to `target`; None if it may."""

    @property
    def asks_first(self) -> bool:
        """Whether `ask` has to be called for each connection: it may take time."""

    async def ask(self, target: Target, log: Context) -> str | None:
        """Return why the peer may not have a connection to `target`; None if it may."""

    def allows_by_socks(self, target: Target) -> bool:
        """Return whether the peer's SOCKS clients may have a connection to `target`."""

    def address_check(self, target: Target, log: Context, *, by_socks: bool) -> AddressCheck | None:
        """Return the check of the addresses that the name of `target` leads to; None for none."""

    def still_allows(self, flow: Flow) -> bool:
        """Return whether the target of `flow` is allowed at present."""

    def header_for(self, target: Target) -> ProxyVersion:
        """Return the version of the PROXY header that connections to `target` begin with."""


class Connection(Opener, Protocol):
    """The SSH connection of a session."""

    async def ping(self) -> None:
        """Wait for the answer to a ping.  Raises `CotunError`."""


class Session(OpenSession, Protocol):
    """The session of a forwarder."""

    @property
    def log(self) -> Context:
        """Its log; another one after the login."""

    @property
    def connection(self) -> Connection:
        """Its SSH connection."""

    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""


class Forwarder:
    """Carries the connections of `session`, with a peer that has `rights`."""

    def __init__(self, session: Session, rights: Rights, timings: Timings) -> None:
        self._session = session
        self._rights = rights
        self._timings = timings
        self._numbers = itertools.count(1)
        self._link_measured = False

    # ---- outwards

    def forward(self, sock: socket.socket, visitor: Visitor, remote: Remote) -> None:
        """Carry a connection that was accepted here to the other side.  Owns `sock` from now on."""
        session = self._session
        number = next(self._numbers)
        log = session.log.within(conn=number, source=visitor, remote=remote)
        if not session.flows.make_room():
            log.refused(TOO_MANY)
            close(sock, reset=True)
            return
        self._measure_link()
        flow = session.flows.begin(remote, number=number, source=visitor)
        rest = carry_out(Counted(session, flow), sock, visitor, remote, log)
        session.start_soon(self._carry_out, flow, rest)

    async def _carry_out(self, flow: Flow, rest: Continuation) -> None:
        with flow:
            await rest()

    # ---- inwards

    def channel_requested(self, opening: IncomingOpen) -> None:
        """Dial the target of a channel, or refuse it."""
        session = self._session
        extra, endpoints = opening.extra, None
        try:
            if session.flows.tells_visitors:
                extra, endpoints = split_visitor(extra)
            target = parse_target(extra)
        except ProtocolError as error:
            session.log.refused(error, "refused a channel: %s")
            opening.refuse(messages.OPEN_PROHIBITED, str(error))
            return
        number = next(self._numbers)
        source = "" if endpoints is None else endpoints.source
        told = {"source": source} if source else {}
        log = session.log.within(conn=number, **told, target=target)
        if (reason := self._rights.refuses(target)) is not None:
            log.refused(reason)
            opening.refuse(messages.OPEN_PROHIBITED, reason)
            return
        if not session.flows.make_room():
            log.refused(TOO_MANY)
            opening.refuse(messages.OPEN_RESOURCE_SHORTAGE, TOO_MANY)
            return
        self._measure_link()
        flow = session.flows.begin(target, endless=target.udp, number=number, source=source)
        opening.notify(flow.carries)
        begin = partial(self._begin_in, opening, flow, target, endpoints, log)
        rest = None if self._rights.asks_first else begin()
        session.start_soon(self._carry_in, opening, flow, target, log, begin, rest)

    def _begin_in(
        self,
        opening: IncomingOpen,
        flow: Flow,
        target: Target,
        endpoints: Endpoints | None,
        log: Context,
    ) -> Continuation:
        """Begin with a connection to `target`, which the peer may have; return the rest.

        It is from the visitor with these `endpoints`, if that is known.
        """
        if (inbox := self._session.inbox(target)) is not None:
            return partial(inbox.deliver, opening, log, endpoints)

        async def refusal(by_socks: Target) -> str | None:
            flow.leads_to(by_socks)
            if not self._rights.allows_by_socks(by_socks):
                return "access denied"
            return await self._rights.ask(by_socks, log)

        def check(asked: Target) -> AddressCheck | None:
            return self._rights.address_check(asked, log, by_socks=target.socks)

        version = self._rights.header_for(target)
        header = proxy_header(version, endpoints) if version else b""
        return carry_in(self._session, opening, target, refusal, check, self._timings, log, header)

    async def _carry_in(
        self,
        opening: IncomingOpen,
        flow: Flow,
        target: Target,
        log: Context,
        begin: Callable[[], Continuation],
        rest: Continuation | None,
    ) -> None:
        with flow:
            if rest is not None:
                await rest()
            elif (reason := await self._rights.ask(target, log)) is not None:
                log.refused(reason)
                opening.refuse(messages.OPEN_PROHIBITED, reason)
            else:
                await begin()()
        if not opening.answered:  # it was cut before
            opening.refuse(messages.OPEN_PROHIBITED, "not allowed any more")

    # ---- the round trip

    def _measure_link(self) -> None:
        """Ping the peer before the first connection, which would make the round trip longer."""
        if not self._link_measured:
            self._link_measured = True
            self._session.start_soon(self._ping)

    async def _ping(self) -> None:
        with contextlib.suppress(CotunError):  # the session knows why
            await self._session.connection.ping()
