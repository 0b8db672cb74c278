r"""Patterns that look like addresses, but let names in, and the pattern that would be right.

``^10\.0\.0\..*`` is meant for a network.  It matches ``10.0.0.evil.example:22`` as well, and the
owner of that name says where it leads.  To look at the syntax alone would miss most of them: so an
address is made that the pattern matches, and names are made of the address, and the pattern is
asked.  What is found is certain; where no address can be made, nothing is said.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from itertools import zip_longest
from typing import TYPE_CHECKING

from cotun_trio.access.access_list import PER_TARGET, PIECE, alternatives, compile_pattern
from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILLS = ("1", "1.1", "1.1.1", ".1", ".1.1", ".1.1.1")
"""Made for what matches digits and dots without end: the octets of an address that are missing."""
_TAILS = ("", "1", ".1", "1.1", ".1.1", "1.1.1", ".1.1.1")
"""The same for a pattern without an end."""
_WITHOUT_TEXT = frozenset(["^", "$", r"\A", r"\z", r"\b", r"\B"])
_CLASSES = frozenset([".", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"])
_BEGINS_WITH_DIGITS = re.compile(
    r"(?:\(\?[a-zA-Z]+\))?(?:\^|\\A)?(?:R:)?(?:\((?:\?(?:P<\w+>|:))?)*(?:\d|\\d|\[[^\]]*[0-9])"
)
_NUMBER = r"(?:[0-9]+|\[0-9\][+*]|\[0-9\]\{\d,\d\}|\\d[+*]|\\d\{\d,\d\})"
_IS_RIGHT = re.compile(rf"\^(?:R:)?(?:{_NUMBER}\\\.){{3}}{_NUMBER}:{_NUMBER}\$")
"""The form of most patterns that are right, of which a file may have a hundred thousand."""
_OCTET = re.compile(r"(\d{1,3})(?:\\?\.(?![*+?{])|(?=:|\$|\Z|\.[*+]))")
_BEGINNING = re.compile(r"(?:\(\?[a-zA-Z]+\))?(?:\^|\\A)?(R:)?")
_PORT = re.compile(r":(\d+|\[0-9\][+*]|\\d[+*]|\((?:\?:)?\d+(?:\|\d+)*\))(?:\$|\\z)?\Z")


@lru_cache(maxsize=4096)  # many users have the same patterns
def right_pattern(pattern: str) -> str | None:
    """Return a pattern for the addresses that `pattern` seems to mean; None where it is right.

    It is for the addresses of one of the alternatives, if there are several.
    """
    regex = pattern.removeprefix(PER_TARGET)
    if _IS_RIGHT.fullmatch(regex):
        return None
    for alternative in filter(_BEGINS_WITH_DIGITS.match, alternatives(regex)):
        for host, port, reverse in _addresses(regex, alternative):
            if _lets_names_in(regex, host, port, reverse):
                right = _right(alternative, host, reverse)
                return f"{PER_TARGET}{right}" if pattern != regex else right
    return None


def _addresses(regex: str, alternative: str) -> Iterator[tuple[str, str, str]]:
    """Give addresses that `regex` matches: a host, a port, and ``R:`` for a reverse remote."""
    for fill in _FILLS:
        text = _sample(alternative, fill)
        reverse = "R:" if text.startswith("R:") else ""
        start, colon, port = text.removeprefix("R:").partition(":")
        for tail in ("",) if colon else _TAILS:
            host, number = f"{start}{tail}", port or "22"
            if _is_ipv4(host) and _matches(regex, f"{reverse}{host}:{number}"):
                yield host, number, reverse


_GROUP_BEGINS = re.compile(r"\(\?(?:P?<\w+>|[a-zA-Z]*:)")
_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
_TIMES = re.compile(r"\{\d*,?\d*\}")


def _sample(alternative: str, fill: str) -> str:
    """Return a text that `alternative` may match; of each group, its first alternative."""
    plain = _GROUP_BEGINS.sub("(", _TIMES.sub("", _FLAGS.sub("", alternative)))
    pieces = [found[0] for found in PIECE.finditer(plain)]
    text, left_out = "", [False]  # whether the rest of each open group is left out
    for piece, following in zip_longest(pieces, pieces[1:], fillvalue=""):
        if piece == "(":
            left_out.append(False)
        elif piece == ")":
            del left_out[max(1, len(left_out) - 1) :]
        elif piece == "|":
            left_out[-1] = True
        elif piece not in "*+?" and not any(left_out):
            text += _text_of(piece, fill if following in ("*", "+") else "")
    return text


def _text_of(piece: str, fill: str) -> str:
    """Return a text that a piece of a regular expression matches; `fill` if it is repeated."""
    if piece in _WITHOUT_TEXT:
        return ""
    if piece[0] != "[" and piece not in _CLASSES:
        return piece.removeprefix(r"\Q").removesuffix(r"\E").removeprefix("\\")
    if fill and _matches(f"^{piece}{{2}}$", "1."):
        return fill
    preferred = "." if piece == "." else ""
    return next((c for c in f"{preferred}1234567890.:" if _matches(f"^{piece}$", c)), "")


def _lets_names_in(regex: str, host: str, port: str, reverse: str) -> bool:
    octets = host.split(".")
    names = [f"{host}.evil.example", f"{host}evil.example"]
    for count in (1, 2, 3):
        begun = ".".join(octets[:count])
        names += [f"{begun}.evil", f"{begun}.evil.example"]
    names.append("a".join(octets))  # where the dots are any character
    names.append(f"{'.'.join(octets[:3])}a{octets[3]}")
    return any(_matches(regex, f"{reverse}{name}:{port}") for name in names)


def _right(alternative: str, host: str, reverse: str) -> str:
    """Return a pattern for the addresses that begin with the octets in `alternative`."""
    octets: list[str] = []
    beginning = _BEGINNING.match(alternative)
    at = 0 if beginning is None else beginning.end()
    while len(octets) < 4 and (found := _OCTET.match(alternative, at)) is not None:
        octets.append(found[1])
        at = found.end()
    if len(octets) == 4 and alternative[at : at + 1] == ".":
        octets.pop()  # of 7.* the 7 is only where it begins
    if octets != host.split(".")[: len(octets)]:
        octets = []
    parts = [*octets, *["[0-9]+"] * (4 - len(octets))]
    port = _PORT.search(alternative)
    hosts = r"\.".join(parts)
    return f"^{reverse}{hosts}:{'[0-9]+' if port is None else port[1]}$"


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _matches(regex: str, text: str) -> bool:
    try:
        return compile_pattern(regex).search(text) is not None
    except UsageError:  # a piece may be nothing by itself
        return False
