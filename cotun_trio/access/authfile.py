"""The users file: the users, their passwords, and their access lists.

A JSON object, as the Go programs have it::

    {
      "alice:secret": ["^10\\\\.0\\\\.0\\\\.[0-9]+:22$", "^R:0\\\\.0\\\\.0\\\\.0:8080$"],
      "bob:$2b$12$…": [""]
    }

The password may be a hash (`cotun_trio.access.passwords`), the list is that of
`cotun_trio.access.access_list`.  Go gives mistakes another meaning (a user without a colon has no
name and no password; of two with the same name, the last one counts).  Here, every mistake is an
error that says where it is, and nothing of the file is used.  No error shows a password.
"""

from __future__ import annotations

import codecs
import json
import re
import stat
from typing import TYPE_CHECKING

import attrs

from cotun_trio.access.access_list import AccessList, is_anchored
from cotun_trio.access.address_patterns import right_pattern
from cotun_trio.access.credentials import Credentials
from cotun_trio.access.files import read_named
from cotun_trio.access.passwords import Secret
from cotun_trio.access.users import User
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.bounded_json import load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cotun_trio.access.passwords import Cost

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a users file: some 100,000 users."""


@attrs.frozen
class AuthFile:
    """The content of a users file."""

    users: tuple[User, ...]
    warnings: tuple[str, ...] = ()
    """Advice about things that are allowed, but unsafe: a line each."""
    hashes: Mapping[Cost, str] = attrs.field(factory=dict)
    """The place where each cost of its hashes is found first."""


def load_authfile(path: str) -> AuthFile:
    """Read a users file.

    Raises `UsageError` that names the file and, for a fault in it, line and column.
    """
    file = read_named("the users file", path, most=MAX_SIZE + 1, secret=True)
    try:
        found = parse_authfile(file.data)
    except UsageError as error:
        raise UsageError(f"the users file {escape(path)}: {error}") from None
    hashes = {
        cost: f"the users file {escape(path)}: {place}" for cost, place in found.hashes.items()
    }
    found = attrs.evolve(found, hashes=hashes)
    if (fault := _fault_of(file.mode, found)) is not None:
        warning = f"the users file {escape(path)} {fault}"
        found = attrs.evolve(found, warnings=(warning, *found.warnings))
    return found


def _fault_of(mode: int, found: AuthFile) -> str | None:
    """Return why a users file should not have the mode that it has; None where it may."""
    in_plain = any(user.secret.cost is None for user in found.users)
    if stat.S_ISREG(mode) and mode & stat.S_IROTH and in_plain:
        return (
            "has passwords in it and can be read by everybody: chmod o-r it, or put in hashes from "
            "cotun-trio hash-password"
        )
    return None


def parse_authfile(data: bytes) -> AuthFile:
    """Read the content of a users file.  Raises `UsageError` with line and column."""
    if len(data) > MAX_SIZE:
        raise UsageError(f"it has over {MAX_SIZE} bytes")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise _at(before, len(before), "not UTF-8") from None
    try:
        # As pairs, so that nothing is lost where a name comes twice.  A number has no place here.
        pairs = load_json(text, object_pairs_hook=_Object, parse_int=float)
    except json.JSONDecodeError as error:
        raise _at(text, error.pos, f"not JSON: {error.msg}") from None
    except ValueError:
        raise UsageError("line 1, column 1: not an object of users") from None
    if not isinstance(pairs, _Object):
        raise UsageError('line 1, column 1: not an object, {"user:password": ["pattern", …], …}')
    if not pairs:
        raise UsageError("line 1, column 1: there is no user in it")
    return _read_users(text, pairs)


class _Object(list[tuple[str, object]]):
    """A JSON object, its names and values in order."""


def _at(text: str, position: int, fault: str) -> UsageError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return UsageError(f"line {line}, column {column}: {fault}")


_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


def _read_users(text: str, pairs: _Object) -> AuthFile:
    # All strings are names or patterns, in this order, as far as the file is correct.
    places = (found.start() for found in _STRING.finditer(text))
    users: dict[str, User] = {}
    places_of: dict[str, str] = {}  # of each pattern, the first one
    hashes = _Hashes(text)
    for key, patterns in pairs:
        place = next(places)
        try:
            credentials = Credentials.parse(key)
            secret = Secret.parse(credentials.password)
        except UsageError as error:
            raise _at(text, place, str(error)) from None
        hashes.add(secret.cost, place)
        name = escape(credentials.user)
        if credentials.user in users:
            raise _at(text, place, f"the user '{name}' is there twice")
        if type(patterns) is not list:
            raise _at(text, place, f"the user '{name}' has no list of patterns")
        for number, pattern in enumerate(patterns, 1):
            shown = f"pattern {number} of the user '{name}'"
            if not isinstance(pattern, str):
                raise _at(text, place, f"{shown} is not a string")
            place = next(places)
            try:
                AccessList([pattern])
            except UsageError as error:
                raise _at(text, place, f"{shown}: {error}") from None
            places_of.setdefault(pattern, shown)
        users[credentials.user] = User(credentials.user, secret, AccessList(patterns))
    return AuthFile(tuple(users.values()), tuple(_advice(places_of)), hashes.shown())


class _Hashes:
    """The places of hashes in `text`: the first line of each cost, and the number of hashes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._counted = 1, 0  # the line of the position up to which they are counted
        self._found: dict[Cost, list[int]] = {}

    def add(self, cost: Cost | None, place: int) -> None:
        """Note the hash, or the plain password, at the position `place`, behind the last one."""
        if cost is None:
            return
        if cost not in self._found:
            self._line += self._text.count("\n", self._counted, place)
            self._counted = place
            self._found[cost] = [self._line, 0]
        self._found[cost][1] += 1

    def shown(self) -> dict[Cost, str]:
        """Return it in words."""
        return {
            cost: f"line {line}" + (f" and {count - 1} more" if count > 1 else "")
            for cost, (line, count) in self._found.items()
        }


def _advice(places_of: Mapping[str, str]) -> Iterator[str]:
    for pattern, where in places_of.items():
        shown, right = f"{where}, '{escape(pattern)}',", right_pattern(pattern)
        better = "" if right is None else f"; for addresses, write '{escape(right)}'"
        if not is_anchored(pattern):
            yield (
                f"{shown} is not anchored: it allows every address that has this anywhere in it; "
                f"write ^…$ for the whole{better}"
            )
        elif right is not None:
            yield (
                f"{shown} looks like addresses and lets names in, such as one that begins with "
                f"them: the owner of a name decides to which address it leads{better}"
            )
