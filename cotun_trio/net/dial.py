"""Dialling and listening: TCP connections as plain non-blocking sockets.

The data path reads and writes sockets itself, so both ends here are stdlib sockets.  Names are
resolved and raced as Trio does it (RFC 8305, in `trio.open_tcp_stream`); an address written in
digits, which is what most targets are, is dialled directly and saves half of the time.
"""

from __future__ import annotations

import errno
import os
import socket

import trio
from trio.lowlevel import wait_writable

from cotun_trio.errors import DialFailed, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.sockets import tune
from cotun_trio.protocol.addresses import join_host_port

BACKLOG = 1024
"""Connections that wait to be accepted; the system may allow less."""


async def dial_tcp(host: str, port: int, *, timeout: float) -> socket.socket:
    """Return a connection to `host` (a name or an address without brackets).

    Raises `DialFailed`, also after `timeout` seconds.  When cancelled, nothing is left open.
    """
    target = join_host_port(host, port)
    try:
        if (family := address_family(host)) is not None:
            return await _connect(family, host, port, timeout=timeout)
        with trio.fail_after(timeout):
            stream = await trio.open_tcp_stream(host, port)
        sock = detach(stream.socket)
        tune(sock)
        return sock
    except trio.TooSlowError:
        reason, number = f"no answer in {timeout:g} s", errno.ETIMEDOUT
    except socket.gaierror as error:
        reason, number = str(error.strerror), errno.EHOSTUNREACH
    except ValueError:  # UnicodeError, from IDNA
        reason, number = "not a name that can be looked up", errno.EHOSTUNREACH
    except OSError as error:
        number = errno_of(error)
        reason = os.strerror(number)
    raise DialFailed(f"{escape(target)}: {reason}", number)


def errno_of(error: OSError) -> int:
    """Return the system's number for a failure; where several addresses failed, for the last."""
    cause: BaseException | None = error
    if error.errno is None:
        cause = error.__cause__  # Trio: "all attempts to connect … failed"
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    number = cause.errno if isinstance(cause, OSError) else None
    return number or errno.EHOSTUNREACH


def address_family(host: str) -> socket.AddressFamily | None:
    """Return the family of an address written in digits; None for a name or a scoped address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
        return family
    return None


def dial_at_once(host: str, port: int) -> socket.socket | None:
    """Return a connection to this same machine; None where that fails, or `host` is elsewhere.

    Nothing has to be awaited there: the system does both halves of the handshake in one call.
    """
    if not host.startswith("127.") and host != "::1":
        return None
    family = address_family(host)
    if family is None:  # a name that begins with the same digits
        return None
    try:
        sock, result = _begin(family, host, port)
    except OSError:
        return None
    if result:
        sock.close()
        return None
    return sock


def _begin(family: socket.AddressFamily, host: str, port: int) -> tuple[socket.socket, int]:
    """Return a socket that connects, and the system's number for what it says of that so far."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    address = (host, port)
    try:
        result = sock.connect_ex(address)
        if result == errno.EINPROGRESS:
            # To this same machine it is connected by now, but only a second call tells.
            result = sock.connect_ex(address)
        tune(sock)
    except BaseException:
        sock.close()
        raise
    return sock, result


async def _connect(
    family: socket.AddressFamily, host: str, port: int, *, timeout: float
) -> socket.socket:
    sock, result = _begin(family, host, port)
    try:
        if result in (errno.EINPROGRESS, errno.EALREADY):
            with trio.fail_after(timeout):
                await wait_writable(sock)
            result = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            raise OSError(result, os.strerror(result))
    except BaseException:
        sock.close()
        raise
    return sock


def detach(wrapped: trio.socket.SocketType) -> socket.socket:
    """Return the socket inside a Trio socket, and take it away from Trio."""
    sock = socket.socket(wrapped.family, wrapped.type, wrapped.proto, fileno=wrapped.detach())
    sock.setblocking(False)
    return sock


async def resolve(
    host: str, kind: socket.SocketKind = socket.SOCK_STREAM
) -> list[tuple[socket.AddressFamily, str]]:
    """Return the addresses of `host`, in the system's order and once each.

    Raises `OSError`, which has a `strerror`.
    """
    if (family := address_family(host)) is not None:
        return [(family, host)]
    try:
        found = await trio.socket.getaddrinfo(host, None, type=kind)
    except UnicodeError:
        raise OSError(errno.EHOSTUNREACH, "not a name that can be looked up") from None
    return list(dict.fromkeys((family, str(where[0])) for family, *_, where in found))


async def open_listeners(
    host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM
) -> list[socket.socket]:
    """Return sockets on every address that `host` has: listening ones, or bound ones for UDP.

    Port 0 is chosen once for all.  Raises `UsageError` with the address that failed, and leaves
    nothing open then.
    """
    listeners: list[socket.socket] = []
    try:
        for family, address in await resolve(host, kind):
            listeners.append(_listen(family, address, port, kind))
            port = listeners[0].getsockname()[1]
    except OSError as error:
        for listener in listeners:
            listener.close()
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {escape(join_host_port(host, port))}: {reason}"
        ) from None
    return listeners


def _listen(
    family: socket.AddressFamily, host: str, port: int, kind: socket.SocketKind
) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    stream = kind is socket.SOCK_STREAM
    try:
        if stream:  # for UDP it would let two processes share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tune(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if stream:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def show_address(sock: socket.socket) -> str:
    """Return the address of a bound socket as ``host:port``, IPv6 in brackets."""
    return join_host_port(*sock.getsockname()[:2])
