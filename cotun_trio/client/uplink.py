"""The client's route to a server: a proxy or none, TCP, TLS or none, and a wire on top of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.errors import TlsFailed
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.network_news import watch_network
from cotun_trio.net.proxy import dial_through
from cotun_trio.net.sockets import close
from cotun_trio.net.tls import Nested, Tls
from cotun_trio.net.tls_files import client_context
from cotun_trio.net.transport import Transport
from cotun_trio.settings import ClientTls
from cotun_trio.units import format_duration
from cotun_trio.websocket.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cotun_trio.settings import ClientSettings, Route, ServerUrl
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire_protocol import WireProtocol


class AnyUplink(Protocol):
    """An `Uplink`, or its replacement where there is no network."""

    async def dial(self, route: Route, taken: Collection[str] = ()) -> WireProtocol:
        """Return a new connection, to none of the addresses that are `taken` if there are others.

        Raises `CotunError`; when cancelled, nothing is left open.
        """

    async def watch(self, came_back: Callable[[], None]) -> None:
        """Call `came_back` when there is a network again, until cancelled."""


class Uplink:
    """Dials servers.  Raises `UsageError` where the TLS files of `settings` cannot be used."""

    def __init__(self, settings: ClientSettings, scratch: Scratch) -> None:
        self.warnings: list[str] = []
        """Advice about certificates that are used all the same: a line each."""
        self._settings = settings
        self._scratch = scratch
        routes = settings.routes
        tls = any(route.server.tls for route in routes)
        proxy_tls = any(route.proxy is not None and route.proxy.tls for route in routes)
        ends: list[float] = []
        self._context = (
            client_context(settings.tls, self.warnings.append, ends.append) if tls else None
        )
        self.certificate_expires = min(ends, default=None)
        """When the client's own certificate ends, in seconds since 1970; None where it has none."""
        self._proxy_context = None
        if proxy_tls:
            said: list[str] = []
            self._proxy_context = client_context(ClientTls(ca=settings.tls.ca), said.append)
            if not tls:  # or it has been said
                self.warnings += said

    async def dial(self, route: Route, taken: Collection[str] = ()) -> Wire:
        """Return a new connection: `connect`, `shake_hands` and `wire` in turn.

        The addresses that are `taken` are used only where the server's name has no others.

        Raises `ConnectionLost`, `DialFailed` and `TlsFailed` among them, or `Refused` by a proxy.
        When cancelled, nothing is left open.
        """
        transport = await self.connect(route, taken)
        try:
            if route.server.tls:
                await self.shake_hands(transport, route.server)
        except BaseException:
            close(transport.sock)
            raise
        return self.wire(transport)

    async def connect(self, route: Route, taken: Collection[str] = ()) -> Transport:
        """Return a connection to the server, by TCP, and by the proxy if there is one.

        Its socket is the caller's.  Raises `DialFailed`; when cancelled, nothing is left open.
        """
        url, timeout = route.server, self._settings.timings.dial_timeout
        if route.proxy is None:
            return Transport(await dial_tcp(url.host, url.port, timeout=timeout, taken=taken))
        return await dial_through(
            route.proxy, url.host, url.port, timeout=timeout, tls=self._proxy_context
        )

    async def shake_hands(self, transport: Transport, url: ServerUrl) -> None:
        """Speak TLS with the server at `url` from now on.

        Raises `TlsFailed` and `ConnectionLost`.  What was agreed, or shown, is in the transport's
        ``tls``, in either case.
        """
        settings = self._settings
        assert self._context is not None
        name = settings.tls.sni or url.host
        tls = Tls(self._context, name=name, trust_option="--tls-ca")
        tls.feed(transport.take_unread())
        # With a proxy, there may be TLS already.
        transport.begin_tls(Nested(transport.tls, tls) if isinstance(transport.tls, Tls) else tls)
        timeout = settings.timings.ws_timeout
        try:
            with trio.fail_after(timeout):
                await transport.shake_hands()
        except trio.TooSlowError:
            raise TlsFailed(f"TLS: no handshake in {format_duration(timeout)}") from None

    def wire(self, transport: Transport) -> Wire:
        """Return a wire on `transport`, whose socket is the wire's from now on."""
        return Wire(
            transport.sock,
            self._scratch.read,
            client=True,
            tls=transport.tls,
            unread=transport.unread,
        )

    async def watch(self, came_back: Callable[[], None]) -> None:
        """See `watch_network`."""
        await watch_network(came_back)
