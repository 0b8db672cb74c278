"""The names of places: one name for each place where a session can listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.protocol.addresses import canonical_host, is_wildcard, join_host_port

if TYPE_CHECKING:
    from cotun_trio.server.reverse_listeners import Place

ANY = "0.0.0.0"  # noqa: S104  it is a name here
"""All interfaces, of IPv4 and of IPv6, in whatever spelling."""


def place_name(place: Place) -> str:
    """Return the name of a place, such as ``tcp/0.0.0.0:8080`` or ``unix//run/app.sock``.

    All spellings of an address have one name.  Places that meet at one node, such as a port of all
    interfaces and the same port of one, are different: the kernel of that node keeps them apart.
    A port 0 is no place; ask when it is known.
    """
    if place.local_path:
        return f"unix/{place.local_path}"
    host = ANY if is_wildcard(place.local_host) else canonical_host(place.local_host)
    return f"{'udp' if place.udp else 'tcp'}/{join_host_port(host, place.local_port)}"
