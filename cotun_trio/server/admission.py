"""The admission of a client: its login, and its place among the sessions of its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from cotun_trio.errors import Refused
from cotun_trio.escape import escape
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    from cotun_trio.access.startups import Startup
    from cotun_trio.access.user_sessions import UserSession, UserSessions
    from cotun_trio.logs import Context
    from cotun_trio.server.logins import Logins
    from cotun_trio.server.rights import Rights
    from cotun_trio.ssh.connection import Connection
    from cotun_trio.websocket.wire_protocol import WireProtocol


class Applicant(Protocol):
    """The session of a client that logs in."""

    host: str
    log: Context
    rights: Rights
    wire: WireProtocol
    connection: Connection

    @property
    def peer_identity(self) -> tuple[str, str]:
        """See `cotun_trio.session.Session.peer_identity`."""


class Admission:
    """Admits the client of a session, whose place among connections without a login is `startup`.

    `logins` judge, and `user_sessions` are all sessions by their users.
    """

    def __init__(
        self, session: Applicant, startup: Startup, logins: Logins, user_sessions: UserSessions
    ) -> None:
        self._session = session
        self._startup = startup
        self._logins = logins
        self._user_sessions = user_sessions
        self._place: UserSession | None = None

    async def judge(self, user: str, password: str) -> bool:
        """Return whether the client may come in; then it has the user's rights.

        Raises `Refused` where the user has too many sessions, or there were too many failures.
        """
        session = self._session
        try:
            known = await self._logins.judge(session.host, user, password, session.log)
        except Refused as error:
            self._too_many(error)
        if known is None:
            return False
        session.rights.log_in(known)
        self._take_place()
        self._startup.leave()
        return True

    def leave(self) -> None:
        """Give the place back: the session has ended."""
        if self._place is not None:
            self._place.leave()

    def _take_place(self) -> None:
        kind, name = self._session.peer_identity
        self._place = self._user_sessions.enter(
            f"{kind} {name}", limited=kind == "user", scarce=self._session.wire.in_reserve
        )
        if self._place is None:
            self._too_many(Refused(f"too many sessions of the {kind} '{escape(name)}'"))

    def _too_many(self, refusal: Refused) -> NoReturn:
        """End the connection because of `refusal`, and raise it.

        Not as a wrong password or a refused config, after which clients do not try again.
        """
        reason = messages.DISCONNECT_TOO_MANY_CONNECTIONS
        self._session.connection.disconnect(reason, str(refusal))
        raise refusal
