r"""Access lists: the regular expressions that say where a user may go.

They are Go's: RE2's syntax, matched anywhere in the address, in time linear in its length.  The
address is ``host:port`` for a target, TCP or UDP, ``R:interface:port`` for a reverse remote,
``socks``, or ``unix:/path`` (with ``R:`` in front where the server listens).  An empty pattern and
``*`` allow everything.

Addresses come in their canonical form (`cotun_trio.protocol.addresses.canonical_host`), and hosts
are matched without regard to case, as DNS does; paths are not.

A pattern ``socks:<regex>``, which the Go programs do not have, restricts where SOCKS leads to:
``socks`` itself has to be allowed besides, and then each address that a SOCKS client asks for has
to match one of these, if there are any.  To a Go server it is a pattern that matches nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKS = "socks"
"""The address of the SOCKS proxy itself."""
PER_TARGET = "socks:"
"""Begins a pattern for the targets of SOCKS clients."""
_ALL = ("", "*")
_PATH = re.compile(r"(?:R:)?unix:[/.]")
_LIKE_REVERSE = re.compile("r:", re.IGNORECASE)


class Matcher(Protocol):
    """A compiled regular expression."""

    def search(self, text: str) -> object | None:
        """Return something where it matches anywhere in `text`."""


@lru_cache(maxsize=4096)  # many users have the same patterns
def compile_pattern(pattern: str, *, case_sensitive: bool = False) -> Matcher:
    """Compile RE2's syntax.

    Raises `UsageError` for any other syntax, and where the library is missing.
    """
    try:
        import re2
    except ImportError:
        raise UsageError(
            "access lists need google-re2, which is missing: pip install google-re2"
        ) from None
    options = re2.Options()
    options.log_errors = False  # by the library itself, to standard error
    options.case_sensitive = case_sensitive
    try:
        matcher: Matcher = re2.compile(pattern, options)
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair
        raise UsageError(f"'{escape(pattern)}' is no regular expression: not Unicode") from None
    except re2.error as error:
        reason = error.args[0]
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise UsageError(
            f"'{escape(pattern)}' is no regular expression: {escape(reason)}"
        ) from None
    return matcher


def _tuple(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(patterns)


@attrs.frozen
class AccessList:
    """The addresses that a user may reach.

    Raises `UsageError` for a pattern that is no regular expression.
    """

    patterns: tuple[str, ...] = attrs.field(converter=_tuple)
    _general: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    _per_target: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    @_general.default
    def _choose_general(self) -> tuple[str, ...]:
        return tuple(p for p in self.patterns if not p.startswith(PER_TARGET))

    @_per_target.default
    def _choose_per_target(self) -> tuple[str, ...]:
        regexes = (p.removeprefix(PER_TARGET) for p in self.patterns if p.startswith(PER_TARGET))
        return tuple(regexes)

    @patterns.validator
    def _compile(self, _attribute: object, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            if (regex := pattern.removeprefix(PER_TARGET)) not in _ALL:
                compile_pattern(regex)

    def deciding(self, address: str) -> str | None:
        """Return the first pattern that allows `address`, or None: it is not allowed."""
        # A host with the name R: a pattern for reverse remotes does not mean it.
        like_reverse = _LIKE_REVERSE.match(address) and not address.startswith("R:")
        for pattern in self._general:
            if pattern in _ALL or (not like_reverse and _matches(pattern, address)):
                return pattern
        return None

    def deciding_by_socks(self, address: str) -> str | None:
        """Return the pattern that allows a SOCKS client to reach `address`, or None."""
        allowed = self.deciding(SOCKS)
        if allowed is None or not self._per_target:
            return allowed
        for regex in self._per_target:
            if regex in _ALL or _matches(regex, address):
                return PER_TARGET + regex
        return None

    def allows(self, address: str) -> bool:
        """Return whether `address` is allowed."""
        return self.deciding(address) is not None

    def allows_by_socks(self, address: str) -> bool:
        """Return whether a SOCKS client may reach `address`."""
        return self.deciding_by_socks(address) is not None


EVERYTHING = AccessList([""])


def _matches(pattern: str, address: str) -> bool:
    matcher = compile_pattern(pattern, case_sensitive=bool(_PATH.match(address)))
    return matcher.search(address) is not None


def is_anchored(pattern: str) -> bool:
    r"""Return whether `pattern` says where an address begins and where it ends.

    It looks for ``^`` and ``$`` (or ``\A`` and ``\z``, or an open end in so many words, ``.*``) at
    the ends of each alternative; groups are not looked into, so that ``(^a$)`` is not seen.
    """
    regex = pattern.removeprefix(PER_TARGET)
    return regex in _ALL or all(map(_is_anchored, alternatives(regex)))


_BEGINNING = re.compile(r"(?:\(\?[a-zA-Z]+\))?(?:\^|\\A|\.[*+])")
_END = re.compile(r"(?:(?<!\\)(?:\\\\)*(?:\$|\.[*+])|\\z)\Z")
PIECE = re.compile(
    r"""\\Q.*?(?:\\E|\Z) | \\. | \[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\] | [()|] | .""",
    re.VERBOSE | re.DOTALL,
)
"""A piece of a regular expression: a character, in whatever way, a class, or a sign."""


def _is_anchored(alternative: str) -> bool:
    return bool(_BEGINNING.match(alternative) and _END.search(alternative))


def alternatives(regex: str) -> list[str]:
    """Split `regex` at the bars that are in no group."""
    depth, parts = 0, [""]
    for found in PIECE.finditer(regex):
        piece = found[0]
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return parts
