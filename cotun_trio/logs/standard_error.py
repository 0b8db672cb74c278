"""Standard error as a stream that never waits for its reader.

A traceback, a warning, a last message: all texts that are written there go the same way as the log,
and in the same order.
"""

from __future__ import annotations

import atexit
import io
import sys
from typing import TYPE_CHECKING

from cotun_trio.logs.output import MAX_LINE, Output

if TYPE_CHECKING:
    from typing import TextIO

PARTING = 0.5
"""Seconds for a reader to take the last lines when there is no event loop any more: they say why
the program ends."""


class LineStream(io.TextIOBase):
    """A text stream that writes whole lines to the descriptor of another one, and never waits."""

    def __init__(self, stream: TextIO, output: Output) -> None:
        self._stream = stream
        self._partial = ""  # a line that has no end yet
        self.output = output
        """Where the lines go."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the other stream."""
        return self._stream.encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that are whole now."""
        with self.output.lock:
            *lines, self._partial = (self._partial + text).split("\n")
            self.output.write(line + "\n" for line in lines)
            if len(self._partial) > MAX_LINE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Write the line that has no end yet, too."""
        with self.output.lock:
            partial, self._partial = self._partial, ""
            self.output.write([partial] if partial else [])

    def close(self) -> None:
        """Close the descriptors of its own; the other stream stays open."""
        if not self.closed:
            super().close()
            self.output.close()


def line_stream(stream: TextIO) -> LineStream | None:
    """Return a stream that leads to the descriptor of `stream`; None where that has none."""
    try:
        output = Output(stream.fileno(), stream.encoding)
    except (OSError, ValueError):
        return None
    # Not earlier: Python closes any stream that nobody has, and says where that fails.
    return LineStream(stream, output)


def never_wait() -> None:
    """Have `sys.stderr` never wait for its reader, from now on.  Can be called again.

    It changes the whole process, and so only a program may call this.
    """
    stream = sys.stderr
    if stream is None or isinstance(stream, LineStream):
        return
    if (made := line_stream(stream)) is not None:
        sys.stderr = made
        atexit.register(wait_for_reader)


async def write_what_waits() -> None:
    """Write the waiting lines of standard error as soon as there is room, until cancelled."""
    if isinstance(sys.stderr, LineStream):
        await sys.stderr.output.run()


def wait_for_reader() -> None:
    """Wait until standard error has been read, or for `PARTING` seconds.

    To be called when the event loop has ended, before a message that must not be lost; at the end
    of the process it is called anyway.
    """
    if isinstance(sys.stderr, LineStream):
        sys.stderr.output.finish(PARTING)
