"""Lines on their way to a descriptor: written at once, kept for a while, or dropped and counted.

Nothing here waits for a reader.  Lines without room are kept up to a limit; the others are counted,
and the count is written behind the kept lines.  `Output.run` does that as soon as there is room;
without it, the next line does.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import trio

from cotun_trio.logs.formats import shorten
from cotun_trio.logs.nonblocking import open_nonblocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_LINE = 4096
"""Bytes of a line, with its end: a pipe takes so many whole or not at all (PIPE_BUF on Linux), so
that the lines of several processes are never mixed."""
MAX_WAITING = 64 * 1024
"""Bytes that are kept: as many again as a pipe holds by itself."""


class Output:
    """Writes lines to `descriptor`, which stays its owner's.  Can be used by several threads.

    `lock` is held for lines that have to stay together.
    """

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._count_line: Callable[[int], str] = "{} lines were dropped here".format
        self.dropped = 0
        """Lines that are dropped, and not yet told of."""
        self._encoding = encoding
        self._way = open_nonblocking(descriptor)
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes that wait
        self._blocked = False  # there was no room the last time
        self.lock = threading.RLock()
        self._news = trio.Event()  # it is blocked now
        self._token: trio.lowlevel.TrioToken | None = None  # of the Trio run with `run` in it

    def show_dropped(self, count_line: Callable[[int], str]) -> None:
        """Have `count_line` make the line that tells a number of dropped lines."""
        self._count_line = count_line

    def write(self, lines: Iterable[str]) -> None:
        """Write lines, each with its end if it has one, or keep them, or drop them."""
        with self.lock:
            self.flush()
            for text in lines:
                line = self._encode(text)
                # Behind lines that are missing comes their number, before any other.
                if self.dropped or self._size + len(line) > MAX_WAITING:
                    self.dropped += 1
                else:
                    self._waiting.append(line)
                    self._size += len(line)
            self.flush()

    def _encode(self, text: str) -> bytes:
        line = text.encode(self._encoding, "backslashreplace")
        while (excess := len(line) - MAX_LINE) > 0:
            text = shorten(text, excess)
            line = text.encode(self._encoding, "backslashreplace")
        return line

    def flush(self) -> None:
        """Write the lines that wait, as far as there is room."""
        with self.lock:
            try:
                while self._waiting:
                    self._write_first()
                if self.dropped:
                    self._keep_count()
                    self._write_first()
            except BlockingIOError:
                self._set_blocked()
            except OSError:
                self._blocked = False  # a full disk, a reader that is gone: nothing to wait for
            else:
                self._blocked = False

    def _set_blocked(self) -> None:
        if not self._blocked:
            self._blocked = True
            if self._token is not None:
                with contextlib.suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._wake)

    def _write_first(self) -> None:
        line = self._waiting[0]
        written = self._way.write(line)
        if not written:
            raise BlockingIOError
        self._size -= written
        # The rest of a line comes before anything else.
        if written < len(line):
            self._waiting[0] = line[written:]
        else:
            self._waiting.popleft()

    def _keep_count(self) -> None:
        line = self._encode(self._count_line(self.dropped) + "\n")
        self._waiting.append(line)
        self._size += len(line)
        self.dropped = 0

    def _wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Write waiting lines as soon as there is room, until cancelled; one Trio run at a time."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            while True:
                while self._blocked:
                    await trio.lowlevel.wait_writable(self._way.descriptor)
                    self.flush()
                self._news = trio.Event()
                await self._news.wait()
        finally:
            self._token = None

    def finish(self, seconds: float) -> None:
        """Wait until all is written, for so many seconds at most.  Blocks."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._way.descriptor, select.POLLOUT)
        self.flush()
        while self._blocked and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.flush()

    def close(self) -> None:
        """Close the descriptors of our own.  Waiting lines are lost."""
        self._way.close()
