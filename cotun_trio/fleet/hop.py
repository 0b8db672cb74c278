"""The target of a hop: the channel by which a node passes a visitor on to the owner of a place.

As text, it is ``fleet:SESSION:PLACE``, such as ``fleet:17:tcp/0.0.0.0:8080``: the number of the
session at the owner's node, and the name of the place (`cotun_trio.fleet.places`).  The visitor's
addresses come behind it (`cotun_trio.protocol.visitor_address`).  Only a peer may ask for one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.forwards.admission import EVERYBODY
from cotun_trio.protocol.target import MAX_TARGET

if TYPE_CHECKING:
    from cotun_trio.forwards.visitor import Visitor
    from cotun_trio.protocol.remote import Remote

NOT_ALLOWED = "not allowed from there"
GONE = "this node has no such route any more"
"""The reason beside `OPEN_GONE`, for a peer whose table is a moment old: its visitor waits for
another owner."""
_FORM = re.compile(r"fleet:(?P<session>[0-9]{1,15}):(?P<place>(?:tcp|unix)/[!-~]+)")


@attrs.frozen
class Hop:
    """A hop to the session that owns a place."""

    session: int
    """The number of the session at its node."""
    place: str

    def encode(self) -> bytes:
        """Return the target of the channel."""
        return f"fleet:{self.session}:{self.place}".encode()

    @classmethod
    def parse(cls, raw: bytes) -> Hop:
        """Read a target.  Raises `ProtocolError`."""
        found = _FORM.fullmatch(raw.decode("ascii", "replace"))
        if found is None or len(raw) > MAX_TARGET:
            raise ProtocolError(f"channel target '{escape(raw)}' of a peer: no hop")
        return cls(int(found["session"]), found["place"])


def may_visit(remote: Remote, visitor: Visitor) -> bool:
    """Return whether the client's own rules for a remote let a visitor in."""
    return EVERYBODY.limited_to(remote.options.allow).admits(visitor.host)
