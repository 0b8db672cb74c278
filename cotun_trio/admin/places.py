"""The places for connections to the admin interface.

A connection whose request has not been let in yet has shown nothing: its head is on the way, or was
refused, or it says nothing at all.  Where all places are taken, the eldest of these makes room for
a new one.  So silent connections keep nobody out, who would otherwise hold each place for as long
as a head may take; and a place is lost to a request that was let in only by its own end.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place:
    """The place of one connection.  `hold` it."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._scope = trio.CancelScope()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Have it while the block runs, which is cancelled where a newer connection gets it."""
        try:
            with self._scope:
                yield
        finally:
            self._places.left(self)

    def let_in(self) -> None:
        """Keep it from now on: the request may come in."""
        self._places.let_in(self)

    def give_up(self) -> None:
        """Cancel the block."""
        self._scope.cancel()


class Places:
    """Gives `most` places at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[Place] = set()
        self._waiting: dict[Place, None] = {}  # of those, the ones not let in, the eldest first

    def enter(self) -> Place | None:
        """Return a place, which has to be held; None where all are taken by those let in."""
        if len(self._taken) >= self._most:
            if not self._waiting:
                return None
            eldest = next(iter(self._waiting))
            self.left(eldest)
            eldest.give_up()
        place = Place(self)
        self._taken.add(place)
        self._waiting[place] = None
        return place

    def let_in(self, place: Place) -> None:
        """See `Place.let_in`."""
        self._waiting.pop(place, None)

    def left(self, place: Place) -> None:
        """See `Place.hold`.  Can be called again."""
        self._taken.discard(place)
        self._waiting.pop(place, None)
