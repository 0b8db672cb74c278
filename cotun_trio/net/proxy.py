"""Dialling through a proxy: HTTP's CONNECT, with TLS to the proxy or without, and SOCKS5.

SOCKS5 is that of python-socks.  Its CONNECT takes one read for the whole answer, and drops the
bytes behind it; so CONNECT is ours, on h11, which keeps them.  Every proxy looks names up itself,
as with the Go programs: here there may be no name server.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
from typing import TYPE_CHECKING

import h11
import trio

from cotun_trio._version import __version__
from cotun_trio.errors import ConnectionLost, DialFailed, ProxyRefused, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.dial import dial_tcp
from cotun_trio.net.sockets import set_nodelay_and_keepalive
from cotun_trio.net.tls import Tls
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import host_on_the_wire, join_host_port
from cotun_trio.protocol.http_answer import (
    MAX_SSH_LINE,
    diagnose,
    retry_after,
    schemes,
    what_it_is,
)

if TYPE_CHECKING:
    import ssl

    from cotun_trio.protocol.proxy_url import ProxyUrl

MAX_HEAD = 8 * 1024
"""Bytes of the proxy's answer."""


async def dial_through(
    proxy: ProxyUrl, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None
) -> Transport:
    """Return a connection to `host` through `proxy`; `tls` is for TLS with the proxy itself.

    Bytes that the other side has sent already are the transport's `unread`.  Raises `DialFailed`,
    also after `timeout` seconds, which names the proxy, and `UsageError` where the package for
    SOCKS is missing.  When cancelled, nothing is left open.
    """
    try:
        with trio.fail_after(timeout):
            if proxy.socks:
                return Transport(await _through_socks(proxy, host, port))
            return await _through_http(proxy, host, port, timeout, tls)
    except trio.TooSlowError:
        raise DialFailed(f"proxy {proxy}: no answer in {timeout:g} s", errno.ETIMEDOUT) from None
    except DialFailed as error:
        error.args = (f"proxy {proxy}: {error}",)  # it stays of its class
        raise
    except ConnectionLost as error:
        raise DialFailed(f"proxy {proxy}: {error}", errno.ECONNRESET) from None


async def _through_http(
    proxy: ProxyUrl, host: str, port: int, timeout: float, tls: ssl.SSLContext | None
) -> Transport:
    sock = await dial_tcp(proxy.host, proxy.port, timeout=timeout)
    try:
        transport = Transport(
            sock, Tls(tls, name=proxy.host, trust_option="--tls-ca") if tls is not None else None
        )
        await transport.shake_hands()
        authority = join_host_port(host_on_the_wire(host), port)
        transport.put_back(await _ask(transport, proxy, authority))
    except BaseException:
        sock.close()
        raise
    return transport


async def _ask(transport: Transport, proxy: ProxyUrl, authority: str) -> bytes:
    """Ask for a connection (RFC 9110 section 9.3.6); return the bytes behind the answer."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    await transport.send_all(connection.send(_request(proxy, authority)) or b"")
    connection.send(h11.EndOfMessage())
    start = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                _check(event, proxy)
                return bytes(connection.trailing_data[0])
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


def _request(proxy: ProxyUrl, authority: str) -> h11.Request:
    headers = [("Host", authority), ("User-Agent", f"cotun-trio/{__version__}")]
    if proxy.user is not None:
        pair = f"{proxy.user}:{proxy.password or ''}".encode()
        headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(pair).decode()}"))
    return h11.Request(method="CONNECT", target=authority, headers=headers)


def _check(answer: h11.Response, proxy: ProxyUrl) -> None:
    status, fields = answer.status_code, tuple(answer.headers)
    if 200 <= status < 300:
        return
    if status == 407:
        why = "wants a user and a password" if proxy.user is None else "does not take the password"
        wanted = schemes(fields, b"proxy-authenticate")
        if wanted and "basic" not in [scheme.lower() for scheme in wanted]:
            why = f"wants a login by {' or '.join(wanted)}, and only Basic is known here"
        raise ProxyRefused(f"it {why} (HTTP 407)", errno.EACCES, status=status)
    text = f"it answered {status} {escape(bytes(answer.reason))}".rstrip()
    if status in (429, 503):
        text = f"{text}: {diagnose(status, fields).meaning}"
    seconds = retry_after(status, fields)
    raise ProxyRefused(text, errno.ECONNREFUSED, status=status, retry_after=seconds)


async def _through_socks(proxy: ProxyUrl, host: str, port: int) -> socket.socket:
    try:
        from python_socks import ProxyError, ProxyType
        from python_socks.async_.trio.v2 import Proxy
    except ImportError:
        raise UsageError(
            "a SOCKS proxy takes python-socks, which is missing: pip install python-socks"
        ) from None
    client = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, proxy.user, proxy.password, rdns=True)
    try:
        stream = await client.connect(host_on_the_wire(host), port, timeout=float("inf"))
    except ProxyError as error:
        raise DialFailed(escape(str(error)), errno.ECONNREFUSED) from None
    except OSError as error:
        number = _errno_of(error.__cause__ if isinstance(error.__cause__, OSError) else error)
        raise DialFailed(os.strerror(number), number) from None
    assert isinstance(stream.trio_stream, trio.SocketStream)
    return _detach(stream.trio_stream.socket)


def _errno_of(error: OSError) -> int:
    """Return the system's number for a failure; where several addresses failed, for the last."""
    cause: BaseException | None = error
    if error.errno is None:
        cause = error.__cause__  # Trio: "all attempts to connect … failed"
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    number = cause.errno if isinstance(cause, OSError) else None
    return number or errno.EHOSTUNREACH


def _detach(wrapped: trio.socket.SocketType) -> socket.socket:
    """Return the socket inside a Trio socket, and take it away from Trio."""
    sock = socket.socket(wrapped.family, wrapped.type, wrapped.proto, fileno=wrapped.detach())
    sock.setblocking(False)
    set_nodelay_and_keepalive(sock)
    return sock
