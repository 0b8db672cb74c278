"""Noticing that a network has come back: an interface that runs, an address, a route.

Linux tells by a netlink socket (rtnetlink(7)).  Where there is none, nothing is noticed.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from trio.lowlevel import wait_readable

from cotun_trio.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

READ = 64 * 1024
"""Bytes of messages read at once: more than the kernel puts into one answer."""

# From linux/rtnetlink.h and linux/if.h.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links; addresses and routes of IPv4 and IPv6
_NEWLINK, _NEWADDR, _NEWROUTE = 16, 20, 24
_RUNNING = 0x1 | 0x40  # up, and with a carrier
_HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, changed flags

log = get_logger("network")


async def watch_network(came_back: Callable[[], None]) -> None:
    """Call `came_back` when there is a network that may not have been there, until cancelled.

    Several times for one that comes, and also where nothing has changed for us.  Returns at once
    where the system has no means to tell.
    """
    try:
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
    except (AttributeError, OSError) as error:
        log.debug("a network that comes back will not be noticed: %s", error)
        return
    with sock:
        try:
            sock.bind((0, _GROUPS))
        except OSError as error:
            log.debug("a network that comes back will not be noticed: %s", error)
            return
        while True:
            await wait_readable(sock)
            try:
                news = is_news(sock.recv(READ))
            except BlockingIOError:
                continue
            except OSError:  # ENOBUFS: so much has happened that some of it was dropped
                news = True
            if news:
                came_back()


def is_news(data: bytes) -> bool:
    """Return whether one of some netlink messages says that something has come."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, kind, *_ = _HEAD.unpack_from(data, at)
        if kind in (_NEWADDR, _NEWROUTE):
            return True
        if kind == _NEWLINK and at + _HEAD.size + _LINK.size <= len(data):
            flags = _LINK.unpack_from(data, at + _HEAD.size)[3]
            if flags & _RUNNING == _RUNNING:
                return True
        at += max(_HEAD.size, (length + 3) & ~3)  # messages begin at multiples of 4
    return False
