"""The other servers of a fleet, as a server sees them: they log in to pass visitors on.

A visitor is a program that connects to a reverse remote.  One that arrives at another server than
its client takes one hop, as a channel of an ordinary session between the two servers.  A peer has
no other rights.  The fleet itself is a floor above (`cotun_trio.fleet`); without one, there are
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cotun_trio.access.users import User
    from cotun_trio.session import Session
    from cotun_trio.ssh.openings import IncomingOpen


class Peers(Protocol):
    """The other servers of the fleet."""

    def knows(self, name: str) -> bool:
        """Return whether a login with this name is one of a peer."""

    def verify(self, name: str, password: str) -> User | None:
        """Return the peer that logs in, as a user with `User.is_peer`; None if it is none."""

    def pass_on(self, session: Session, opening: IncomingOpen) -> None:
        """Carry a visitor whom a peer passes on by its `session`, or refuse the opening."""


class NoPeers:
    """There is no fleet; see `Peers`."""

    def knows(self, name: str) -> bool:  # noqa: ARG002
        """See `Peers`."""
        return False

    def verify(self, name: str, password: str) -> User | None:  # noqa: ARG002
        """See `Peers`."""
        return None

    def pass_on(self, session: Session, opening: IncomingOpen) -> None:
        """See `Peers`: nobody can ask for it."""


NO_PEERS = NoPeers()
