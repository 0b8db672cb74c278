"""The gateway: requests for no tunnel go to the back end, and its responses come back.

Both sides are h11's, one connection each, with a pump for either direction between them: nothing is
collected, and a slow side slows the other one down.  httpcore, which has Trio support, would be
less to write; but it drops 1xx responses and trailers, and does not read a response before the
whole request has gone.

A message is taken apart and put together again, so that a text that two parsers could read in two
ways never gets to the second one.  A length and chunks at once are refused (RFC 9112 section 6.1).

Behind a switch of protocols nothing is looked at any more.  So only those are passed on that the
user has allowed: with ``h2c``, a client could write all the headers that it may not write here.
"""

from __future__ import annotations

import contextlib
import select
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11
import trio

from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError, Shortage
from cotun_trio.escape import escape
from cotun_trio.http import forwarding
from cotun_trio.http.front import MAX_UPLOAD_DRAINED, HeadError
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.names import share_of
from cotun_trio.net.sockets import close
from cotun_trio.net.tls import Tls
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.http_fault import fault

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from cotun_trio.http.forwarding import Headers, Origin
    from cotun_trio.http.front import Front, Request
    from cotun_trio.settings import ServerUrl

MAX_HEAD = 64 * 1024
"""Bytes of the back end's response head: it is the user's own, and may set many cookies."""


class BackEndFailed(ConnectionLost):
    """The back end has not done its part; `status` is for the client."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(f"back end: {reason}")
        self.status = status


class BackEnd:
    """The server behind us.

    `tls` is for a URL with TLS; `timeout` is in seconds; `upgrades` are protocols that clients may
    switch to with it, besides ``websocket``.
    """

    def __init__(
        self,
        url: ServerUrl,
        *,
        tls: ssl.SSLContext | None,
        timeout: float,
        upgrades: Iterable[str] = (),
    ) -> None:
        self.url = url
        self.timeout = timeout
        self.upgrades = {forwarding.WEBSOCKET, *(name.lower().encode() for name in upgrades)}
        self._tls = tls

    async def connect(self) -> Transport:
        """Return a connection to it.  Raises `BackEndFailed`."""
        try:
            with trio.fail_after(self.timeout):
                # It is the user's own, but everybody can have it dialled.
                sock = await dial_tcp(
                    self.url.host, self.url.port, timeout=self.timeout, share=share_of(BackEnd)
                )
                try:
                    tls = None if self._tls is None else Tls(self._tls, name=self.url.host)
                    transport = Transport(sock, tls)
                    await transport.shake_hands()
                except BaseException:
                    close(sock)
                    raise
        except trio.TooSlowError:
            raise BackEndFailed(HTTPStatus.GATEWAY_TIMEOUT, "no TLS handshake") from None
        except Shortage as error:
            raise BackEndFailed(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        except ConnectionLost as error:  # `DialFailed` and `TlsFailed` among them
            raise BackEndFailed(HTTPStatus.BAD_GATEWAY, str(error)) from None
        return transport


class Gateway:
    """The gateway for one client's connection; `close` it."""

    def __init__(self, back_end: BackEnd, front: Front) -> None:
        self._back_end = back_end
        self._front = front
        front.transport.read_bodies()
        self._transport: Transport | None = None
        self._parser = _client_parser()
        self._asked: Headers = ()  # the request's, as far as it may ask for another protocol
        self._waiting = False  # for the client to send more of the request's body
        self._moved_at = 0.0  # when the last piece of it went on
        self._answered = False  # whether the client has got a part of the response

    def close(self) -> None:
        """Close the connection to the back end."""
        if self._transport is not None:
            close(self._transport.sock)
            self._transport = None

    async def forward(self, request: Request, origin: Origin) -> bool:
        """Pass `request` on, and the response back; return whether another one can follow.

        Raises `HeadError` for an error that can be sent to the client, and other `CotunError` where
        it is too late for that.
        """
        _refuse_what_is_ambiguous(request)
        self._asked = forwarding.narrow_upgrades(request.headers, self._back_end.upgrades)
        upgrade = request.http_version == b"1.1" and forwarding.is_upgrade(self._asked)
        self._waiting, self._answered = False, False
        failures: list[CotunError] = []
        switched = False
        try:
            transport = await self._connection()
            await self._send(
                h11.Request(
                    method=request.method,
                    target=request.origin_form,
                    headers=forwarding.request_headers(
                        self._asked, origin, self._back_end.url.host_header, upgrade=upgrade
                    ),
                )
            )
            switched = await self._exchange(request, failures)
        except BackEndFailed as error:
            self.close()
            failures.insert(0, HeadError(error.status, str(error), drained=MAX_UPLOAD_DRAINED))
        if failures:
            if self._answered:  # a response that has begun can only be broken off
                close(self._front.transport.sock, reset=True)
                raise ConnectionLost(str(failures[0]))
            raise failures[0]
        if switched:
            await self._relay(transport)
            return False
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        else:
            self.close()
            await self._front.end_early()
        return self._front.start_next()

    async def _connection(self) -> Transport:
        """Return a connection to the back end, the last one if it is still good."""
        if self._transport is not None and _has_news(self._transport):
            self.close()  # closed by the back end: nobody has asked it anything
        if self._transport is None:
            self._transport = await self._back_end.connect()
            self._transport.read_bodies()
            self._parser = _client_parser()
        return self._transport

    async def _exchange(self, request: Request, failures: list[CotunError]) -> bool:
        """Pass the body on and the response back; return whether the protocol was switched."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_body, nursery.cancel_scope, failures)
            switched = False
            try:
                switched = await self._pass_response(request)
            except CotunError as error:
                failures.append(error)
            nursery.cancel_scope.cancel()
        if failures and isinstance(failures[0], BackEndFailed):
            raise failures.pop(0)
        return switched

    # ---- the request

    async def _pass_body(self, scope: trio.CancelScope, failures: list[CotunError]) -> None:
        """Pass the request's body on."""
        try:
            while True:
                self._waiting = True
                event = await self._front.next_event()
                self._waiting, self._moved_at = False, trio.current_time()
                if isinstance(event, h11.EndOfMessage):
                    trailers = forwarding.request_trailers(list(event.headers))
                    await self._send(h11.EndOfMessage(headers=trailers))
                    break
                await self._send(event)
        except BackEndFailed:
            pass  # its response may still come, or not: that is seen where it is read
        except CotunError as error:
            failures.append(error)
            scope.cancel()
        self._moved_at = trio.current_time()

    async def _send(self, event: h11.Event) -> None:
        assert self._transport is not None
        try:
            data = self._parser.send(event)
        except h11.LocalProtocolError as error:
            raise ProtocolError(f"HTTP: {escape(fault(error))}") from None
        if data:
            try:
                await self._transport.send_all(data)
            except ConnectionLost as error:
                raise BackEndFailed(HTTPStatus.BAD_GATEWAY, str(error)) from None

    # ---- the response

    async def _pass_response(self, request: Request) -> bool:
        """Pass responses back up to the final one; return whether the protocol was switched."""
        while True:
            event = await self._receive()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                    await self._pass_switch(event)
                    return True
                if request.http_version == b"1.1":
                    await self._answer(event, forwarding.response_headers(event.headers))
                    self._answered = False  # that was not it yet
            elif isinstance(event, h11.Response):
                headers = forwarding.response_headers(event.headers)
                # A request without a body has an end that its task has not seen yet.
                await trio.lowlevel.checkpoint()
                if self._front.closing or self._front.has_more:
                    headers.append((b"connection", b"close"))
                await self._answer(event, headers)
            elif isinstance(event, h11.Data):
                await self._front.send(event)
            elif isinstance(event, h11.EndOfMessage):
                await self._front.send(h11.EndOfMessage(headers=list(event.headers)))
                return False
            else:
                raise BackEndFailed(HTTPStatus.BAD_GATEWAY, "it closed the connection")

    async def _pass_switch(self, event: h11.InformationalResponse) -> None:
        if not forwarding.is_granted(event.headers, self._asked):
            reason = "it switches to a protocol that nobody asked it for"
            raise BackEndFailed(HTTPStatus.BAD_GATEWAY, reason)
        await self._answer(event, forwarding.response_headers(event.headers, upgrade=True))

    async def _answer(
        self, event: h11.InformationalResponse | h11.Response, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._answered = True
        await self._front.send(
            type(event)(status_code=event.status_code, headers=headers, reason=event.reason)
        )

    async def _receive(self) -> object:
        """Return the next event of the response.  Raises `BackEndFailed`."""
        assert self._transport is not None
        try:
            event = self._parser.next_event()
            started = trio.current_time()
            while event is h11.NEED_DATA:
                data = None
                with trio.move_on_at(self._deadline(started)):
                    data = await self._transport.receive()
                if data is not None:
                    self._parser.receive_data(data)
                    started = trio.current_time()
                elif trio.current_time() >= self._deadline(started):
                    raise BackEndFailed(HTTPStatus.GATEWAY_TIMEOUT, "it does not answer")
                event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            reason = f"its response is no HTTP: {escape(fault(error))}"
            raise BackEndFailed(HTTPStatus.BAD_GATEWAY, reason) from None
        except BackEndFailed:
            raise
        except ConnectionLost as error:
            raise BackEndFailed(HTTPStatus.BAD_GATEWAY, str(error)) from None
        return event

    def _deadline(self, started: float) -> float:
        """Return when the back end is late with what it was to say from `started` on.

        It is not where the rest of the request has not come yet.
        """
        since = trio.current_time() if self._waiting else max(started, self._moved_at)
        return since + self._back_end.timeout

    # ---- another protocol

    async def _relay(self, back: Transport) -> None:
        """Pass bytes both ways until both sides have ended, or one has broken off."""
        front = self._front.transport
        front.put_back(bytes(self._front.parser.trailing_data[0]))
        back.put_back(bytes(self._parser.trailing_data[0]))
        async with trio.open_nursery() as nursery:

            async def pass_on(source: Transport, sink: Transport) -> None:
                try:
                    while data := await source.receive():
                        await sink.send_all(data)
                    await sink.send_eof()
                except ConnectionLost:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, front, back)
            nursery.start_soon(pass_on, back, front)


def _client_parser() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)


def _has_news(transport: Transport) -> bool:
    """Return whether there is something to read: of an idle connection that is its end."""
    with contextlib.suppress(ValueError):  # closed
        poll = select.poll()
        poll.register(transport.sock, select.POLLIN)
        return bool(poll.poll(0))
    return True


def _refuse_what_is_ambiguous(request: Request) -> None:
    """Raise `HeadError` for a request that others may read in another way than h11 does."""
    if request.method == b"CONNECT":
        raise HeadError(HTTPStatus.METHOD_NOT_ALLOWED, "CONNECT, and this is no proxy")
    if request.values(b"content-length") and request.values(b"transfer-encoding"):
        raise HeadError(HTTPStatus.BAD_REQUEST, "a body with a length and with chunks")
