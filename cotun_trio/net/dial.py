"""Dialling and listening: TCP connections as plain non-blocking sockets.

The data path reads and writes sockets itself, so both ends here are stdlib sockets.  The addresses
of a name (`cotun_trio.net.names`) are tried one after another, and the slow ones side by side (RFC
8305, "Happy Eyeballs").  An address written in digits, as most targets are, is dialled directly and
saves half of the time.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_writable

from cotun_trio.errors import DialFailed, Shortage, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.descriptors import refuse_reserved
from cotun_trio.net.names import look_up
from cotun_trio.net.sockets import set_nodelay_and_keepalive
from cotun_trio.protocol.addresses import is_wildcard, join_host_port

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cotun_trio.net.names import Address, Share

BACKLOG = 1024
"""Connections that wait to be accepted; the system may allow less."""
AddressCheck = Callable[[str], bool]
"""Returns whether an address that a name led to may be dialled."""
ATTEMPT_DELAY = 0.25
"""Seconds from an attempt at one address of a name to that at the next one (RFC 8305 section 8)."""
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


async def dial_tcp(
    host: str,
    port: int,
    *,
    timeout: float,
    share: Share | None = None,
    check: AddressCheck | None = None,
    taken: Collection[str] = (),
) -> socket.socket:
    """Return a connection to `host` (a name or an address without brackets).

    For a peer, a name is looked up in its `share`, and the reserve of descriptors is not used.
    Without a share, it is for the program itself.  Of the addresses of a name, only those are tried
    that `check` allows, if there is one; and those that are `taken`, only where all are.

    Raises `DialFailed`, also after `timeout` seconds; `Shortage` where too many names are being
    looked up, or there are too few descriptors.  When cancelled, nothing is left open.
    """
    target = join_host_port(host, port)
    kind: type[DialFailed] = DialFailed
    try:
        if (family := address_family(host)) is not None:
            return await _connect(family, host, port, timeout=timeout, spare=share is not None)
        with trio.fail_after(timeout):
            addresses = untaken(checked(await look_up(host, share=share), host, check), taken)
            return await _connect_to_any(addresses, port, spare=share is not None)
    except trio.TooSlowError:
        reason, number = f"no answer in {timeout:g} s", errno.ETIMEDOUT
    except Shortage as error:
        kind, reason, number = Shortage, str(error), error.errno
    except socket.gaierror as error:
        reason, number = str(error.strerror), errno.EHOSTUNREACH
    except OSError as error:
        kind = Shortage if error.errno in OUT_OF_DESCRIPTORS else DialFailed
        reason, number = error.strerror or str(error), error.errno or errno.EHOSTUNREACH
    raise kind(f"{escape(target)}: {reason}", number)


def checked(addresses: list[Address], host: str, check: AddressCheck | None) -> list[Address]:
    """Return those of the `addresses` of `host` that `check` allows.

    Raises `OSError` (EACCES) where it allows none.
    """
    if check is None or ":" in host:  # that is an address with a zone, and no name
        return addresses
    allowed = [address for address in addresses if check(address[1])]
    if not allowed:
        raise OSError(errno.EACCES, "its name leads to no address that is allowed")
    return allowed


def untaken(addresses: list[Address], taken: Collection[str]) -> list[Address]:
    """Return those of the `addresses` that are not `taken`, or all where there are no others."""
    return [address for address in addresses if address[1] not in taken] or addresses


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

    It is for a peer: the reserve of descriptors is not used.  Nothing has to be awaited there: the
    system does both halves of the handshake in one call.
    """
    if not host.startswith("127.") and host != "::1":
        return None
    family = address_family(host)
    if family is None:  # a name that begins with the same digits
        return None
    try:
        sock, result = _begin(family, host, port, spare=True)
    except OSError:
        return None
    if result:
        sock.close()
        return None
    return sock


def _begin(
    family: socket.AddressFamily, host: str, port: int, *, spare: bool
) -> tuple[socket.socket, int]:
    """Return a socket that connects, and the system's number for the result so far.

    With `spare`, the reserve of descriptors is not used.
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    address = (host, port)
    try:
        if spare:
            refuse_reserved(sock)
        result = sock.connect_ex(address)
        if result == errno.EINPROGRESS:
            # To this same machine it is connected by now, but only a second call tells.
            result = sock.connect_ex(address)
        set_nodelay_and_keepalive(sock)
    except BaseException:
        sock.close()
        raise
    return sock, result


async def _connect(
    family: socket.AddressFamily, host: str, port: int, *, timeout: float = math.inf, spare: bool
) -> socket.socket:
    sock, result = _begin(family, host, port, spare=spare)
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


async def _connect_to_any(addresses: list[Address], port: int, *, spare: bool) -> socket.socket:
    """Return a connection to the first of `addresses` that answers (RFC 8305 section 5).

    An attempt starts when the one before it has failed, or is `ATTEMPT_DELAY` old.  Raises the
    `OSError` of the last attempt that left this machine, or of the last one where none did.  When
    cancelled, nothing is left open.
    """
    if len(addresses) == 1:
        ((family, host),) = addresses
        return await _connect(family, host, port, spare=spare)
    winner: socket.socket | None = None
    failures: list[OSError] = []

    async def attempt(family: socket.AddressFamily, host: str, failed: trio.Event) -> None:
        nonlocal winner
        try:
            sock = await _connect(family, host, port, spare=spare)
        except OSError as error:
            failures.append(error)
            failed.set()
            return
        if winner is None:
            winner = sock
            nursery.cancel_scope.cancel()
        else:  # two in the same moment
            sock.close()

    try:
        async with trio.open_nursery() as nursery:
            for family, host in interleave(addresses):
                failed = trio.Event()
                nursery.start_soon(attempt, family, host, failed)
                with trio.move_on_after(ATTEMPT_DELAY):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise _most_telling(failures)
    return winner


def _most_telling(failures: list[OSError]) -> OSError:
    """Return the last of `failures` that left this machine, or the last one where none did.

    On a machine without IPv6, the error of ``::1`` would hide that 127.0.0.1 refuses.
    """
    return ([error for error in failures if error.errno not in _NO_WAY] or failures)[-1]


def interleave(addresses: list[Address]) -> list[Address]:
    """Return `addresses` with the families in turn, that of the first one first (RFC 8305 section
    4): where one family leads nowhere, the other one is tried second."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    pairs = zip_longest(first, others)
    return [address for pair in pairs for address in pair if address is not None]


async def resolve(
    host: str,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    share: Share | None = None,
) -> list[Address]:
    """Return the addresses of `host`, as `look_up` does, but at once where it is one itself.

    Raises `Shortage`, or `OSError`, which has a `strerror`.
    """
    if (family := address_family(host)) is not None:
        return [(family, host)]
    return await look_up(host, kind, share=share)


async def open_listeners(
    host: str,
    port: int,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    share: Share | None = None,
) -> list[socket.socket]:
    """Return sockets on every address that `host` has: listening ones, or bound ones for UDP.

    The wildcard of either family, and no host, are both families, as with Go.  An address that this
    machine does not have (``::1`` of localhost in many containers) is passed over, as long as there
    is another one; a port that is in use at one of them is not.

    For a peer, `host` is looked up in its `share`.  Port 0 is chosen once for all.  Raises
    `UsageError` with the address that failed, and leaves nothing open then.
    """
    try:
        if is_wildcard(host):
            addresses = _WILDCARDS[::-1] if ":" in host else _WILDCARDS
        else:
            addresses = await resolve(host, kind, share=share)
        return _listen_on_all(addresses, port, kind)
    except (OSError, Shortage) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        if isinstance(error, PermissionError) and 0 < port < FIRST_OPEN_PORT:
            reason += f": {LOW_PORT}"
        raise UsageError(
            f"cannot listen on {escape(join_host_port(host, port))}: {reason}"
        ) from None


FIRST_OPEN_PORT = 1024
"""The first port that every user may listen on, as Linux has it unless it is told otherwise."""
LOW_PORT = (
    f"ports below {FIRST_OPEN_PORT} take the capability CAP_NET_BIND_SERVICE (in a systemd unit, "
    "AmbientCapabilities=CAP_NET_BIND_SERVICE), a lower sysctl "
    "net.ipv4.ip_unprivileged_port_start, or, for a server, a socket unit of systemd"
)
"""Advice for users who are not root."""


_WILDCARDS: list[Address] = [
    (socket.AF_INET, "0.0.0.0"),  # noqa: S104
    (socket.AF_INET6, "::"),
]
_MISSING = {
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
    errno.EINVAL,  # a link-local address without its zone
    errno.ENODEV,
}
"""The errors of an address or a family that this machine does not have."""
_NO_WAY = _MISSING | {errno.ENETUNREACH}
"""The errors of an attempt that does not leave this machine."""
PORT_TRIES = 16
"""Ports that are tried where any will do: one that is free at the first address may be in use at
another."""


def _listen_on_all(
    addresses: list[Address], port: int, kind: socket.SocketKind
) -> list[socket.socket]:
    """Return sockets on those of `addresses` that there are.

    Raises the `OSError` of an address that has no room for one, or of the last one, where this
    machine has none of them; then nothing is left open.
    """
    for tries_left in reversed(range(1 if port else PORT_TRIES)):
        listeners: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for family, address in addresses:
                same_port = listeners[0].getsockname()[1] if listeners else port
                try:
                    listeners.append(_listen(family, address, same_port, kind))
                except OSError as error:
                    if error.errno not in _MISSING:
                        raise
                    missing = error
        except OSError as error:
            for listener in listeners:
                listener.close()
            if not (listeners and tries_left and error.errno == errno.EADDRINUSE):
                raise
        else:
            if missing is not None and not listeners:
                raise missing
            return listeners
    raise AssertionError("the last try returns or raises")


def _listen(
    family: socket.AddressFamily, host: str, port: int, kind: socket.SocketKind
) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    stream = kind is socket.SOCK_STREAM
    try:
        if stream:  # for UDP it would let two processes share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            set_nodelay_and_keepalive(sock)
        if family == socket.AF_INET6:  # so that a peer by IPv4 has an IPv4 address
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if stream:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def show_addresses(sockets: Sequence[socket.socket]) -> list[str]:
    """Return the addresses of the sockets of one listener, with one wildcard for both families."""
    shown: list[str] = []
    wild_ports: set[int] = set()
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        if is_wildcard(host):
            if port in wild_ports:
                continue
            wild_ports.add(port)
        shown.append(join_host_port(host, port))
    return shown
