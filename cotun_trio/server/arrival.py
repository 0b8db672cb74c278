"""One connection on its way in: TLS, its requests, and the session that one of them asks for.

The steps are the methods of `Arrival`, from top to bottom.  The state that all connections share is
in the `cotun_trio.server.reception`.
"""

from __future__ import annotations

import contextlib
import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio._version import __version__
from cotun_trio.access.sources import source_of
from cotun_trio.errors import ConnectionLost, TlsFailed
from cotun_trio.escape import escape
from cotun_trio.http.forwarding import Origin
from cotun_trio.http.front import (
    HEAD_TIMEOUT,
    MAX_HEAD,
    MAX_PROXY_HEAD,
    MAX_SITE_HEAD,
    Front,
    HeadError,
    asks_for_websocket,
    is_for,
    respond,
    respond_error,
    upgrade_head,
    wanted_dialect,
)
from cotun_trio.http.gateway import Gateway
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.client_hello import HelloReader
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.units import format_duration
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    import socket

    from cotun_trio.access.startups import Startup
    from cotun_trio.http.front import Request
    from cotun_trio.http.gateway import BackEnd
    from cotun_trio.logs import Context, Limits
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.server.certificates import Certificates
    from cotun_trio.server.logins import Logins
    from cotun_trio.settings import ServerSettings
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire_protocol import WireProtocol

RETRY_AFTER = 5
"""Seconds after which a client may try again for which there was no place: logins take less."""
NO_PLACE = "too many connections"
USE_TLS = "Plain HTTP was sent to a TLS port: write https:// in the URL."
"""The answer to plain HTTP on a port with TLS."""
_PLAIN_HTTP = re.compile(rb"(?!SSH-)[A-Z]")
"""The beginning of a method; that of TLS is a byte below 32."""
UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))
"""The alert for a name that is none of ours, as a record (RFC 8446 section 6)."""


class Place(Protocol):
    """The reception, seen by an arrival."""

    settings: ServerSettings
    certificates: Certificates | AcmeCertificates | None
    back_end: BackEnd | None
    logins: Logins
    scratch: Scratch
    log_limits: Limits

    def source(self, host: str) -> str | None:
        """Return the source that `host` belongs to; None for a trusted proxy, which stands for
        many."""

    def present(self, front: Front) -> contextlib.AbstractContextManager[None]:
        """Know of `front` during the block, to be able to close it."""

    async def run_session(
        self,
        wire: WireProtocol,
        dialect: Dialect,
        log: Context,
        client: str,
        startup: Startup,
        began: float,
    ) -> None:
        """Run a session, from the upgrade of `wire` to its end, which always raises."""


class Arrival:
    """A connection from `host`, with its place among the connections that have not logged in."""

    def __init__(
        self, place: Place, sock: socket.socket, host: str, startup: Startup, log: Context
    ) -> None:
        self._place = place
        self._sock = sock
        self._host = host
        self._client = host  # another one, where a trusted proxy says so
        self._startup = startup
        self._log = log
        self._began = trio.current_time()

    async def serve(self) -> None:
        """Serve it to its end.  Raises `CotunError`; leaves its place."""
        transport = Transport(self._sock)
        try:
            try:
                await self._shake_hands(transport)
                await self._answer(transport)
            except HeadError as error:
                self._log.log(error.level, "%s", error)
                await respond_error(
                    transport,
                    error.status,
                    retry_after=error.retry_after,
                    text=error.text,
                    drained=error.drained,
                )
        finally:
            self._startup.leave()

    async def _shake_hands(self, transport: Transport) -> None:
        """Do the TLS handshake, if there has to be one.

        Raises `HeadError` for a client that speaks HTTP without it, and other `CotunError`.
        """
        certificates = self._place.certificates
        if certificates is None:
            return
        try:
            with trio.fail_after(HEAD_TIMEOUT):
                transport.put_back(await transport.receive())
                if _PLAIN_HTTP.match(transport.unread):
                    raise _no_tls()
                if isinstance(certificates, AcmeCertificates):
                    await _choose_tls(transport, certificates)
                else:
                    transport.begin_tls(certificates.tls())
                await transport.shake_hands()
        except trio.TooSlowError:
            raise ConnectionLost(f"no TLS handshake in {HEAD_TIMEOUT:g} s") from None

    async def _answer(self, transport: Transport) -> None:
        """Answer requests, and be the tunnel that one of them asks for.

        Raises `HeadError` where one cannot be had.
        """
        origin = self._origin()
        max_head = MAX_PROXY_HEAD if origin.is_trusted else MAX_HEAD
        if self._place.back_end is not None:
            max_head = MAX_SITE_HEAD
        front = Front(transport, max_head=max_head)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._place.present(front))
            gateway = None
            if self._place.back_end is not None:
                gateway = Gateway(self._place.back_end, front)
                stack.enter_context(contextlib.closing(gateway))
            wanted = await self._answer_until_wanted(front, gateway, origin)
        if wanted is not None:
            await self._begin_session(front, *wanted)

    def _origin(self) -> Origin:
        place = self._place
        return Origin(self._host, place.certificates is not None, place.settings.trusted_proxies)

    async def _answer_until_wanted(
        self, front: Front, gateway: Gateway | None, origin: Origin
    ) -> tuple[Request, Dialect] | None:
        """Answer requests; return the one for a tunnel, or None where the last one was not."""
        place, startup = self._place, self._startup
        while True:
            request = await front.next_request()
            self._client = origin.client(request.headers)
            if not startup.move(place.source(self._client)):
                self._log.event("refused", reason=NO_PLACE, client=self._client)
                raise _no_place()
            dialect = self._wanted_dialect(request)
            if dialect is not None:
                return request, dialect
            self._log.debug("%s %s", request.method.decode(), escape(request.target))
            if gateway is None:
                await respond(front.transport, request, __version__)
                return None
            startup.step_aside()  # a client of the back end's, which has limits of its own
            if not await gateway.forward(request, origin):
                return None
            startup.move(place.source(self._host))  # between requests, a proxy has it for all
            self._began = trio.current_time()

    def _wanted_dialect(self, request: Request) -> Dialect | None:
        """Return the dialect of the tunnel that `request` asks for; None where it asks for none."""
        dialect = wanted_dialect(request)
        if dialect is not None and is_for(request, self._place.settings.path):
            return dialect
        if asks_for_websocket(request) and self._place.back_end is None:
            protocol = b", ".join(request.values(b"sec-websocket-protocol"))
            self._log.info("ignored an upgrade to protocol '%s'", escape(protocol))
        return None

    async def _begin_session(self, front: Front, request: Request, dialect: Dialect) -> None:
        """Be a session.  Raises `HeadError` where the client is barred, or there is no place."""
        client, log = self._client, self._log
        if client != self._host:
            # Of all that come by this proxy, only this one is to blame from here on.
            limit = self._place.log_limits.of(source_of(client))
            log = self._log = log.within(client=client).limited(limit)
        if seconds := self._place.logins.barred(client):
            reason = f"barred for {format_duration(round(seconds, 3))} more"
            log.event("refused", reason=reason)
            raise HeadError(
                HTTPStatus.TOO_MANY_REQUESTS, reason, retry_after=math.ceil(seconds), quiet=True
            )
        if not self._startup.come_back():
            log.event("refused", reason=NO_PLACE)
            raise _no_place()
        transport = front.transport
        wire = Wire(
            transport.sock,
            self._place.scratch.read,
            client=False,
            head=upgrade_head(request, dialect),
            early=request.early,
            tls=transport.tls,
        )
        await self._place.run_session(wire, dialect, log, client, self._startup, self._began)


def _no_tls() -> HeadError:
    reason = "the client speaks HTTP without TLS"
    return HeadError(HTTPStatus.BAD_REQUEST, reason, layer="TLS", text=USE_TLS, quiet=True)


def _no_place() -> HeadError:
    return HeadError(HTTPStatus.SERVICE_UNAVAILABLE, NO_PLACE, retry_after=RETRY_AFTER, quiet=True)


async def _choose_tls(transport: Transport, certificates: AcmeCertificates) -> None:
    """Give a connection its TLS, by the ClientHello of its client.  Raises `CotunError`."""
    reader, data, hello = HelloReader(), bytearray(), None
    while hello is None:
        more = await transport.receive()
        if not more:
            raise ConnectionLost("the client closed the connection without a handshake")
        data += more
        hello = reader.feed(more)
    try:
        tls = certificates.tls(hello)
    except TlsFailed:
        with contextlib.suppress(ConnectionLost):
            await transport.send_all(UNRECOGNIZED_NAME)
        raise
    transport.put_back(bytes(data))
    transport.begin_tls(tls)
