"""Passwords as a users file has them: plain, or hashed by bcrypt or argon2id.

What looks like a hash is one, or an error, and never a plain password: a hash of a kind that we do
not know, taken for a password, would let whoever has read the file log in with it.

The libraries let other threads run while they hash, so that belongs into one.
"""

from __future__ import annotations

import base64
import functools
import hmac
import re
import secrets
from hashlib import blake2b
from typing import Literal, TypeAlias

import attrs
import bcrypt
from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cotun_trio.errors import UsageError

Scheme: TypeAlias = Literal["argon2id", "bcrypt"]
Cost: TypeAlias = tuple[str, ...]
"""What the time of a check depends on; equal for hashes that take the same."""

BCRYPT_ROUNDS = 12
"""2¹² rounds, some 0.2 s: the least that is common today."""
MAX_BCRYPT_ROUNDS = 16
BCRYPT_OCTETS = 72
"""Of a password; bcrypt does not look at more."""
ARGON2_MEMORY, ARGON2_PASSES, ARGON2_LANES = 19_456, 2, 1
"""KiB, passes and lanes: the second recommendation of OWASP's Password Storage Cheat Sheet, some
20 ms.  A server may have to check many at a time."""
MAX_ARGON2 = (1024 * 1024, 64, 64)
"""1 GiB and a minute for each login would serve nobody but an attacker."""

_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})"
)
# crypt(5) and what else is found in such files.
_HASH = re.compile(r"\$(1|2[a-z]?|3|5|6|7|8|y|gy|md5|sha1|apr1|argon2\w*|scrypt|pbkdf2[\w-]*)[$,]")
_KEY = secrets.token_bytes(32)


@attrs.frozen
class Secret:
    """What a password is held against.  Two are equal when their texts are."""

    _text: str = attrs.field(repr=False)
    cost: Cost | None = None
    """None for a plain password: its check takes no time."""

    @classmethod
    def parse(cls, text: str) -> Secret:
        """Read a plain password or a hash.

        Raises `UsageError`, which shows nothing of it, for a hash that is damaged, of a kind or a
        cost that we do not take, or not to be had here.
        """
        if found := _BCRYPT.fullmatch(text):
            if not 4 <= int(found[1]) <= MAX_BCRYPT_ROUNDS:
                raise UsageError(f"a bcrypt hash has a cost of 4 to {MAX_BCRYPT_ROUNDS}")
            return cls(text, ("bcrypt", found[1]))
        if found := _ARGON2.fullmatch(text):
            return cls(text, _argon2_cost(found))
        if _HASH.match(text):
            raise UsageError(
                "the password looks like a hash, but not like one of bcrypt or argon2id: make one "
                "by cotun-trio hash-password"
            )
        return cls(text)

    def matches(self, password: str) -> bool:
        """Return whether `password` is the right one.

        Takes tens of milliseconds where there is a `cost`, whatever the password.
        """
        try:
            octets = password.encode()
        except UnicodeEncodeError:
            return False
        if self.cost is None:
            # Digests have the same length, whatever the passwords have.
            return hmac.compare_digest(_digest(octets), _digest(self._text.encode()))
        if self.cost[0] == "bcrypt":
            right = bcrypt.checkpw(octets[:BCRYPT_OCTETS], self._text.encode("ascii"))
            return right and len(octets) <= BCRYPT_OCTETS
        try:
            Argon2id.verify_phc_encoded(octets, self._text)
        except InvalidKey:
            return False
        return True


def _digest(octets: bytes) -> bytes:
    return blake2b(octets, key=_KEY).digest()


def _argon2_cost(found: re.Match[str]) -> Cost:
    memory, passes, lanes, salt, value = found.groups()
    least = (8 * int(lanes), 1, 1)
    given = (int(memory), int(passes), int(lanes))
    if not all(low <= n <= high for low, n, high in zip(least, given, MAX_ARGON2, strict=True)):
        raise UsageError("the argon2id hash has its memory, passes or lanes out of bounds")
    if 1 in (len(salt) % 4, len(value) % 4):
        raise UsageError("the argon2id hash is damaged")  # not base64, of whatever
    _check_argon2()
    return ("argon2id", memory, passes, lanes)


@functools.cache
def _check_argon2() -> None:
    """Raise `UsageError` where argon2id cannot be had: better now than when somebody logs in."""
    try:
        Argon2id(salt=bytes(16), length=16, iterations=1, lanes=1, memory_cost=8).derive(b"")
    except UnsupportedAlgorithm:
        raise UsageError(
            "this build of the cryptography package has no argon2id: take bcrypt"
        ) from None


def decoy(cost: Cost) -> Secret:
    """Return a secret that takes as long as others of this `cost`, and that nobody knows."""
    if cost[0] == "bcrypt":
        # 31 octets are 42 characters, of which the last stands for two bits only.
        salt = bcrypt.gensalt(int(cost[1])).decode("ascii")
        return Secret(salt + secrets.token_hex(16)[:30] + ".", cost)
    _, memory, passes, lanes = cost
    salt, value = _unpadded(secrets.token_bytes(16)), _unpadded(secrets.token_bytes(32))
    return Secret(f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${value}", cost)


def _unpadded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def hash_password(password: str, scheme: Scheme = "argon2id") -> str:
    """Return the hash of `password` as a users file takes it.

    Raises `UsageError` for a password that bcrypt would cut, and where argon2id cannot be had.
    """
    octets = password.encode()
    if scheme == "bcrypt":
        if len(octets) > BCRYPT_OCTETS:
            raise UsageError(
                f"bcrypt looks at {BCRYPT_OCTETS} octets of a password, and this has more: "
                "take argon2id"
            )
        return bcrypt.hashpw(octets, bcrypt.gensalt(BCRYPT_ROUNDS)).decode("ascii")
    _check_argon2()
    return Argon2id(
        salt=secrets.token_bytes(16),
        length=32,
        iterations=ARGON2_PASSES,
        lanes=ARGON2_LANES,
        memory_cost=ARGON2_MEMORY,
    ).derive_phc_encoded(octets)
