"""Challenges: which logins a server or a proxy offers (RFC 9110 section 11.3 and 11.6.1).

A field has a list of them, and each may have parameters, which are a list, too::

    Proxy-Authenticate: Negotiate, Basic realm="a, b", charset="UTF-8"
    Proxy-Authenticate: NTLM TlRMTVNTUAACAAAA==

What is no challenge ends the reading of its field; all before it counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_FIELD = 4096
"""Bytes of a field that are looked at."""
MAX_CHALLENGES = 16
"""Challenges of an answer that are looked at."""

_GAP = re.compile(rb"[ \t,]*")
_TOKEN_PATTERN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rb"(" + _TOKEN_PATTERN + rb")(?=[ \t,]|\Z)")
_TOKEN68 = re.compile(rb"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_PARAMETER = re.compile(
    rb"(" + _TOKEN_PATTERN + rb')[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|(' + _TOKEN_PATTERN + rb"))",
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


@attrs.frozen
class Challenge:
    """One way to log in."""

    scheme: str
    """As it is written; letters of either case mean the same."""
    parameters: Mapping[str, bytes] = attrs.Factory(dict)
    """By name in lower case; of those with the same name, the first one."""

    def is_of(self, scheme: str) -> bool:
        """Return whether it is of `scheme`."""
        return self.scheme.lower() == scheme.lower()


def read_challenges(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[Challenge]:
    """Return the challenges in the fields called `name`, which are in lower case."""
    found: list[Challenge] = []
    for key, value in fields:
        if key == name:
            found += _read_field(value[:MAX_FIELD])
    return found[:MAX_CHALLENGES]


def _read_field(value: bytes) -> Iterator[Challenge]:
    at = _skip(_GAP, value, 0)
    while at < len(value) and (scheme := _SCHEME.match(value, at)):
        at = _skip(_GAP, value, _skip(_TOKEN68, value, scheme.end()))
        parameters: dict[str, bytes] = {}
        while parameter := _PARAMETER.match(value, at):
            key, quoted, token = parameter.groups()
            text = token if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
            parameters.setdefault(key.decode("ascii").lower(), text)
            at = _skip(_GAP, value, parameter.end())
        yield Challenge(scheme[1].decode("ascii"), parameters)


def _skip(pattern: re.Pattern[bytes], value: bytes, at: int) -> int:
    found = pattern.match(value, at)
    return at if found is None else found.end()
