"""A remote of a client, and how it is getting on; and the listeners of several, all or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.places import Places
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.logs import Context
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

    def stop_listening(self) -> None:
        """Close its listener here, so that it may be opened again.  Can be called again."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

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


async def listen(items: Sequence[ManagedRemote], places: Places, log: Context) -> None:
    """Open the listeners of local remotes here.  Raises `UsageError`, and then none is open."""
    try:
        for item in items:
            item.listener = await places.open_listener(item.remote)
    except UsageError:
        for item in items:
            item.stop_listening()
        raise
    for item in items:
        for address in item.listener.addresses if item.listener else ():
            facts = {"address": address, "remote": item.remote}
            log.info("Listening on %s for %s", address, item.remote, extra={"facts": facts})
