"""The client's open sessions: as many as it has connections, or fewer, or none.

A new connection goes to the session that carries the fewest, and to each in turn where they carry
the same.  A session that has ended, or is about to, is none of these.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cotun_trio.client.session import ClientSession

TURN = 2.0
"""Seconds that a session waits for the server of another one to accept the remotes.  Most servers
take a round trip; one whose hook does not answer must not keep the others waiting.  At worst, two
sessions are at one server then, until one of them ends."""


class OpenSessions:
    """Knows the open sessions, of which there should be so many, and wakes the tasks that wait for
    one."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._sessions: list[ClientSession] = []  # the one that was chosen last is the last
        self._opened = trio.Event()  # set while there is one
        self._asking = trio.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ClientSession]:
        return iter(tuple(self._sessions))

    def __str__(self) -> str:
        if self._wanted == 1 and self._sessions:
            return f"Connected to {self._sessions[0].url}"
        return f"Connected to {len(self)} of {self._wanted} servers"

    def choose(self) -> ClientSession | None:
        """Return the session for a new connection; None where there is none."""
        sessions = self._sessions
        if len(sessions) < 2:
            return sessions[0] if sessions else None
        chosen = min(sessions, key=lambda session: session.flows.count)
        sessions.remove(chosen)
        sessions.append(chosen)
        return chosen

    def steady_choice(self) -> Callable[[], ClientSession | None]:
        """Return a function that chooses the same session each time, as long as it is open.

        It is for datagrams: they have one channel for all of a listener.
        """
        chosen: ClientSession | None = None

        def choose() -> ClientSession | None:
            nonlocal chosen
            if chosen is None or chosen not in self._sessions:
                chosen = self.choose()
            return chosen

        return choose

    async def wait(self) -> ClientSession:
        """Return the session for a new connection; wait for one as long as it takes."""
        while (session := self.choose()) is None:
            await self._opened.wait()
        return session

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[tuple[str, ...]]:
        """Give the servers of all sessions, for the config request of another one.

        In the block, the request is made and answered.  Others wait for that, up to `TURN`: so two
        of them that lead to the same server do not both miss each other there.
        """
        has_turn = False
        with trio.move_on_after(TURN):
            await self._asking.acquire()
            has_turn = True
        try:
            yield tuple(session.node for session in self._sessions if session.node)
        finally:
            if has_turn:
                self._asking.release()

    def begin(self, session: ClientSession) -> None:
        """The session is open from now on."""
        self._sessions.append(session)
        self._opened.set()

    def end(self, session: ClientSession) -> bool:
        """The session takes no more connections; return whether it was open."""
        if session not in self._sessions:
            return False
        self._sessions.remove(session)
        if not self._sessions:
            self._opened = trio.Event()
        return True
