"""Bytes that wait for a slow reader: kept in few, large pieces however small they came.

A peer that sends its window a byte at a time must not cost an object per byte, so small pieces are
joined; large ones are kept apart, so that taking from the front never moves megabytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE = 64 * 1024
"""Bytes up to which pieces are joined."""
MAX_VIEWS = 64
"""Pieces offered at once, far below the system's IOV_MAX of 1024."""


class Backlog:
    """A first-in, first-out store of bytes.  ``len`` is the number of bytes in it."""

    __slots__ = ("_offset", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: deque[bytearray] = deque()
        self._offset = 0  # bytes of the first piece that are already gone
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: memoryview | bytes | bytearray) -> None:
        """Copy `data` to the end."""
        pieces = self._pieces
        try:
            if pieces and len(pieces[-1]) + len(data) <= PIECE:
                pieces[-1] += data
            elif data:
                pieces.append(bytearray(data))
        except BufferError:
            # There still is a view of that piece: a traceback keeps all frames with their local
            # variables, and Trio makes one wherever a task is cancelled.
            pieces.append(bytearray(data))
        self._size += len(data)

    def append_rest(self, views: Iterable[memoryview | bytes], taken: int) -> None:
        """Copy the bytes of `views` behind their first `taken` ones."""
        for view in views:
            if taken >= len(view):
                taken -= len(view)
            else:
                self.append(view[taken:])
                taken = 0

    def views(self) -> list[memoryview]:
        """Return views of the first bytes, in order.

        Release them before the next call here: with a view of it, a piece cannot grow.
        """
        views = [
            memoryview(piece) for _, piece in zip(range(MAX_VIEWS), self._pieces, strict=False)
        ]
        if self._offset:
            views[0] = views[0][self._offset :]
        return views

    def advance(self, count: int) -> None:
        """Drop the first `count` bytes."""
        self._size -= count
        count += self._offset
        pieces = self._pieces
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.popleft())
        self._offset = count

    def take(self, limit: int) -> bytes:
        """Remove and return up to `limit` bytes."""
        parts, wanted = [], limit
        for view in self.views():
            parts.append(view[:wanted])
            wanted -= len(parts[-1])
            if not wanted:
                break
        data = b"".join(parts)
        del parts
        self.advance(len(data))
        return data

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self._offset = self._size = 0
