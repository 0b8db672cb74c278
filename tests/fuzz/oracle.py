"""What has to hold for every parser, whatever it is fed: ways to say it in one line.

Nothing in here knows atheris: the corpus is run without it.
"""

from __future__ import annotations

import itertools
import random
import sys
import zlib
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from cotun_trio.errors import CotunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    Feed = Callable[[bytes], Iterable[object]]
    """Takes the next piece of an input, and gives what that completes."""

PIECES = 8
"""Pieces of an input that is cut at random."""


def ways_to_cut(data: bytes) -> Iterator[list[bytes]]:
    """Return `data` whole, byte by byte, and cut at places that depend on nothing but `data`."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    places = random.Random(zlib.crc32(data))
    ends = sorted(places.randint(0, len(data)) for _ in range(PIECES - 1))
    yield [data[begin:end] for begin, end in itertools.pairwise([0, *ends, len(data)])]


def outcome(feed: Feed, pieces: Iterable[bytes]) -> list[object]:
    """Return all that comes of `pieces`, and at its end the error, if it ends in one."""
    found: list[object] = []
    try:
        for piece in pieces:
            # One at a time: what came before an error counts.
            for thing in feed(piece):
                found.append(thing)  # noqa: PERF402
    except CotunError as error:
        found.append((type(error), str(error)))
    return found


def same_however_cut(make: Callable[[], Feed], data: bytes) -> list[object]:
    """Check that what comes of `data` does not depend on where it is cut, and return it."""
    whole, *others = (outcome(make(), pieces) for pieces in ways_to_cut(data))
    for other in others:
        assert other == whole, f"cut: {other!r}\nwhole: {whole!r}"
    return whole


def check_text(error: CotunError) -> None:
    """Check that an error can be printed, whatever of the input is in its text."""
    assert str(error).isprintable(), repr(str(error))


def failed(found: list[object]) -> bool:
    """Return whether an `outcome` ends in an error."""
    return bool(found) and type(found[-1]) is tuple


class Work:
    """Counts the calls of functions in a ``with`` block, those of C among them.

    That is what a parser written in Python costs, and the same on every machine.  What one call of
    C does is not seen: `Weighed` is for that.
    """

    counts = True
    """Whether it does: it makes everything three times slower."""

    def __init__(self, *, at_most: int) -> None:
        self.calls = 0
        self._at_most = at_most
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        if self.counts:
            sys.setprofile(self._count)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        sys.setprofile(self._before)
        if kind is None:
            assert self.calls <= self._at_most, f"{self.calls} calls, {self._at_most} allowed"

    def _count(self, _frame: FrameType, event: str, function: Any) -> None:
        # atheris counts branches by calls of its own.
        if event == "call" or (event == "c_call" and function.__module__ != "atheris.native"):
            self.calls += 1


class Weighed(bytes):
    """Bytes that count in `copied` what their slices copy, and the slices of those."""

    copied = 0
    """Of all of them; to be set to 0 before."""

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        part = Weighed(super().__getitem__(key))
        Weighed.copied += len(part)
        return part


class Program:
    """An input read as a series of small numbers and strings; zeros where it has ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Return whether anything is left."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as are left."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, size: int = 1) -> int:
        """Return the next `size` bytes as an unsigned number."""
        return int.from_bytes(self.take(size))

    def string(self) -> bytes:
        """Return the next string; the byte before it is its length."""
        return self.take(self.number())

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data))
