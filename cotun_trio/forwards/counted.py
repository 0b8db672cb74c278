"""An open session for one flow, which is told of its channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from cotun_trio.errors import CotunError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.forwards.flows import Flow, Flows
    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.net.names import Share
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import OutgoingOpen


@attrs.frozen
class Counted:
    """An `OpenSession` for one flow: channels that are opened by it are the flow's, and counted
    where the flow has counters."""

    session: OpenSession
    flow: Flow

    @property
    def connection(self) -> Counted:
        """See `OpenSession`."""
        return self

    @property
    def flows(self) -> Flows:
        """See `OpenSession`."""
        return self.session.flows

    @property
    def share(self) -> Share:
        """See `OpenSession`."""
        return self.session.share

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """See `Connection.ask`."""
        return self.session.connection.ask(extra, opened)

    async def open_channel(self, extra: bytes) -> Channel:
        """See `Connection.open_channel`."""
        return await self.answer(self.ask(extra))

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """See `Connection.answer`."""
        try:
            channel = await self.session.connection.answer(pending)
        except CotunError as error:
            if self.flow.traffic is not None:
                self.flow.traffic.failed(str(error))
            raise
        self.flow.carries(channel)
        return channel

    def fail(self, failure: CotunError) -> None:
        """See `OpenSession`."""
        self.session.fail(failure)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """See `OpenSession`."""
        self.session.start_soon(function, *args)
