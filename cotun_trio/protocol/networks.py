"""Networks: whose addresses a rule is for."""

import ipaddress
from collections.abc import Collection
from typing import TypeAlias

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_network(text: str) -> Network:
    """Return the network that `text` writes, such as ``10.0.0.0/8``, or that of a single address.

    Raises `RemoteError`.
    """
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise RemoteError(f"'{escape(text)}' is no network: write it like 10.0.0.0/8") from None


def is_within(host: str, networks: Collection[Network]) -> bool:
    """Return whether the address `host` is in one of `networks`; an IPv4-mapped one is IPv4."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)
