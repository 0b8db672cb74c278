"""One source at the dialling end of a UDP remote: its socket, and the datagrams that it keeps."""

from __future__ import annotations

import errno
import math
import os
import socket
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.net.descriptors import is_reserved, left_after, tell_shortage
from cotun_trio.net.dial import OUT_OF_DESCRIPTORS
from cotun_trio.net.sockets import close

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.forwards.udp_flows import UdpFlows, Waiting
    from cotun_trio.net.names import Address

KEPT_FOR = 1.0
"""Seconds for which datagrams are kept for another address: a refusal comes within a round trip."""


class FlowOwner(Protocol):
    """The exit that a flow belongs to."""

    def forget(self, flow: Flow) -> None:
        """Let its source begin anew."""


class Flow:
    """One source, at the dialling end (`cotun_trio.forwards.udp_flows.UdpFlow`)."""

    __slots__ = (
        "_exit",
        "address",
        "answered",
        "ended",
        "expires",
        "idle",
        "kept_since",
        "sock",
        "source",
        "untried",
        "waiting",
    )

    def __init__(self, exit_: FlowOwner, source: str, waiting: Waiting) -> None:
        self.source = source
        self.sock: socket.socket | None = None
        self.address: Address | None = None
        self.untried: Sequence[Address] = ()
        """The addresses left to try, as long as there is no answer."""
        self.answered = False
        self.waiting = waiting
        """Datagrams for a socket that is still to come: the first, or that of another address."""
        self.idle = trio.CancelScope()
        self.expires = -math.inf
        self.kept_since = -math.inf
        self.ended = False
        self._exit = exit_

    def connect(self, sock: socket.socket, address: Address, untried: Sequence[Address]) -> None:
        """Have a socket, and the addresses behind its own."""
        self.sock, self.address, self.untried = sock, address, untried

    def disconnect(self) -> None:
        """Close the socket: its address is not the right one."""
        if self.sock is not None:
            close(self.sock)
            self.sock = None

    def keep(self, data: memoryview | bytes) -> None:
        """Keep a datagram that is sent now, for another address."""
        now = trio.current_time()
        if now - self.kept_since > KEPT_FOR:
            # Not refused by now.  To send it again would be to send it twice, for protocols that
            # answer nothing.
            self.kept_since = now
            self.waiting.take()
        self.waiting.add(self.source, data)

    def note_answer(self) -> None:
        """Know the address for the right one."""
        self.answered, self.untried = True, ()
        self.waiting.take()

    def end(self) -> None:
        """Free its socket, at once; its task ends soon.  Can be called again."""
        # A cancellation would do that too.  But Trio raises it here and now, and its traceback
        # would keep all frames down to those that have views of a channel's backlog, which then
        # could not grow.
        if not self.ended:
            self.ended = True
            self._exit.forget(self)
            self.disconnect()


def open_socket(flow: Flow, address: Address, port: int, all_flows: UdpFlows) -> socket.socket:
    """Return a socket for `flow`, connected to `port` of `address`.

    Descriptors are shared: as long as `all_flows` of a session have fewer than there are left,
    they may have another one.  Otherwise the longest idle one makes room, once.  Raises
    `OSError` where that is not enough, and where there is no way to the address.
    """
    family, host = address
    for _ in range(2):
        if flow.ended:
            break
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            tell_shortage()
        else:
            if not is_reserved(sock) and len(all_flows) <= left_after(sock) + 1:
                try:
                    sock.connect((host, port))
                except BaseException:
                    sock.close()
                    raise
                return sock
            sock.close()
        all_flows.end_longest_idle()
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
