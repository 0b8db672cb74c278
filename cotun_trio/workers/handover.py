"""Accepted connections on their way from the supervisor to a worker: given, taken, or taken back.

Each worker has a pair of Unix sockets for them, beside its link.  A connection is one message with
its descriptor (SCM_RIGHTS, unix(7)), which the kernel keeps until a process receives it.  The
supervisor has a duplicate of the *worker's* end.  With that, it can itself receive the connections
that a frozen, busy or dead worker has not taken.  The kernel gives each message to exactly one of
the two processes.  So they need not agree on anything, which would be impossible while one of them
does not run; and a worker that goes on finds no connection that another worker has.

The alternative, to keep our own descriptor of each connection until a worker confirms it, cannot
tell a connection that was never taken from one whose confirmation is on its way.

The sockets keep the bounds of messages, since two readers of one stream could get halves:
SOCK_SEQPACKET, or SOCK_DGRAM where there is no such thing.  The number of connections on their way
is limited by the buffer of the sender: some 270 on Linux.  (``net.unix.max_dgram_qlen`` does not
count between sockets that are connected to each other.)
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import math
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio
from trio.lowlevel import wait_readable, wait_writable

from cotun_trio.logs import get_logger
from cotun_trio.net.sockets import close

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.counts import Count

KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
MAX_SIZE = 1024
"""Bytes of a message: an address, and some characters of JSON."""
BATCH = 64
"""Connections that a worker takes before its other tasks have their turn."""
ALL = 1000
"""More connections than can be on their way, even if some are given meanwhile."""
PAUSE = 0.1
"""Seconds before another try where the system has too many descriptors on their way
(ETOOMANYREFS, unix(7)): the system does not tell when that has changed."""
_ROOM = socket.CMSG_SPACE(array.array("i").itemsize)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

log = get_logger("workers")


@attrs.frozen
class Connection:
    """A connection that a worker has to serve; its socket comes with it."""

    health: bool
    """Whether it is for ``--health-listen``."""
    host: str
    port: int

    def pack(self) -> bytes:
        """Return the connection as bytes."""
        return json.dumps(attrs.astuple(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Connection:
        """Return the connection that the supervisor has packed: no other process writes here."""
        return cls(*json.loads(data))


class Outgoing:
    """The supervisor's side.  The worker counts in `taken`.  `close` it at the end.

    Raises `OSError` where the system has no sockets left.
    """

    def __init__(self, taken: Count) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, KIND)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)  # for the worker, too: it has the same open file
        self._taken = taken
        self._times: deque[float] = deque()  # when each untaken connection was given
        self._full = trio.Event()
        self._pause = 0.0
        self.given = 0
        """The number of connections that have been given and not taken back."""

    @property
    def theirs(self) -> int:
        """The descriptor that the worker inherits."""
        return self._theirs.fileno()

    @property
    def has_room(self) -> bool:
        """Whether the kernel takes more for this worker."""
        return not self._full.is_set()

    @property
    def untaken(self) -> int:
        """The number of connections that the worker has not taken."""
        return self.given - self._taken.own

    @property
    def since(self) -> float:
        """When the first untaken one was given, by Trio's clock; infinity where all are taken."""
        times, untaken = self._times, self.untaken
        while len(times) > untaken:
            times.popleft()
        return times[0] if times else math.inf

    def give(self, connection: Connection, sock: socket.socket) -> bool:
        """Give a connection to the worker, and close our `sock`.

        Where there is no room for it, the result is false, and `sock` stays the caller's.
        """
        along = array.array("i", [sock.fileno()])
        try:
            self._ours.sendmsg([connection.pack()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, along)])
        except OSError as error:
            self._pause = 0.0 if error.errno == errno.EAGAIN else PAUSE
            self._full.set()
            return False
        sock.close()
        self.given += 1
        self._times.append(trio.current_time())
        return True

    def take_back(self) -> tuple[Connection, socket.socket] | None:
        """Return the first connection that the worker has not taken; None where there is none."""
        with contextlib.suppress(BlockingIOError):
            while (found := _receive(self._theirs)) is not None:
                connection, descriptor = found
                self.given -= 1
                if descriptor >= 0:
                    return connection, socket.socket(fileno=descriptor)
                log.warning("a connection is lost: out of file descriptors")
        # All connections have been received, even if the worker has not counted the last one yet.
        self._times.clear()
        return None

    async def regain_room(self) -> None:
        """Wait until there is no room, and then until there is some again."""
        await self._full.wait()
        await wait_writable(self._ours)
        await trio.sleep(self._pause)
        self._full = trio.Event()

    def close(self) -> None:
        """Close both ends; connections that have not been taken are lost."""
        close(self._ours)
        close(self._theirs)


class Incoming:
    """The worker's side: its socket, and its count of taken connections."""

    def __init__(self, sock: socket.socket, taken: Count) -> None:
        self._sock = sock
        self._taken = taken

    async def run(self, accepted: Callable[[Connection, int], None]) -> None:
        """Call `accepted` with each connection and its descriptor, until the supervisor is gone.

        The descriptor is the caller's; -1 where the process has no room for one.
        """
        while True:
            await wait_readable(self._sock)
            if not self.take(accepted):
                return

    def take(self, accepted: Callable[[Connection, int], None], most: int = BATCH) -> bool:
        """Do the same without waiting, with at most `most` connections.

        Returns false where the supervisor is gone.
        """
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                found = _receive(self._sock)
                if found is None:
                    return False
                self._taken.add(1)
                accepted(*found)
        return True

    def close(self) -> None:
        """Close the socket."""
        close(self._sock)


def _receive(sock: socket.socket) -> tuple[Connection, int] | None:
    """Return the next connection with its descriptor, or -1; None where the other end is gone.

    Raises `BlockingIOError` where there is none.
    """
    try:
        data, along, _, _ = sock.recvmsg(MAX_SIZE, _ROOM, _CLOEXEC)
    except BlockingIOError:
        raise
    except OSError:
        return None
    if not data:
        return None
    found = array.array("i")
    for level, kind, content in along:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return Connection.unpack(data), found[0] if found else -1
