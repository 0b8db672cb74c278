"""The front: reads the first request of a connection, and answers it where it is not our upgrade.

The head is read by h11 under limits of our own, before trio-websocket sees anything.  An upgrade
to our protocol is then shown to it as a fresh head made of the few fields that count
(`upgrade_head`), so that nothing a client writes elsewhere can reach wsproto, which fails on some
of it (``Host: xn--0``, header bytes that are not ASCII).
"""

from __future__ import annotations

import contextlib
import logging
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs
import h11
import trio

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.http.targets import (
    LineReader,
    TargetError,
    authority_of,
    check_host,
    check_target,
    origin_form,
)
from cotun_trio.protocol.dialect import dialect_for_token
from cotun_trio.protocol.http_fault import fault

if TYPE_CHECKING:
    from cotun_trio.net.transport import Transport
    from cotun_trio.protocol.dialect import Dialect

MAX_HEAD = 8 * 1024
"""Bytes of a request head for the tunnel: as many as Apache and nginx take by default."""
MAX_PROXY_HEAD = 16 * 1024
"""The same where a trusted proxy has sent it: it may add the certificate of the client, a token of
its login and the addresses on the way.  HAProxy has no room for more."""
MAX_SITE_HEAD = 64 * 1024
"""The same in front of a back end, whose visitors have its cookies."""
MAX_FIELDS = 1000
"""Header fields of a request: each costs a microsecond or two, however short it is."""
HEAD_TIMEOUT = 10.0
"""Seconds for the whole head; the same again for the response to be taken."""
IDLE_TIMEOUT = 60.0
"""Seconds between two requests of one connection, between two reads of a request's body, and
between two writes of its response, as with nginx."""
MAX_DRAINED = 64 * 1024
"""Bytes of a request body that are read and dropped, so that no reset overtakes the response."""
MAX_UPLOAD_DRAINED = 64 * 1024 * 1024
"""The same of an upload to the back end, which may be on its way for as long as `HEAD_TIMEOUT`."""


class HeadError(ProtocolError):
    """A request that gets no other answer than an error, which has this `status`.

    `retry_after` is in seconds, `text` for the people in front of the client.  Of what the client
    still sends, `drained` bytes are read and dropped.  A `quiet` one is in the log with --verbose
    only.
    """

    retry_after: int | None = None

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        *,
        layer: str = "HTTP",
        retry_after: int | None = None,
        text: str = "",
        drained: int = MAX_DRAINED,
        quiet: bool = False,
    ) -> None:
        super().__init__(f"{layer}: {reason}")
        self.status = status
        self.retry_after = retry_after
        self.text = text
        self.drained = drained
        self.level = logging.DEBUG if quiet else logging.INFO


@attrs.frozen
class Request:
    """A request's head, and the bytes behind it that came with it."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    early: bytes
    http_version: bytes = b"1.1"

    @property
    def origin_form(self) -> bytes:
        """The target without the scheme and the authority that it may have (RFC 9112, 3.2.2)."""
        return origin_form(self.method, self.target)

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.origin_form.partition(b"?")[0]

    @property
    def query(self) -> str:
        """The query of the target; empty where there is none."""
        return self.origin_form.partition(b"?")[2].decode("ascii", "replace")

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of the headers called `name` (in lower case)."""
        return [value for key, value in self.headers if key == name]

    def members(self, name: bytes) -> list[bytes]:
        """Return the members of the list that these headers are together (RFC 9110, 5.3)."""
        members = (member.strip() for value in self.values(name) for member in value.split(b","))
        return [member for member in members if member]


class Front:
    """The HTTP side of a client's connection: its requests, one after the other.

    A request head may have `max_head` bytes.
    """

    def __init__(self, transport: Transport, *, max_head: int = MAX_HEAD) -> None:
        self.transport = transport
        self._max_head = max_head
        self.parser = self._new_parser()
        self._line = LineReader()
        self._first = True
        self._idle = trio.CancelScope()  # waiting for another request
        self.closing = False
        """Whether no other request will be taken."""

    def close_soon(self) -> None:
        """Take no other request after the first, or the present one."""
        self.closing = True
        self._idle.cancel()

    async def next_request(self) -> Request:
        """Read a request head.

        Raises `HeadError` for one that is malformed, too large or slower than `HEAD_TIMEOUT`, and
        `ConnectionLost` where none comes.
        """
        parser = self.parser
        received = await self._wait_for_another()
        self._first = False
        if self._idle.cancel_called:
            raise ConnectionLost("no other request")
        try:
            with trio.fail_after(HEAD_TIMEOUT):
                while (event := parser.next_event()) is h11.NEED_DATA:
                    data = await self.transport.receive()
                    received += len(data)
                    self._feed(data)
        except trio.TooSlowError:
            if not received:
                raise ConnectionLost(f"no HTTP request in {HEAD_TIMEOUT:g} s") from None
            reason = "a request head that does not end"
            raise HeadError(HTTPStatus.REQUEST_TIMEOUT, reason) from None
        except h11.RemoteProtocolError as error:
            raise self._malformed(error) from None
        if not isinstance(event, h11.Request):
            raise ConnectionLost("the client closed the connection without a request")
        early = bytes(parser.trailing_data[0])
        size = received + self._line.grown - len(early)
        if size > self._max_head:  # h11 looks at incomplete heads only
            raise self._too_large()
        return _request(event, early)

    def _new_parser(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_head)

    def _feed(self, data: bytes) -> None:
        """Give the parser some more bytes, of a request head first."""
        self.parser.receive_data(self._line.feed(data))

    async def _wait_for_another(self) -> int:
        """Wait until a request that is not the first begins, for `IDLE_TIMEOUT` at most.

        Returns how many bytes of a request there are.
        """
        received = len(self.parser.trailing_data[0]) - self._line.grown
        if not (received or self._first):
            self._idle = trio.move_on_after(IDLE_TIMEOUT)
            with self._idle:
                data = await self.transport.receive()
                received = len(data)
                self._feed(data)
        return received

    async def next_event(self) -> h11.Data | h11.EndOfMessage:
        """Return the next piece of the request's body, or its end.

        Raises `HeadError` for a body that is malformed or too slow, and `ConnectionLost`.
        """
        try:
            while (event := self.parser.next_event()) is h11.NEED_DATA:
                with trio.fail_after(IDLE_TIMEOUT):
                    data = await self.transport.receive()
                self.parser.receive_data(data)
        except trio.TooSlowError:
            raise _too_slow() from None
        except h11.RemoteProtocolError as error:
            raise self._malformed(error) from None
        if not isinstance(event, (h11.Data, h11.EndOfMessage)):
            raise ConnectionLost("the client closed the connection")
        return event

    async def send(self, event: h11.Event) -> None:
        """Send a part of a response.

        Raises `ProtocolError` for one that cannot be sent, and `ConnectionLost`.
        """
        try:
            data = self.parser.send(event)
        except h11.LocalProtocolError as error:
            raise ProtocolError(f"HTTP: {escape(fault(error))}") from None
        if data:
            try:
                await self.transport.send_all(data, idle=IDLE_TIMEOUT)
            except trio.TooSlowError:
                raise _too_slow() from None

    def start_next(self) -> bool:
        """Prepare for another request; return whether there can be one."""
        if self.closing:
            return False
        if self.parser.our_state is h11.DONE and self.parser.their_state is h11.DONE:
            # A parser of its own, to see the line of a request that is here already.
            rest, ended = self.parser.trailing_data
            self.parser, self._line = self._new_parser(), LineReader()
            if rest:
                self._feed(bytes(rest))
            if ended:
                self._feed(b"")
            return True
        return False

    @property
    def has_more(self) -> bool:
        """Whether there is more of the request's body to come."""
        return self.parser.their_state is h11.SEND_BODY

    async def end_early(self) -> None:
        """End the connection in order, of a client that has not sent all of its body."""
        if self.has_more:
            await _end(self.transport, MAX_UPLOAD_DRAINED)

    def _malformed(self, error: h11.RemoteProtocolError) -> HeadError:
        if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return self._too_large()
        return HeadError(HTTPStatus(error.error_status_hint), escape(fault(error)))

    def _too_large(self) -> HeadError:
        return HeadError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"a request head of over {self._max_head} bytes",
        )


def _too_slow() -> HeadError:
    return HeadError(HTTPStatus.REQUEST_TIMEOUT, "a client that is too slow")


def _request(event: h11.Request, early: bytes) -> Request:
    """Return a request whose target and host are what they have to be.  Raises `HeadError`."""
    if not event.http_version.startswith(b"1."):
        version = event.http_version.decode("ascii")
        raise HeadError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/{version}")
    headers = list(event.headers)
    if len(headers) > MAX_FIELDS:
        raise HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"over {MAX_FIELDS} fields")
    if event.http_version == b"1.0" and any(key == b"transfer-encoding" for key, _ in headers):
        raise HeadError(HTTPStatus.BAD_REQUEST, "chunks in HTTP/1.0")  # RFC 9112 section 6.1
    try:
        for key, value in headers:
            if key == b"host":
                check_host(value)
        if event.method != b"CONNECT":
            check_target(event.method, event.target)
    except TargetError as error:
        raise HeadError(HTTPStatus.BAD_REQUEST, str(error)) from None
    authority = authority_of(event.target)
    if authority is not None:  # which counts, whatever the field says (RFC 9112 section 3.2.2)
        headers = [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]
    return Request(event.method, event.target, tuple(headers), early, event.http_version)


def wanted_dialect(request: Request) -> Dialect | None:
    """Return the dialect that `request` asks to upgrade to; None if it is any other request."""
    protocols = request.members(b"sec-websocket-protocol")
    if not asks_for_websocket(request) or len(protocols) != 1:
        return None
    return dialect_for_token(protocols[0].decode("latin-1"))


def is_for(request: Request, path: str) -> bool:
    """Return whether `request` is for `path`; ``/`` stands for all paths."""
    return path == "/" or request.path == path.encode()


def asks_for_websocket(request: Request) -> bool:
    """Return whether `request` is an upgrade to a WebSocket (RFC 6455 section 4.2.1)."""
    # RFC 9110 section 7.8: HTTP/1.0 has no upgrades.
    return (request.method, request.http_version) == (b"GET", b"1.1") and any(
        token.lower() == b"websocket" for token in request.members(b"upgrade")
    )


def upgrade_head(request: Request, dialect: Dialect) -> bytes:
    """Return a request head with the only fields of `request` that trio-websocket needs."""
    lines = [
        b"GET / HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Protocol: " + dialect.token.encode("ascii"),
    ]
    for name in (b"connection", b"sec-websocket-version", b"sec-websocket-key"):
        values = request.values(name)
        if not all(value.isascii() for value in values):
            raise HeadError(HTTPStatus.BAD_REQUEST, f"a header {name.decode()} that is not ASCII")
        if values:  # in one line: wsproto looks at the last of several only
            lines.append(name + b": " + b", ".join(values))
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def respond(transport: Transport, request: Request, version: str) -> HTTPStatus:
    """Answer an ordinary request, and return the status.  `version` is for ``/version``."""
    path = request.path
    if path == b"/health":
        status, body = HTTPStatus.OK, b"OK\n"
    elif path == b"/version":
        status, body = HTTPStatus.OK, version.encode()
    else:
        status, body = HTTPStatus.NOT_FOUND, b"Not found"
    await send_response(transport, status, body, with_body=request.method != b"HEAD")
    return status


async def respond_page(
    transport: Transport, request: Request, text: str, status: HTTPStatus = HTTPStatus.OK
) -> None:
    """Answer a request with a text."""
    with_body = request.method != b"HEAD"
    await send_response(transport, status, text.encode(), with_body=with_body)


async def respond_moved(transport: Transport, request: Request, host: str) -> None:
    """Send a client to the same place at `host`, by HTTPS."""
    path = request.origin_form.decode("ascii")
    where = f"https://{host}{'/' if path == '*' else path}"
    await send_response(
        transport,
        HTTPStatus.PERMANENT_REDIRECT,
        b"",
        with_body=False,
        more=f"Location: {where}\r\n",
    )


async def respond_error(
    transport: Transport,
    status: HTTPStatus,
    *,
    retry_after: int | None = None,
    text: str = "",
    drained: int = MAX_DRAINED,
) -> None:
    """Answer a request that cannot be taken.

    `retry_after` is in seconds (RFC 9110 section 10.2.3), `text` in place of the status's name; see
    `HeadError` for `drained`.
    """
    more = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    body = (text or status.phrase).encode() + b"\n"
    await send_response(transport, status, body, with_body=True, more=more, drained=drained)


async def send_response(
    transport: Transport,
    status: HTTPStatus,
    body: bytes,
    *,
    with_body: bool,
    content_type: str = "text/plain; charset=utf-8",
    more: str = "",
    drained: int = MAX_DRAINED,
) -> None:
    """Send a whole response, with `more` header lines, and end the connection in order.

    That is the last of its connection: with no back end behind us, no client makes many.
    """
    head = response_head(status, content_type, f"Content-Length: {len(body)}\r\n{more}")
    with trio.move_on_after(HEAD_TIMEOUT), contextlib.suppress(ConnectionLost):
        await transport.send_all(head + (body if with_body else b""))
        await _end(transport, drained)


def response_head(status: HTTPStatus, content_type: str, more: str) -> bytes:
    """Return the head of the last response of a connection, with `more` header lines."""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        f"Content-Type: {content_type}\r\n{more}"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


async def _end(transport: Transport, most: int) -> None:
    """Say that there is no more, and wait for the client to close, for `HEAD_TIMEOUT` at most.

    A socket closed with bytes unread is reset, which can overtake the response: up to `most` bytes
    are read and dropped.
    """
    with trio.move_on_after(HEAD_TIMEOUT), contextlib.suppress(ConnectionLost):
        await transport.send_eof()
        drained = 0
        while drained < most and (rest := await transport.receive()):
            drained += len(rest)
