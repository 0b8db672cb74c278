"""The two ends of a visitor's connection: its own address, and the one that it has connected to.

They come from the system, from a PROXY header (`proxy_header`), or through the tunnel
(`visitor_address`), and mean the same in limits, logs and access lists.  So each is in one form:
digits, an IPv4-mapped address as IPv4, and no zone, which counts on one machine only (RFC 4007
section 11.2).
"""

import ipaddress
import re

import attrs

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, join_host_port, parse_port

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen
class Endpoint:
    """An IP address and a port of TCP.  `str` gives ``1.2.3.4:80`` or ``[::1]:80``."""

    host: str
    port: int

    @classmethod
    def of(cls, address: IPAddress, port: int) -> "Endpoint":
        """Return the endpoint with this address, in the one form."""
        return cls(str(getattr(address, "ipv4_mapped", None) or address), port)

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
        found = _WRITTEN.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            address = ipaddress.ip_address(found["v6"] or found["v4"])
        except ValueError:
            raise RemoteError(f"'{escape(text)}' is no address in digits with a port") from None
        return cls.of(address, parse_port(found["port"]))

    @property
    def address(self) -> IPAddress:
        """The address as a number."""
        return ipaddress.ip_address(self.host)

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


_WRITTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]+)")


@attrs.frozen
class Endpoints:
    """The two ends of one connection."""

    source: Endpoint
    """The visitor."""
    destination: Endpoint
    """The address that it has connected to."""
