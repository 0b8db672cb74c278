"""The two ends of a visitor's connection: its own address, and the one that it has connected to.

They come from the system, from a PROXY header (`proxy_header`), or through the tunnel
(`visitor_address`), and mean the same in limits, logs and access lists.  So each is in one form:
digits, an IPv4-mapped address as IPv4, and no zone, which counts on one machine only (RFC 4007
section 11.2).
"""

import functools
import ipaddress

import attrs

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, join_host_port, parse_port

KEPT = 1024
"""Addresses that are not parsed again: that takes a hundredth of a short connection."""
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen
class Endpoint:
    """An IP address and a port of TCP.  `str` gives ``1.2.3.4:80`` or ``[::1]:80``."""

    host: str
    port: int

    @classmethod
    def of(cls, address: IPAddress, port: int) -> "Endpoint":
        """Return the endpoint with this address, in the one form."""
        return cls(_one_form(address), port)

    @classmethod
    def from_socket(cls, address: object) -> "Endpoint | None":
        """Return the endpoint in an address of the `socket` module; None for a Unix socket's."""
        if not isinstance(address, tuple):
            return None
        host, port = address[:2]
        if ":" not in host:  # the system writes it in the one form
            return cls(host, port)
        return cls.of(ipaddress.IPv6Address(host.partition("%")[0]), port)

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Return the endpoint that `text` writes, as `str` does.  Raises `RemoteError`."""
        host, _, port = text.rpartition(":")
        try:
            return cls(_read_host(host), parse_port(port))
        except ValueError:
            raise RemoteError(f"'{escape(text)}' is no address in digits with a port") from None

    @property
    def address(self) -> IPAddress:
        """The address as a number."""
        return ipaddress.ip_address(self.host)

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def _one_form(address: IPAddress) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


@functools.lru_cache(KEPT)
def _read_host(text: str) -> str:
    """Return the one form of an address; that of IPv6 is in brackets.  Raises `ValueError`."""
    if text[:1] == "[" and text[-1:] == "]" and "%" not in text:
        return _one_form(ipaddress.IPv6Address(text[1:-1]))
    return str(ipaddress.IPv4Address(text))


@attrs.frozen
class Endpoints:
    """The two ends of one connection."""

    source: Endpoint
    """The visitor."""
    destination: Endpoint
    """The address that it has connected to."""
