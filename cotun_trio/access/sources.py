"""The source of a connection, as limits and penalties count it."""

from __future__ import annotations

import ipaddress


def source_of(host: str) -> str:
    """Return the source that the address `host` belongs to.

    An IPv4 address is one source, and the IPv4-mapped IPv6 address is the same.  Of other IPv6
    addresses, everybody has at least a /64 (RFC 6177), and can use a new one for every try: the
    network is the source.  A text that is no address is a source itself.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
