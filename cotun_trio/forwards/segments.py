"""Runs of datagrams in one system call each: UDP segmentation of Linux (udp(7), ``UDP_SEGMENT``).

The system is given the bytes of many datagrams and their size, and cuts them itself: as late as it
can, in the network card even.  Who gets them does not notice.  A datagram costs 0.5 µs in place of
3, which is most of what is left to save.  That is also how QUIC programs send.

It works for datagrams that need no IP fragments; and not with every network driver.  Where it
fails, nothing has been sent, and each datagram is sent by itself.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.net.local_address import Control
    from cotun_trio.protocol.datagram_codec import Run

_UDP_SEGMENT = 103  # of linux/udp.h; Python has no name for it
_SIZE = struct.Struct("=H")
MAX_SEGMENTS = 64
"""Datagrams that Linux cuts at once: more than that only since 6.9."""
MAX_BYTES = 65_000
"""Bytes of them: together they have to fit an IP packet, with its options."""


@functools.cache
def _supported() -> bool:
    """Return whether the system knows the option: an old one would send one large datagram."""
    if sys.platform != "linux":
        return False
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


class Segments:
    """Sends runs, as far as the system and the ways to the targets allow; one for each remote."""

    def __init__(self) -> None:
        self._largest = MAX_BYTES // 2 if _supported() else 0  # bytes of one

    def send(
        self,
        sock: socket.socket,
        run: Run,
        control: Control = (),
        address: tuple[str, int] | None = None,
    ) -> int:
        """Send the first datagrams of `run`; return how many: all of them, if nothing is wrong.

        `control` is what `socket.socket.sendmsg` takes besides, and `address` the recipient, where
        the socket is not connected.  Raises nothing: the others are to be sent one by one, by which
        the error shows that belongs to each.
        """
        size = run.size
        if not 0 < size <= self._largest or run.count < 2:
            return 0
        sent = 0
        controls = (*control, (socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(size)))
        try:
            for pieces in _portions(run, min(MAX_SEGMENTS, MAX_BYTES // size)):
                if address is None:
                    sent += sock.sendmsg(pieces, controls) // size
                else:
                    sent += sock.sendmsg(pieces, controls, 0, address) // size
        except OSError as error:
            self._note(error.errno, size)
        return sent

    def _note(self, number: int | None, size: int) -> None:
        """Try no more what cannot be."""
        if number in (errno.EINVAL, errno.EMSGSIZE):  # it would need fragments
            self._largest = size - 1
        elif number in (errno.EIO, errno.EOPNOTSUPP, errno.ENOPROTOOPT):  # the driver cannot
            self._largest = 0


def _portions(run: Run, most: int) -> Iterator[list[memoryview | bytes]]:
    """Give the pieces of `run` in portions of up to `most` datagrams."""
    room = left = most * run.size
    pieces: list[memoryview | bytes] = []
    for piece in run.pieces:
        rest = piece
        while len(rest) > left:
            if left:
                pieces.append(rest[:left])
                rest = rest[left:]
            yield pieces
            pieces, left = [], room
        pieces.append(rest)
        left -= len(rest)
    yield pieces
