"""The login of a node at its peer: a credential for that peer alone, made from the fleet's key.

The key is a secret of all nodes, and no node sends it to anybody.  The password is a digest of it
(HMAC, RFC 2104) with the host key's fingerprint of the peer and the node's own id.  So it is good
for one peer only, by one node only: an attacker who writes a false node into the directory gets a
password that opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from cotun_trio.access.access_list import AccessList
from cotun_trio.access.credentials import Credentials
from cotun_trio.access.files import read_named
from cotun_trio.access.passwords import Secret
from cotun_trio.access.users import User
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from cotun_trio.access.users import Users

PREFIX = "fleet:"
"""Begins the user name of a node.  No user of a users file has a colon in its name."""
MIN_KEY = 32
"""Bytes of a key at the least: as much text as 128 random bits take in hexadecimal digits."""
MAX_KEY = 1024
NAME = "the fleet's key file"


class FleetKey:
    """The secret of a fleet, which cannot be printed."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def read(cls, path: str) -> FleetKey:
        """Read the first line of a file.

        Raises `UsageError` where it cannot be read, others can change it, or it is too short.
        """
        key = read_named(NAME, path, most=MAX_KEY, secret=True, first_line=True).data.strip()
        if len(key) < MIN_KEY:
            shown = escape(path)
            raise UsageError(
                f"{NAME} {shown} has less than {MIN_KEY} characters: make one with "
                f"openssl rand -hex 32 > {shown}, and give it to all nodes"
            )
        return cls(key)

    def credentials(self, node: str, fingerprint: str) -> Credentials:
        """Return the user and the password of `node` at the peer with this `fingerprint`."""
        message = f"cotun-trio fleet\n{node}\n{fingerprint}".encode()
        return Credentials(f"{PREFIX}{node}", hmac.digest(self._key, message, hashlib.sha256).hex())

    def digest(self, users: Users) -> str:
        """Return a digest of users, to compare them with those of another node."""
        return users.digest(self._key)

    def verify(self, name: str, password: str, fingerprint: str) -> User | None:
        """Return the node that logs in by this user name at the peer with this `fingerprint`.

        None where the password is another one.
        """
        wanted = self.credentials(name.removeprefix(PREFIX), fingerprint).password
        if not hmac.compare_digest(password.encode("utf-8", "replace"), wanted.encode()):
            return None
        nothing = AccessList(())  # it may ask for hops, which is no right of a user
        return User(name, Secret.parse(secrets.token_hex()), nothing, is_peer=True)


def is_node(name: str) -> bool:
    """Return whether a user name is one of a node."""
    return name.startswith(PREFIX)
