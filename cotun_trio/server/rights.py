"""The rights of a client: all of the rules, on one page.

A client asks for remotes, with its config request or with another list later, and for the target of
each channel.  These decide, in this order, and each can refuse:

1. The remotes: no channel is opened before they have been accepted.
2. The settings: ``--reverse``, ``--socks5`` and ``--unix`` are off by default.
3. The user's access list, see `cotun_trio.access.access_list`.  The targets of SOCKS clients are
   checked as well.  With ``--check-addresses``, so are the addresses that the name of a target
   leads to, each before it is dialled.
4. The hook of the program that embeds the server, see `cotun_trio.server.authorisation`.

An access list can change at any time.  Then `Rights.still_allows` says which connections go on, and
`Rights.allows` which reverse remotes.  Nothing here waits, except for the hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.errors import ConfigRefused, NotNow
from cotun_trio.escape import escape
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.access.users import User, Users
    from cotun_trio.forwards.flows import Flow
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.protocol.remote_options import ProxyVersion
    from cotun_trio.server.authorisation import Authorisation
    from cotun_trio.settings import ServerSettings


class Rights:
    """The rights of one client, which comes from `host`.  `authorisation` is the hook, if any."""

    def __init__(
        self, settings: ServerSettings, host: str, authorisation: Authorisation | None
    ) -> None:
        self._settings = settings
        self._host = host
        self._authorisation = authorisation
        self._user: User | None = None
        self._has_remotes = False

    @property
    def user(self) -> User | None:
        """The user that has logged in, as the users file has it at present."""
        return self._user

    @property
    def is_peer(self) -> bool:
        """Whether it is another server of the fleet."""
        return self._user is not None and self._user.is_peer

    def log_in(self, user: User) -> None:
        """The client is this user: from its login on, and again when the users file changes."""
        self._user = user

    def users_changed(self, users: Users) -> str | None:
        """Take what the users file has now; return why the client may not stay, None if it may."""
        before = self._user
        if before is None or before.is_peer:
            return None
        user = users.find(before.name)
        if user is None or user.secret != before.secret:
            what = "has been removed" if user is None else "has a new password"
            return f"the user '{escape(before.name)}' {what}"
        self._user = user
        return None

    def accept(self) -> None:
        """The client's remotes have been accepted."""
        self._has_remotes = True

    # ---- remotes

    def check_remotes(self, remotes: Iterable[Remote]) -> None:
        """Raise `ConfigRefused` for the first remote that the client may not have."""
        for remote in remotes:
            if (reason := self._refuses_remote(remote)) is not None:
                raise ConfigRefused(reason)

    def _refuses_remote(self, remote: Remote) -> str | None:
        # Go's words, where Go has them.
        if not self.allows(remote):
            return _denied(remote.access_address)
        if remote.reverse and not self._settings.reverse:
            return "Reverse port forwarding not enabled on server"
        if remote.socks and not remote.reverse and not self._settings.socks5:
            return "SOCKS5 is not enabled on server"
        path_here = remote.local_path if remote.reverse else remote.remote_path
        if path_here and not self._settings.unix:
            return "Unix sockets are not enabled on server"
        return None

    async def ask_for_remotes(self, remotes: Iterable[Remote], log: Context) -> None:
        """Ask the hook.  Raises `ConfigRefused` for the first remote that it refuses, `NotNow` for
        one that it cannot decide about.
        """
        for remote in remotes:
            if (reason := await self._ask_hook(remote.access_address, log)) is not None:
                raise ConfigRefused(reason)

    # ---- targets of channels

    def refuses(self, target: Target) -> str | None:
        """Return why the client may not have a channel to `target`; None if it may."""
        if not self._has_remotes:
            return "no channel before the config request is accepted"
        if target.socks and not self._settings.socks5:
            return "SOCKS5 is not enabled"
        if target.path and not self._settings.unix:
            return "Unix sockets are not enabled"
        return None if self._allows_target(target) else _denied(target.access_address)

    @property
    def asks_first(self) -> bool:
        """Whether `ask` has to be called for each connection: it may take time."""
        return self._authorisation is not None

    async def ask(self, target: Target, log: Context) -> str | None:
        """Ask the hook for a target; return why the client may not have it, None if it may."""
        if self._authorisation is None:
            return None
        try:
            reason = await self._ask_hook(target.access_address, log)
        except NotNow as error:
            return str(error)
        if reason is not None:
            return reason
        # The access list may have changed meanwhile.
        allowed = self._allows_target(target) or self.allows_by_socks(target)
        return None if allowed else _denied(target.access_address)

    async def _ask_hook(self, address: str, log: Context) -> str | None:
        if self._authorisation is None:
            return None
        name = "" if self._user is None else self._user.name
        timeout = self._settings.timings.dial_timeout
        return await self._authorisation.refusal(
            name, self._host, address, timeout=timeout, log=log
        )

    # ---- the access list

    def allows(self, asked: Remote | Target) -> bool:
        """Return whether the access list allows a remote or a target."""
        if isinstance(asked, Remote) and asked.reverse:
            return self._user is not None and self._user.access.allows(asked.access_address)
        return self._allows_target(asked.target if isinstance(asked, Remote) else asked)

    def allows_by_socks(self, target: Target) -> bool:
        """Return whether the access list lets the client's SOCKS clients connect to `target`."""
        return self._user is not None and self._user.access.allows_by_socks(target.access_address)

    def address_check(self, target: Target, log: Context, *, by_socks: bool) -> AddressCheck | None:
        """Return the check of the addresses that the name of `target` leads to; None for none.

        It tells `log` of each address that the access list does not allow.
        """
        if not self._settings.check_addresses:
            return None

        def allows(address: str) -> bool:
            dialled = Target(address, target.port, udp=target.udp)
            allowed = self.allows_by_socks(dialled) if by_socks else self._allows_target(dialled)
            if not allowed:
                log.info("'%s' leads to %s, which is not allowed", target, dialled)
            return allowed

        return allows

    def _allows_target(self, target: Target) -> bool:
        if self._user is None:
            return False
        if self._user.access.allows(target.access_address):
            return True
        # The datagrams of a SOCKS association come by UDP channels of their own (RFC 1928
        # section 7), of which the client has the address only when they are sent.
        return target.udp and self._settings.socks5 and self.allows_by_socks(target)

    def header_for(self, target: Target) -> ProxyVersion:  # noqa: ARG002
        """Return none: the client, which knows its remotes, sends what the target gets first."""
        return ""

    def still_allows(self, flow: Flow) -> bool:
        """Return whether the access list allows the target of `flow`."""
        if flow.by_socks is not None:
            return self.allows_by_socks(flow.by_socks)
        return self.allows(flow.uses)


def _denied(address: str) -> str:
    return f"access to '{address}' denied"
