"""A window of datagrams: a sender that never has more than `WINDOW` under way, and its receiver.

The receiver says after every `EVERY` of them what has arrived.  It says so to the sender directly,
over the loopback interface: these credits do not load the tunnel.

A search for the highest rate without loss would need many short steps, and one pause of a busy
machine, in which a buffer fills, spoils a step.  A window needs no search: the sender is as fast as
the tunnel.  In a pause nothing is sent, so no buffer of the kernel fills, and nothing is lost but
what the tunnel itself drops.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import attrs

from bench.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 32
"""Datagrams: with 1,200 bytes each, less than half of what a socket of Linux has room for."""
EVERY = 8
"""Datagrams for which there is one credit."""
SILENCE = 0.1
"""Seconds without a credit, after which what is under way counts as lost."""
MOST_SILENCES = 20
"""After so many of them, one after the other, there is nobody at the other end."""

HEAD = struct.Struct("!BQQQ")
"""What each datagram begins with: its kind, the run that it belongs to, and two numbers."""
HELLO = 1
"""To the sink, directly: a run begins.  It is answered with a credit."""
ASK = 2
"""To the source, through the tunnel: send datagrams of so many bytes here."""
DATA = 3
"""With its number, counted from 0."""
CREDIT = 4
"""With how many have been seen, the lost ones before the last included; and how many arrived."""
STOP = 5
"""To the source, directly: the run is over."""


def open_socket(port: int | None = None) -> socket.socket:
    """Open a socket for datagrams that waits for one `SILENCE` long; to a port, or with its own."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    # The kernel keeps the time: Python would ask it before each call whether it can be made.
    timeout = struct.pack("ll", 0, round(SILENCE * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    if port is None:
        sock.bind((LOOPBACK, 0))
    else:
        sock.connect((LOOPBACK, port))
    return sock


@attrs.define
class Arrivals:
    """What has arrived of a run."""

    run: int
    seen: int = 0
    """Those up to the last that has arrived, also the lost ones."""
    count: int = 0
    _told: int = 0

    def take(self, number: int) -> bool:
        """Count a datagram; return whether it is time for a credit.

        The first one gets a credit of its own.
        """
        self.count += 1
        if number >= self.seen:
            self.seen = number + 1
        return self.seen - self._told >= EVERY or not self._told

    def credit(self) -> bytes:
        """Return the credit for what has arrived."""
        self._told = self.seen
        return HEAD.pack(CREDIT, self.run, self.seen, self.count)


@attrs.define
class Sender:
    """Sends the datagrams of a run; `send` gets each of them in `buffer`, of the size wanted."""

    run: int
    buffer: bytearray
    send: Callable[[bytearray], object]
    _sent: int = 0
    _seen: int = 0
    _window: int = 1  # the first one opens the flow
    _silences: int = 0

    def fill(self) -> None:
        """Send until the window is full."""
        while self._sent - self._seen < self._window:
            HEAD.pack_into(self.buffer, 0, DATA, self.run, self._sent, 0)
            self.send(self.buffer)
            self._sent += 1

    def take_credit(self, seen: int) -> None:
        """Make room for what has been seen."""
        self._seen = max(self._seen, seen)
        self._window = WINDOW
        self._silences = 0

    def give_up(self) -> bool:
        """Take what is under way as lost; return whether there is still hope."""
        self._seen = self._sent
        self._silences += 1
        return self._silences < MOST_SILENCES
