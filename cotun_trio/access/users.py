"""The users of a server: the check of a login, and the access list of each."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import attrs

from cotun_trio.access.access_list import EVERYTHING
from cotun_trio.access.passwords import Secret, decoy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.access.access_list import AccessList
    from cotun_trio.access.passwords import Cost


@attrs.frozen
class User:
    """A user of a server: a name, a password, and an access list."""

    name: str
    secret: Secret = attrs.field(repr=False)
    access: AccessList = EVERYTHING
    is_peer: bool = False
    """Whether it is another server of the same fleet, and nobody of the users file."""


class Users:
    """The users of a server.  Without any, everybody is let in, as by the Go programs."""

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._by_name = {user.name: user for user in users}
        self._nobody = Secret.parse(secrets.token_hex())
        self.costs: frozenset[Cost] = frozenset(
            cost for user in self._by_name.values() if (cost := user.secret.cost) is not None
        )
        """The costs of all hashes in use.  Where this is empty, no check takes time."""

    @property
    def everybody(self) -> bool:
        """Whether everybody is let in."""
        return not self._by_name

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> User | None:
        """Return the user `name`, if there is one."""
        return User(name, self._nobody) if self.everybody else self._by_name.get(name)

    def verify(self, name: str, password: str) -> User | None:
        """Return the user `name` if this is the password, and None if not.

        A hash of every cost in use is checked, against a decoy where the user has none of it.  So
        every answer takes the same time, whether there is such a user or not, and with every kind
        of password.  That time is tens of milliseconds for each of `costs`; the hashes let other
        threads run meanwhile.
        """
        if self.everybody:
            return self.find(name)
        user = self._by_name.get(name)
        secret = self._nobody if user is None else user.secret
        for cost in self.costs - {secret.cost}:
            decoy(cost).matches(password)
        return user if secret.matches(password) else None
