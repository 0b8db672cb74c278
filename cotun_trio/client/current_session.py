"""The client's open session, of which there is one at a time, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from cotun_trio.client.session import ClientSession


class CurrentSession:
    """Knows the open session, and wakes the tasks that wait for one."""

    def __init__(self) -> None:
        self._session: ClientSession | None = None
        self._opened = trio.Event()  # set while there is one

    @property
    def now(self) -> ClientSession | None:
        """The open session; None where there is none."""
        return self._session

    async def wait(self) -> ClientSession:
        """Return the open session; wait for one as long as it takes."""
        while self._session is None:
            await self._opened.wait()
        return self._session

    def begin(self, session: ClientSession) -> None:
        """This is the open session from now on."""
        self._session = session
        self._opened.set()

    def end(self, session: ClientSession) -> bool:
        """The session takes no more connections; return whether it was the open one."""
        if self._session is not session:
            return False
        self._session = None
        self._opened = trio.Event()
        return True
