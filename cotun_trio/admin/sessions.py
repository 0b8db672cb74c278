"""The open sessions, their connections, and their end."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from cotun_trio.admin.operations import Failure
from cotun_trio.escape import escape
from cotun_trio.snapshot import SessionFigures

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call
    from cotun_trio.snapshot import SessionChannels

MAX_REASON = 200
"""Characters of a reason for a peer."""
ENDED = "ended by an administrator"


@attrs.frozen(kw_only=True)
class Session(SessionFigures):
    """An open session."""

    id: str = attrs.field()
    """The number; after that of the worker and a dot where there are workers."""

    @classmethod
    def of(cls, figures: SessionFigures) -> Session:
        """Return the session that has these figures."""
        return cls(id=figures.id, **attrs.asdict(figures))


@attrs.frozen
class Ended:
    """A session that was ended."""

    id: str
    reason: str
    """The reason that its peer was told."""


async def sessions(call: Call) -> list[Session]:
    """Return the open sessions."""
    return [Session.of(each) for each in await call.watched.sessions()]


async def session(call: Call) -> Session:
    """Return an open session."""
    found = await call.watched.session(call.path["id"])
    if found is None:
        raise _no_session(call)
    return Session.of(found)


async def channels(call: Call) -> SessionChannels:
    """Return the open connections of a session, the eldest first, 1000 at most.

    The datagrams of one remote are one connection.
    """
    found = await call.watched.channels(call.path["id"])
    if found is None:
        raise _no_session(call)
    return found


async def end_session(call: Call) -> Ended:
    """End a session, and tell its peer the reason."""
    identity = call.path["id"]
    reason = escape(call.query("reason") or ENDED, MAX_REASON)
    if not await call.watched.kick(identity, reason):
        raise _no_session(call)
    return Ended(identity, reason)


def _no_session(call: Call) -> Failure:
    return Failure(HTTPStatus.NOT_FOUND, f"there is no session {call.path['id']}")
