"""Dialling and listening: TCP connections as plain non-blocking sockets.

The data path reads and writes sockets itself, so both ends here are stdlib sockets.  Names are
resolved and raced as Trio does it (RFC 8305, in `trio.open_tcp_stream`); an address written in
digits, which is what most targets are, is dialled directly and saves half of the time.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_writable

from cotun_trio.errors import DialFailed, UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.remote import join_host_port

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 1024
"""Connections that wait to be accepted; the system may allow less."""


async def dial_tcp(host: str, port: int, *, timeout: float) -> socket.socket:
    """Return a connection to `host` (a name or an address without brackets).

    Raises `DialFailed`, also after `timeout` seconds.  When cancelled, nothing is left open.
    """
    target = join_host_port(host, port)
    try:
        with trio.fail_after(timeout):
            family = address_family(host)
            if family is not None:
                return await _connect(family, host, port)
            stream = await trio.open_tcp_stream(host, port)
            return _detach(stream.socket)
    except trio.TooSlowError:
        raise DialFailed(f"{escape(target)}: no answer in {timeout:g} s") from None
    except socket.gaierror as error:
        raise DialFailed(f"{escape(target)}: {error.strerror}") from None
    except (OSError, ExceptionGroup, ValueError) as error:
        # ValueError: a name that IDNA cannot encode.
        raise DialFailed(f"{escape(target)}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return why in the system's words; of several addresses, why for the last."""
    cause: BaseException | None = error
    if isinstance(error, OSError) and error.errno is None:
        cause = error.__cause__  # Trio: "all attempts to connect … failed"
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    if isinstance(cause, OSError) and cause.errno is not None:
        return os.strerror(cause.errno)
    return escape(str(error))


def address_family(host: str) -> socket.AddressFamily | None:
    """Return the family of an address written in digits; None for a name or a scoped address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
        return family
    return None


async def _connect(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        result = sock.connect_ex((host, port))
        if result == errno.EINPROGRESS:
            await wait_writable(sock)
            result = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            raise OSError(result, os.strerror(result))
    except BaseException:
        sock.close()
        raise
    return sock


def _detach(wrapped: trio.socket.SocketType) -> socket.socket:
    """Return the socket inside a Trio socket, and take it away from Trio."""
    sock = socket.socket(wrapped.family, wrapped.type, wrapped.proto, fileno=wrapped.detach())
    sock.setblocking(False)
    return sock


async def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address that `host` has; port 0 is chosen once for all.

    Raises `UsageError` with the address that failed, and leaves nothing open then.
    """
    listeners: list[socket.socket] = []
    try:
        addresses: Sequence[tuple[socket.AddressFamily, str]]
        if (family := address_family(host)) is not None:
            addresses = [(family, host)]
        else:
            found = await trio.socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # In order and once each: a hosts file may name an address twice.
            addresses = list(dict.fromkeys((family, str(where[0])) for family, *_, where in found))
        for family, address in addresses:
            listeners.append(_listen(family, address, port))
            port = listeners[0].getsockname()[1]
    except OSError as error:
        for listener in listeners:
            listener.close()
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {escape(join_host_port(host, port))}: {reason}"
        ) from None
    return listeners


def _listen(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def show_address(sock: socket.socket) -> str:
    """Return the address of a bound socket as ``host:port``, IPv6 in brackets."""
    return join_host_port(*sock.getsockname()[:2])
