"""HTTP's CONNECT (RFC 9110 section 9.3.6), the listening side: bytes in, meaning out.

A conversation is one head in each direction, and then belongs to the client's own protocol::

    CONNECT example.com:443 HTTP/1.1              HTTP/1.1 200 Connection established
    Host: example.com:443
    Proxy-Authorization: Basic bWU6c2VjcmV0
                                                  (both end in an empty line)

Where the answer is no, it is one with a short text for people, and the last on its connection.
"""

from __future__ import annotations

import base64
import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host, parse_port
from cotun_trio.protocol.http_fault import fault
from cotun_trio.protocol.proxy_request import Command, Reply, Request, RequestError
from cotun_trio.protocol.socks5 import NO_HOST, request

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HEAD = 8 * 1024
"""Bytes of a request head, as for the tunnel's own."""
_CHALLENGE = 'Proxy-Authenticate: Basic realm="cotun-trio", charset="UTF-8"'  # RFC 7617 section 2.1
_STATUSES = {
    Reply.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Reply.TTL_EXPIRED: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The statuses of replies; others are `HTTPStatus.BAD_GATEWAY`."""


class ConnectHandshake:
    """See `cotun_trio.protocol.proxy_request.Handshake`."""

    def __init__(self, credentials: tuple[str, str] | None = None) -> None:
        """With `credentials`, a user and a password, each client has to give them."""
        self._credentials = credentials
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._parsed = 0
        self._rest = b""

    @property
    def rest(self) -> bytes:
        """See `Handshake.rest`."""
        return self._rest

    def take_out(self) -> bytes:
        """See `Handshake.take_out`: there is nothing to send before the reply."""
        return b""

    def feed(self, data: bytes) -> Request | None:
        """See `Handshake.feed`."""
        # No more than a head may have, so that it does not matter how the bytes are cut.
        most = MAX_HEAD + 1 - self._parsed
        data, behind = data[:most], data[most:]
        self._parsed += len(data)
        try:
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                raise _too_large() from None
            text = f"This is no request: {fault(error)}."
            raise _refusal(HTTPStatus(error.error_status_hint), text) from None
        if event is h11.NEED_DATA:
            return None
        assert isinstance(event, h11.Request)
        early = bytes(self._parser.trailing_data[0])
        if self._parsed - len(early) > MAX_HEAD:  # h11 looks at incomplete heads only
            raise _too_large()
        self._rest = early + behind
        return self._read(event)

    def reply(self, code: Reply, host: str = NO_HOST, port: int = 0) -> bytes:  # noqa: ARG002
        """See `Handshake.reply`.  An address has no place in it."""
        if code is Reply.SUCCEEDED:
            return b"HTTP/1.1 200 Connection established\r\n\r\n"
        status = _STATUSES.get(code, HTTPStatus.BAD_GATEWAY)
        return _response(status, f"The tunnel does not lead there: {code.text}.")

    def _read(self, head: h11.Request) -> Request:
        if not head.http_version.startswith(b"1."):
            text = f"HTTP/{head.http_version.decode('ascii')} is not spoken here."
            raise _refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, text)
        if head.method != b"CONNECT":
            text = "This proxy knows CONNECT only: use it for https, or by SOCKS."
            with_body = head.method != b"HEAD"  # RFC 9110 section 9.3.2
            reply = _response(HTTPStatus.METHOD_NOT_ALLOWED, text, "Allow: CONNECT", body=with_body)
            raise RequestError(f"HTTP: {escape(head.method)}, and only CONNECT is served", reply)
        self._check_login(_values(head, b"proxy-authorization"))
        lengths = _values(head, b"content-length")
        if _values(head, b"transfer-encoding") or any(length.strip(b"0") for length in lengths):
            raise _refusal(HTTPStatus.BAD_REQUEST, "CONNECT has no content.")
        try:
            host, port = _read_authority(head.target.decode("ascii"))
        except RemoteError as error:
            raise _refusal(HTTPStatus.BAD_REQUEST, f"This is no target: {error}.") from None
        return Request(Command.CONNECT, host, port, request(Command.CONNECT, host, port))

    def _check_login(self, given: list[bytes]) -> None:
        """Check the login (RFC 9110 section 11.7), of which there has to be one."""
        if self._credentials is None:
            return
        pair = _read_basic(given[0]) if len(given) == 1 else b""
        if hmac.compare_digest(pair, ":".join(self._credentials).encode()):
            return
        user = escape(pair.partition(b":")[0])
        fault = f"wrong user or password for '{user}'" if given else "no user and no password"
        text = "This proxy wants a user and a password."
        raise RequestError(
            f"HTTP: {fault}",
            _response(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, text, _CHALLENGE),
        )


def _values(head: h11.Request, name: bytes) -> list[bytes]:
    headers: Iterable[tuple[bytes, bytes]] = head.headers
    return [value for key, value in headers if key == name]


def _read_authority(target: str) -> tuple[str, int]:
    """Return the host and the port of a target (RFC 9112 section 3.2.3).  Raises `RemoteError`."""
    host, _, port = target.rpartition(":")
    if ":" in host and host[0] != "[":
        raise RemoteError(f"'{escape(target)}' has no brackets around its address")
    host, number = clean_host(host), parse_port(port)
    if not (host and number):
        raise RemoteError(f"'{escape(target)}' has no host, or the port 0")
    return host, number


def _read_basic(value: bytes) -> bytes:
    """Return the user and the password, with a colon between them, in Basic (RFC 7617 section 2).

    Empty where it is another scheme, or none.
    """
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(token.strip(b" "), validate=True)
    except ValueError:
        return b""


def _too_large() -> RequestError:
    text = f"A head has {MAX_HEAD} bytes at the most."
    return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)


def _refusal(status: HTTPStatus, text: str) -> RequestError:
    return RequestError(f"HTTP: {text.rstrip('.')}", _response(status, text))


def _response(status: HTTPStatus, text: str, *fields: str, body: bool = True) -> bytes:
    """Return an answer that is the last on its connection; `body` says whether the text is sent."""
    content = f"{text}\n".encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *fields,
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    return head + content if body else head
