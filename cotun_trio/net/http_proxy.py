"""Dialling through an HTTP proxy: CONNECT, with TLS to the proxy or without.

It is written on h11, which keeps the bytes behind the answer: they are the server's already.  Where
the proxy wants a login, it is asked again, on the same connection if that stays open.
"""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING

import h11
import trio

from cotun_trio._version import __version__
from cotun_trio.errors import ConnectionLost, ProxyRefused
from cotun_trio.escape import escape
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.tls import Tls
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import host_on_the_wire, join_host_port
from cotun_trio.protocol.http_answer import (
    MAX_SSH_LINE,
    diagnose,
    retry_after,
    what_it_is,
)
from cotun_trio.protocol.proxy_login import ProxyLogin

if TYPE_CHECKING:
    import ssl

    from cotun_trio.protocol.proxy_url import ProxyUrl

MAX_HEAD = 8 * 1024
"""Bytes of the head of the proxy's answer."""
MAX_SKIPPED = 64 * 1024
"""Bytes of a page about a login that are skipped to use the connection again."""
SKIP_TIMEOUT = 2.0
"""Seconds for that page; then another connection is made, which takes less."""


async def dial_through_http(
    proxy: ProxyUrl, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None
) -> Transport:
    """Return a connection to `host` through `proxy`; `tls` is for TLS with the proxy itself.

    Bytes that the other side has sent already are the transport's `unread`.  Each connection to the
    proxy may take `timeout` seconds; the deadline for all is the caller's.  Raises `DialFailed`,
    `ProxyRefused` among them, and `ConnectionLost`.  When cancelled, nothing is left open.
    """
    authority = join_host_port(host_on_the_wire(host), port)
    login = ProxyLogin(proxy.user, proxy.password, authority)
    transport = await _connect(proxy, timeout, tls)
    used = False
    try:
        # Few times: the login ends it, and so does a new connection that breaks.
        while True:
            try:
                outcome = await _try(transport, authority, login)
            except ConnectionLost as error:
                if not used or isinstance(error, ProxyRefused):
                    raise
                outcome = _Outcome.CLOSED  # in the meantime (RFC 9112 section 9.5)
            if outcome is _Outcome.GRANTED:
                return transport
            if outcome is _Outcome.CLOSED:
                transport.sock.close()
                transport = await _connect(proxy, timeout, tls)
            used = outcome is _Outcome.OPEN
    except BaseException:
        transport.sock.close()
        raise


class _Outcome(enum.Enum):
    """The outcome of a request; if it is not granted, another one has to be made."""

    GRANTED = enum.auto()
    OPEN = enum.auto()
    """The proxy waits for that on the same connection."""
    CLOSED = enum.auto()


async def _try(transport: Transport, authority: str, login: ProxyLogin) -> _Outcome:
    """Ask once.  Raises `ConnectionLost`, and `ProxyRefused` where there is no use in more."""
    answer, connection = await ask(transport, authority, login.authorization())
    if 200 <= answer.status_code < 300:
        transport.put_back(bytes(connection.trailing_data[0]))
        return _Outcome.GRANTED
    if answer.status_code != 407:
        raise _refusal(answer)
    login.challenge(tuple(answer.headers))
    stays_open = await skip_body(transport, answer, connection)
    return _Outcome.OPEN if stays_open else _Outcome.CLOSED


async def _connect(proxy: ProxyUrl, timeout: float, tls: ssl.SSLContext | None) -> Transport:
    """Return a connection to the proxy itself."""
    sock = await dial_tcp(proxy.host, proxy.port, timeout=timeout)
    try:
        transport = Transport(
            sock, Tls(tls, name=proxy.host, trust_option="--tls-ca") if tls is not None else None
        )
        await transport.shake_hands()
    except BaseException:
        sock.close()
        raise
    return transport


async def ask(
    transport: Transport, authority: str, authorization: bytes | None
) -> tuple[h11.Response, h11.Connection]:
    """Ask for a connection (RFC 9110 section 9.3.6); return the head of the answer.

    What has come behind it is in the h11 connection.  Raises `ConnectionLost`.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [(b"Host", authority.encode()), (b"User-Agent", f"cotun-trio/{__version__}".encode())]
    if authorization is not None:
        headers.append((b"Proxy-Authorization", authorization))
    request = h11.Request(method="CONNECT", target=authority, headers=headers)
    await transport.send_all(connection.send(request) or b"")
    connection.send(h11.EndOfMessage())
    start = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                return event, connection
            if event is h11.NEED_DATA:
                if not (data := await transport.receive()):
                    raise ConnectionLost("it closed the connection without an answer")
                start = (start + data)[:MAX_SSH_LINE]
                if fault := what_it_is(start, "it"):
                    raise ConnectionLost(f"its answer is no HTTP: {fault}")
                connection.receive_data(data)
            else:
                assert isinstance(event, h11.InformationalResponse)  # which says nothing yet
    except h11.RemoteProtocolError as error:
        raise ConnectionLost(f"its answer is no HTTP: {escape(str(error))}") from None


async def skip_body(transport: Transport, answer: h11.Response, connection: h11.Connection) -> bool:
    """Skip the body of a refusal; return whether the connection takes another request then."""
    if not {name for name, _ in answer.headers} & {b"content-length", b"transfer-encoding"}:
        return False  # without a length, the body ends with the connection (RFC 9112 section 6.3)
    skipped = 0
    with trio.move_on_after(SKIP_TIMEOUT):
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await transport.receive()
                    skipped += len(data)
                    if skipped > MAX_SKIPPED:
                        return False
                    connection.receive_data(data)
        except (h11.RemoteProtocolError, ConnectionLost):
            return False
        # Bytes behind it answer nothing that was asked.
        return connection.their_state is h11.DONE and not connection.trailing_data[0]
    return False


def _refusal(answer: h11.Response) -> ProxyRefused:
    status, fields = answer.status_code, tuple(answer.headers)
    text = f"it answered {status} {escape(bytes(answer.reason))}".rstrip()
    if status in (429, 503):
        text = f"{text}: {diagnose(status, fields).meaning}"
    seconds = retry_after(status, fields)
    return ProxyRefused(text, errno.ECONNREFUSED, status=status, retry_after=seconds)
