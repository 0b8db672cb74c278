"""The rights of a server towards a client: targets of the user's reverse remotes, no others.

All other channels are refused, since the network around the client is the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cotun_trio.forwards.flows import Flow
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote_options import ProxyVersion

SOCKS = Target("", 0, socks=True)


class Declared(Protocol):
    """The remotes of a client."""

    @property
    def declared(self) -> Mapping[Target, ProxyVersion]:
        """The targets that servers may open channels to, each with the version of the PROXY header
        in front of its connections."""

    def has(self, remote: Remote) -> bool:
        """Return whether it is one of these: the very object."""


class DeclaredOnly:
    """The rights of a server that a client with these `remotes` is connected to."""

    asks_first = False

    def __init__(self, remotes: Declared) -> None:
        self._remotes = remotes

    def refuses(self, target: Target) -> str | None:
        """Return why the server may not have a channel to `target`; None if it may."""
        declared = self._remotes.declared
        # The datagrams of a SOCKS association come by UDP channels of their own.
        if target in declared or (target.udp and SOCKS in declared):
            return None
        return "this client has no reverse remote for it"

    async def ask(self, target: Target, log: Context) -> str | None:  # noqa: ARG002
        """Return None: there is no hook."""
        return None

    def allows_by_socks(self, target: Target) -> bool:  # noqa: ARG002
        """Return True: a user who declares SOCKS allows every target."""
        return True

    def address_check(self, target: Target, log: Context, *, by_socks: bool) -> None:
        """Return None: the user named the target."""

    def header_for(self, target: Target) -> ProxyVersion:
        """Return the version of the PROXY header that the user wants for `target`."""
        return self._remotes.declared.get(target, "")

    def still_allows(self, flow: Flow) -> bool:
        """Return whether there is a remote for `flow` at present."""
        uses = flow.uses
        if isinstance(uses, Remote):
            return self._remotes.has(uses)
        return self.refuses(uses) is None
