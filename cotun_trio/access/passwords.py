"""Passwords as a users file has them: plain, or hashed by bcrypt or argon2id.

A text that looks like a hash is a hash, or an error, and never a plain password.  Otherwise, a hash
of an unknown kind would be taken for a password, and a reader of the file could log in with it.

The libraries let other threads run while they hash, so hashing is for a thread.
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
"""The parameters that decide the time of a check; equal for hashes that take the same."""

BCRYPT_ROUNDS = 12
"""2¹² rounds, some 0.2 s: the least that is common today."""
MAX_BCRYPT_ROUNDS = 16
BCRYPT_OCTETS = 72
"""Octets of a password that bcrypt looks at."""
ARGON2_MEMORY, ARGON2_PASSES, ARGON2_LANES = 19_456, 2, 1
"""KiB, passes and lanes: the second recommendation of OWASP's Password Storage Cheat Sheet, some
20 ms.  A server may have to check many at a time."""
MAX_ARGON2 = (1024 * 1024, 64, 64)
"""The same at most.  More than a gigabyte for each login would only serve an attacker."""
MAX_ARGON2_WORK = 4 * 1024 * 1024
"""KiB times passes: some 15 s, in which a login keeps one of few threads busy."""

# The last characters of salt and value have bits to spare.  Where these are not zero, the library
# raises a ValueError for the salt, and finds no password right for the value.
_BCRYPT = re.compile(
    r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
_ARGON2 = re.compile(  # with 8 to 64 octets of salt, 16 to 64 of value
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,8}),t=([1-9][0-9]{0,8}),p=([1-9][0-9]{0,8})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
# crypt(5) and other forms that are found in such files, perhaps after a blank by mistake.
_HASH = re.compile(r"\s*\$((1|2[a-z]?|[35678]|g?y|md5|sha1|apr1|scrypt|pbkdf2[\w-]*)[$,]|argon2)")
_KEY = secrets.token_bytes(32)


@attrs.frozen
class Secret:
    """A plain password or a hash, to check passwords by.  Two are equal when their texts are."""

    _text: str = attrs.field(repr=False)
    cost: Cost | None = None
    """None for a plain password: its check takes no time."""

    @classmethod
    def parse(cls, text: str) -> Secret:
        """Read a plain password or a hash.

        Raises `UsageError`, which shows nothing of it, for a hash that is damaged, of a kind or a
        cost that is not accepted, or not available here.
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

    def feed(self, digest: hmac.HMAC) -> None:
        """Have it be a part of a digest that has a key."""
        digest.update(self._text.encode())

    def matches(self, password: str) -> bool:
        """Return whether `password` is the right one.

        Takes tens of milliseconds where there is a `cost`, the same for every password.  Raises
        `MemoryError` where the system has not as much left as an argon2id hash asks for.
        """
        try:
            octets = password.encode()
        except UnicodeEncodeError:
            return False
        if self.cost is None:
            # Digests have the same length; passwords have not.
            mine = self._text.encode("utf-8", "surrogatepass")
            return hmac.compare_digest(_digest(octets), _digest(mine))
        if self.cost[0] == "bcrypt":
            right = bcrypt.checkpw(octets[:BCRYPT_OCTETS], self._text.encode("ascii"))
            return right and not _beyond_bcrypt(octets)
        try:
            Argon2id.verify_phc_encoded(octets, self._text)
        except InvalidKey:
            return False
        return True


def _digest(octets: bytes) -> bytes:
    return blake2b(octets, key=_KEY).digest()


def _beyond_bcrypt(octets: bytes) -> bool:
    """Return whether bcrypt cuts it, or confuses it: it repeats a and a NUL, so a\\0a is a."""
    return len(octets) > BCRYPT_OCTETS or 0 in octets


def _argon2_cost(found: re.Match[str]) -> Cost:
    *costs, salt, value = found.groups()
    given = tuple(map(int, costs))
    memory, passes, lanes = given
    if (
        memory < 8 * lanes
        or memory * passes > MAX_ARGON2_WORK
        or any(n > high for n, high in zip(given, MAX_ARGON2, strict=True))
    ):
        raise UsageError(
            "the argon2id hash has its memory, passes or lanes out of bounds: make another with "
            "cotun-trio hash-password"
        )
    if not (_is_base64(salt) and _is_base64(value)):
        raise UsageError("the argon2id hash is damaged")
    _check_argon2()
    return ("argon2id", *costs)


def _is_base64(text: str) -> bool:
    """Return whether `text` is the base64 of some octets; if not, no password could be right."""
    return len(text) % 4 != 1 and _unpadded(base64.b64decode(text + "==")) == text


@functools.cache
def _check_argon2() -> None:
    """Raise `UsageError` where argon2id is not available: better now than at the first login."""
    try:
        Argon2id(salt=bytes(16), length=16, iterations=1, lanes=1, memory_cost=8).derive(b"")
    except UnsupportedAlgorithm:
        raise UsageError("this build of cryptography has no argon2id: take bcrypt") from None


def decoy(cost: Cost) -> Secret:
    """Return a random secret whose check takes as long as others of this `cost`."""
    if cost[0] == "bcrypt":
        # 23 octets are 31 characters, of which the last has two bits to spare.
        salt = bcrypt.gensalt(int(cost[1])).decode("ascii")
        return Secret(salt + secrets.token_hex(15) + ".", cost)
    _, memory, passes, lanes = cost
    salt, value = _unpadded(secrets.token_bytes(16)), _unpadded(secrets.token_bytes(32))
    return Secret(f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${value}", cost)


def _unpadded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def hash_password(password: str, scheme: Scheme = "argon2id") -> str:
    """Return the hash of `password` as a users file takes it.

    Raises `UsageError` for a password that is not Unicode or that bcrypt would not see as a whole,
    and where argon2id is not available.
    """
    try:
        octets = password.encode()
    except UnicodeEncodeError:
        raise UsageError("the password is not UTF-8") from None
    if scheme == "bcrypt":
        if _beyond_bcrypt(octets):
            raise UsageError(f"bcrypt looks at {BCRYPT_OCTETS} octets and no NUL: take argon2id")
        return bcrypt.hashpw(octets, bcrypt.gensalt(BCRYPT_ROUNDS)).decode("ascii")
    _check_argon2()
    return Argon2id(
        salt=secrets.token_bytes(16),
        length=32,
        iterations=ARGON2_PASSES,
        lanes=ARGON2_LANES,
        memory_cost=ARGON2_MEMORY,
    ).derive_phc_encoded(octets)
