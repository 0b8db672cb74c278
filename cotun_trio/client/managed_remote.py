"""One remote of a client, and how it is getting on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.places import Places
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.protocol.remote import Remote


class ManagedRemote:
    """A remote that comes and goes.

    `inbox` takes its connections where they end in this process, `traffic` counts them, and
    `is_basic` says that it goes to servers with the config request.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        inbox: Inbox | None = None,
        traffic: Traffic | None = None,
        is_basic: bool = False,
    ) -> None:
        self.remote = remote
        self.inbox = inbox
        self.traffic = traffic
        self.is_basic = is_basic
        self.listener: Listener | None = None
        """The one here, if it is not the server that listens."""
        self.settled = trio.Event()
        """Set when a server has accepted it, or all that are there have refused it."""
        self.failure: CotunError | None = None
        """The reason for which all have refused it, once it is settled."""
        self.refusal: CotunError | None = None
        """The latest answer of a server, where that was no."""

    async def listen(self, places: Places) -> Listener:
        """Open its listener here.  Raises `UsageError`."""
        self.listener = await places.open_listener(self.remote)
        return self.listener

    def settle(self, failure: CotunError | None) -> None:
        """Note what has come of it at first."""
        self.failure = failure
        self.settled.set()

    def close(self) -> None:
        """Listen no more here, and take no more connections.  Can be called again."""
        if self.inbox is not None:
            self.inbox.close()
        if self.listener is not None:
            self.listener.close()
