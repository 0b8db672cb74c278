"""The addresses of a UDP target's name, and the order in which they are tried.

UDP has no handshake, so only an answer says that an address is right.  The one that has answered
comes first; one that was silent comes last.
"""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING

import trio

from cotun_trio.net.dial import address_family, checked, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.net.names import Address, Share

RESOLVED_FOR = 60.0
"""Seconds for which the addresses of a name are used for new flows."""


class TargetAddresses:
    """The addresses of `host`, a name or an address without brackets, that `check` allows."""

    def __init__(self, host: str, check: AddressCheck | None = None) -> None:
        self._host = host
        self._check = check
        self._resolving = trio.Lock()
        self._addresses: list[Address] = []  # in the order in which they are tried
        self._answered: Address | None = None
        self._known_until = -math.inf
        if (family := address_family(host)) is not None:
            self._addresses, self._known_until = [(family, host)], math.inf

    def __len__(self) -> int:
        return len(self._addresses)

    def known(self) -> Sequence[Address] | None:
        """Return them, the first one to try first; None where the name has to be looked up
        (again)."""
        return self._addresses if trio.current_time() < self._known_until else None

    async def resolve(self, share: Share | None) -> Sequence[Address]:
        """Look the name up, once for all that wait for it.

        It counts in `share`.  Raises `Shortage`, or `OSError`, which has a `strerror`.
        """
        async with self._resolving:
            if self.known() is None:
                found = await resolve(self._host, socket.SOCK_DGRAM, share=share)
                self._addresses = checked(found, self._host, self._check)
                self._known_until = trio.current_time() + RESOLVED_FOR
                self._order()
            return self._addresses

    def answered(self, address: Address | None) -> None:
        """Note that something has come from `address`."""
        self._answered = address
        self._order()

    def was_silent(self, address: Address | None) -> None:
        """Note that nothing has come from `address`."""
        if address == self._answered:
            self._answered = None
        if address in self._addresses[:-1]:
            self._addresses = [*(each for each in self._addresses if each != address), address]

    def _order(self) -> None:
        best = self._answered
        if best in self._addresses[1:]:
            self._addresses = [best, *(each for each in self._addresses if each != best)]
