"""The local address that a datagram was sent to, and the answer from that same address.

A socket that is bound to the wildcard gets datagrams for every address of the machine.  By itself,
the system would send the answers from the one that the route suggests, and a sender that asked
another one, or a firewall on the way, would not take them for answers.  The control messages are
those of ip(7) and RFC 3542 section 6.
"""

from __future__ import annotations

import functools
import socket
import struct
import sys
from typing import TypeAlias

Control: TypeAlias = tuple[tuple[int, int, bytes], ...]
"""Control messages for `socket.socket.sendmsg`; empty where the system may choose the address."""

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # Python has the name from 3.14 on
_IPV4 = struct.Struct("=i4s4s")  # struct in_pktinfo: the interface, our address, that in the header
_IPV6 = struct.Struct("=16si")  # struct in6_pktinfo: our address, the interface
_KINDS = {
    (socket.IPPROTO_IP, _IP_PKTINFO),
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_PKTINFO", -1)),
}
SPACE = socket.CMSG_SPACE(_IPV6.size)
"""Bytes for `socket.socket.recvmsg` to put the control message in."""


def report_local_address(sock: socket.socket) -> bool:
    """Have each datagram to a UDP socket come with its local address; return whether it will."""
    if sys.platform != "linux":
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    except OSError:
        return False
    return True


@functools.lru_cache(256)  # there are few addresses, and many datagrams
def same_address(level: int, kind: int, data: bytes) -> Control:
    """Return the control messages for an answer, from the one that came with the question."""
    if (level, kind) not in _KINDS:
        return ()
    if level == socket.IPPROTO_IP:
        # Of a broadcast or a group, this is the address of ours that is used there.  The interface
        # is left to the routes.
        ours = data[4:8]
        return ((level, kind, _IPV4.pack(0, ours, bytes(4))),) if any(ours) else ()
    address, interface = _IPV6.unpack(data)
    if address[0] == 0xFF:  # a group: no address to send from
        return ()
    is_link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
    return ((level, kind, _IPV6.pack(address, interface if is_link_local else 0)),)
