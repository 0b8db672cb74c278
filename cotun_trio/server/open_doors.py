"""A server that lets everybody in and does more than to connect: a warning."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from cotun_trio.settings import ServerTls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.settings import ServerSettings


def warning_about(settings: ServerSettings, addresses: Sequence[str]) -> str | None:
    """Return a warning about a server that listens on `addresses`, ``host:port`` each; None where
    it is closed to strangers, or does nothing that reaches further than TCP and UDP."""
    given = [f"--{name}" for name in ("reverse", "socks5", "unix") if getattr(settings, name)]
    if not given or _knows_its_clients(settings):
        return None
    reached = next((address for address in addresses if not _is_loopback(address)), None)
    if reached is None:
        return None
    return (
        f"there are no users: everybody who can reach {reached} may use {' and '.join(given)}.  "
        "Let only users in, with --authfile or --auth-from, or listen on --host 127.0.0.1"
    )


def _knows_its_clients(settings: ServerSettings) -> bool:
    """Return whether it lets only users in, or clients with a certificate."""
    tls = settings.tls
    authorities = tls.ca if isinstance(tls, ServerTls) else tls and tls.clients
    return bool(settings.auth or settings.authfile or authorities)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:  # not of IP: a Unix socket that was passed
        return True
