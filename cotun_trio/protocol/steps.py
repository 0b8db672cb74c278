"""Readers of messages whose parts say how long the next ones are.

The reader of a message is written as a generator: it yields how many bytes it needs next, and is
sent exactly these.  `StepReader` feeds it from pieces of any size.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeAlias, TypeVar

Result = TypeVar("Result")
Steps: TypeAlias = Generator[int, bytes, Result]


class StepReader(Generic[Result]):
    """Feeds a generator of steps from pieces of any size."""

    def __init__(self, steps: Steps[Result]) -> None:
        self._steps = steps
        self._needed = next(steps)
        self._buffer = bytearray()
        self._over = False

    @property
    def rest(self) -> bytes:
        """The bytes that are not used yet: in the end, those behind the message."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Result | None:
        """Take the next bytes; return the message that they complete, or None.

        Raises what the steps raise, mostly `ProtocolError`.  After that, and after the message,
        there is nothing more to feed.
        """
        if self._over:
            raise RuntimeError("this conversation is over")
        self._buffer += data
        while len(self._buffer) >= self._needed:
            taken = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            self._over = True  # unless it asks for more
            try:
                self._needed = self._steps.send(taken)
            except StopIteration as end:
                result: Result = end.value
                return result
            self._over = False
        return None
