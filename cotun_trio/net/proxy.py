"""Dialling through a proxy: HTTP's CONNECT and SOCKS5.

SOCKS5 is that of python-socks.  Its CONNECT takes one read for the whole answer, and drops the
bytes behind it; so CONNECT is ours (`cotun_trio.net.http_proxy`).  Every proxy looks names up
itself, as with the Go programs: here there may be no name server.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, DialFailed, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.http_proxy import dial_through_http
from cotun_trio.net.sockets import set_nodelay_and_keepalive
from cotun_trio.net.transport import Transport
from cotun_trio.protocol.addresses import host_on_the_wire

if TYPE_CHECKING:
    import ssl

    from cotun_trio.protocol.proxy_url import ProxyUrl


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
            return await dial_through_http(proxy, host, port, timeout=timeout, tls=tls)
    except trio.TooSlowError:
        raise DialFailed(f"proxy {proxy}: no answer in {timeout:g} s", errno.ETIMEDOUT) from None
    except DialFailed as error:
        error.args = (f"proxy {proxy}: {error}",)  # it stays of its class
        raise
    except ConnectionLost as error:
        raise DialFailed(f"proxy {proxy}: {error}", errno.ECONNRESET) from None


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
