"""The client behind the API: a `Client`, and the events of all that happens to it."""

from __future__ import annotations

import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import attrs

from cotun_trio.api.events import Connected, Events, ForwardFailed, Lost
from cotun_trio.api.forwards import Forward
from cotun_trio.client.client import Client
from cotun_trio.client.managed_remote import ManagedRemote
from cotun_trio.errors import UsageError
from cotun_trio.forwards.traffic import Traffic
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.common_targets import check_common_targets
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.remote_options import RemoteOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import trio

    from cotun_trio.client.session import ClientSession
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.places import Places
    from cotun_trio.protocol.networks import Network
    from cotun_trio.settings import ClientSettings


def inbox_remote(host: str, port: int, allow: Iterable[Network | str] = ()) -> Remote:
    """Return a reverse remote whose connections, from visitors of `allow`, end in this process.

    Its target is a host that nobody has (RFC 6761 section 6.4).  Raises `UsageError`.
    """
    try:
        return Remote.build(
            local_host=host,
            local_port=port,
            remote_host=f"{secrets.token_hex(8)}.cotun-trio.invalid",
            remote_port=1,
            reverse=True,
            options=RemoteOptions(allow=allow),
        )
    except RemoteError as error:
        raise UsageError(str(error)) from None


class EmbeddedClient:
    """A client inside of a user's program, which watches it by `events`.

    `inboxes` are for those remotes of `settings` whose connections end in this process; `uplink`
    and `places` are as for `Client`.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        uplink: AnyUplink | None = None,
        places: Places | None = None,
        inboxes: Mapping[Remote, Inbox] = MappingProxyType({}),
    ) -> None:
        self.events = Events()
        self._forwards: WeakValueDictionary[ManagedRemote, Forward] = WeakValueDictionary()
        self.last_failure: CotunError | None = None
        """Why the last attempt or session ended."""
        items = [self._manage(r, inboxes.get(r), is_basic=True) for r in settings.remotes]
        self.client = Client(settings, remotes=items, watcher=self, uplink=uplink, places=places)
        self._unclaimed = [item for item in items if item.inbox is not None]

    def _manage(
        self, remote: Remote, inbox: Inbox | None, *, is_basic: bool = False
    ) -> ManagedRemote:
        def failed(reason: str) -> None:
            if inbox is None:
                self.events.publish(ForwardFailed(self.forward_of(item), reason))

        item = ManagedRemote(remote, inbox=inbox, traffic=Traffic(failed), is_basic=is_basic)
        return item

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """See `Client.run`; the events end with it."""
        try:
            await self.client.run(task_status=task_status)
        finally:
            self.client.remotes.end()
            self.events.end()

    # ---- remotes

    async def add(self, remote: Remote, inbox: Inbox | None = None) -> ManagedRemote:
        """Begin with a remote; see `Remotes.add`."""
        check_common_targets([*(each.remote for each in self.client.remotes.items), remote])
        item = self._manage(remote, inbox)
        await self.client.remotes.add(item)
        return item

    def claim(self, remote: Remote) -> ManagedRemote | None:
        """Return what it was opened with to listen where `remote` does, and for the same visitors,
        for this process; only once."""
        for item in self._unclaimed:
            if attrs.evolve(item.remote, remote_host=remote.remote_host) == remote:
                self._unclaimed.remove(item)
                return item
        return None

    def forward_of(self, item: ManagedRemote) -> Forward:
        """Return a remote as its owner sees it."""
        # The same one each time, as long as a caller has it.
        forward = self._forwards.get(item)
        if forward is None:
            forward = self._forwards[item] = Forward(self.client.remotes, item)
        return forward

    @property
    def forwards(self) -> tuple[Forward, ...]:
        """Current remotes, except those whose connections end in this process."""
        items = self.client.remotes.items
        return tuple(self.forward_of(item) for item in items if item.inbox is None)

    # ---- as the watcher of the client

    def connected(self, session: ClientSession) -> None:
        """See `cotun_trio.client.client.Watcher`."""
        self.events.publish(Connected(str(session.url), session.latency))

    def lost(self, failure: CotunError, seconds: float) -> None:
        """See `cotun_trio.client.client.Watcher`."""
        self.last_failure = failure
        self.events.publish(Lost(str(failure), seconds))
