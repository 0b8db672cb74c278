"""The remotes of a client, as its server has accepted them, with the listeners of the reverse ones.

They come with the config request, and can be replaced later: all of the new ones are accepted, or
nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from cotun_trio.errors import SameServer
from cotun_trio.escape import escape
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.server.reverse_listeners import ListenerOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from cotun_trio.forwards.flows import Flows
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.logs import Context
    from cotun_trio.protocol.config import Config
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.server.reverse_listeners import Listeners
    from cotun_trio.server.rights import Rights

SHOWN_REMOTES = 2000
"""Characters of a client's remotes in a log line."""


class Holder(ListenerOwner, Protocol):
    """The session of the client."""

    flows: Flows

    @property
    def log(self) -> Context:
        """The log for the client."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run `function` as a child of the session."""

    async def serve_listener(self, listener: Listener) -> None:
        """Carry connections to a listener to the client."""


class ClientRemotes:
    """The remotes of one client, whose session is `holder`."""

    def __init__(self, holder: Holder, rights: Rights, listeners: Listeners) -> None:
        self.accepted: tuple[Remote, ...] = ()
        """Current remotes."""
        self._holder = holder
        self._rights = rights
        self._listeners = listeners
        self._changing = trio.Lock()

    @property
    def listening(self) -> list[Remote]:
        """The reverse remotes for which there is a listener."""
        return [listener.remote for listener in self._listeners.held_by(self._holder)]

    async def open(self, config: Config, node: str) -> ConfigReply:
        """Accept the first ones, and listen; say so in the log, and return the answer.

        `node` is the server's identity.  Raises `CotunError` where the client may not have one of
        them, or cannot have it.
        """
        if node in config.nodes:  # before the listeners of the other session are taken over
            raise SameServer("the client has another session with this server")
        remotes = config.remotes
        self._rights.check_remotes(remotes)
        await self._rights.ask_for_remotes(remotes, self._holder.log)
        listeners = await self._listeners.open(self._holder, _reverse(remotes))
        self._rights.check_remotes(remotes)  # the client may have fewer rights by now
        self.accepted = remotes
        self._rights.accept()
        addresses = tuple(address for listener in listeners for address in listener.addresses)
        listening = f", listening on {', '.join(addresses)}" if addresses else ""
        self._holder.log.info(
            "open, client %s, remotes: %s%s",
            escape(config.version),
            _show(remotes),
            escape(listening, SHOWN_REMOTES),
        )
        self._holder.log.event("opened", version=escape(config.version), remotes=_show(remotes))
        return attrs.evolve(self._serve(listeners, listeners), node=node)

    async def change(self, config: Config) -> ConfigReply:
        """Accept others in their place, and cut connections of remotes that are gone; return the
        answer.

        Raises `CotunError`, and then nothing has changed.
        """
        async with self._changing:
            remotes = config.remotes
            self._rights.check_remotes(remotes)
            new = [remote for remote in remotes if remote not in self.accepted]
            await self._rights.ask_for_remotes(new, self._holder.log)
            self._rights.check_remotes(remotes)  # the client may have fewer rights by now
            change = await self._listeners.change(self._holder, _reverse(remotes))
            self.accepted = remotes
            # The very ones: another with the same words, on a port of its own, is not meant.
            closed = set(map(id, change.closed))
            self._holder.flows.cut(lambda flow: id(flow.uses) not in closed)
            self._holder.log.info("other remotes: %s", _show(remotes))
            return self._serve(change.listeners, change.opened)

    def narrow(self) -> None:
        """The client has fewer rights: close listeners and cut connections that it has no right
        to."""
        log = self._holder.log
        for remote in self._listeners.narrow(self._holder, self._rights.allows):
            log.warning("no longer listening for %s: access denied", remote)
        if count := self._holder.flows.cut(self._rights.still_allows):
            log.warning("cut %d of its connections: access denied", count)

    def _serve(self, listeners: Sequence[Listener], new: Sequence[Listener]) -> ConfigReply:
        """Begin to serve the `new` ones; return where all of them listen."""
        for listener in new:
            self._holder.start_soon(self._holder.serve_listener, listener)
        return ConfigReply(tuple(listener.addresses[0] for listener in listeners))


def _reverse(remotes: Sequence[Remote]) -> list[Remote]:
    return [remote for remote in remotes if remote.reverse]


def _show(remotes: Sequence[Remote]) -> str:
    return escape(", ".join(map(str, remotes)) or "none", SHOWN_REMOTES)
