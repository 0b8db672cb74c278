"""What the rules have their node do.  All else is only remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from cotun_trio.fleet.records import NodeFacts


class Effect:
    """The root of all effects."""

    __slots__ = ()


@attrs.frozen
class Give(Effect):
    """A session has its place, by this epoch."""

    place: str
    session: int
    epoch: int


@attrs.frozen
class Refuse(Effect):
    """A session does not get its place; it can ask again later."""

    place: str
    session: int
    reason: str


@attrs.frozen
class Yield(Effect):
    """A session has lost its place: close its listener, tell its client, and log it."""

    place: str
    session: int
    reason: str


@attrs.frozen
class Probe(Effect):
    """Find out whether a session still answers, and say so to `Rules.probed`: another session of
    its user wants its place."""

    place: str
    session: int
    epoch: int


@attrs.frozen
class CutUser(Effect):
    """End all sessions of a user."""

    user: str


@attrs.frozen
class DirectoryLost(Effect):
    """The directory has not answered for longer than a lease."""


@attrs.frozen
class DirectoryBack(Effect):
    """The directory answers again."""


@attrs.frozen
class UsersDiffer(Effect):
    """Another node has another users file."""

    facts: NodeFacts
