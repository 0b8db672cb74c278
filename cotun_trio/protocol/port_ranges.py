"""Ranges of ports: one text for several remotes, which differ in their ports only.

Where a remote has ports, it may have ranges of them, of the same length at both ends::

    3000-3010                        3000=>3000 ... 3010=>3010
    3000-3010:db:4000-4010           3000=>db:4000 ... 3010=>db:4010
    db:3000-3010                     3000=>db:3000 ... 3010=>db:3010
    [::1]:53-54:1.1.1.1:53-54/udp    [::1]:53=>1.1.1.1:53/udp ... [::1]:54=>1.1.1.1:54/udp
    R:4000-4010:localhost:4000-4010  R:4000=>localhost:4000 ... R:4010=>localhost:4010

All of them have the options behind the text.  A range becomes single remotes here, at the edge; a
peer never hears of ranges.  They only keep `Remote.range_text`: all of them are listened on, or
none.  SOCKS, Unix sockets and stdio have one place each, and no range.

Two numbers with a hyphen may also be the name of a host.  They are one where only a host can be:
as the second word of ``80:10-20:80``, and in the full form, ``0.0.0.0:80:10-20:80``.  Elsewhere
they are ports, so a range that has no counterpart is an error, and no host that nobody has.
"""

import re
from collections.abc import Iterable, Mapping

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.protocol.addresses import RemoteError, parse_port
from cotun_trio.protocol.config import MAX_REMOTES
from cotun_trio.protocol.remote import Remote, shown_remote
from cotun_trio.protocol.remote_options import split_options
from cotun_trio.protocol.remote_words import (
    STARTS_LIKE_PORT,
    is_host,
    is_path,
    split_login,
    split_mark,
)

_RANGE = re.compile("(?P<first>[0-9]+)-(?P<last>[0-9]+)(?P<protocol>/.*)?", re.DOTALL)
_SAME_LENGTH = "both ends have the same number of ports, as in 3000-3010:db:3000-3010"
_NAMED = "; or, for a host of that name, the full form, as in 0.0.0.0:80:3000-3010:80"


def parse_remotes(texts: Iterable[str]) -> tuple[Remote, ...]:
    """Return the remotes that `texts` write, those of a range in the order of their ports.

    Raises `UsageError` for what makes no sense, and for ranges that make more remotes than one
    config request can have.
    """
    found: list[Remote] = []
    have_range = False
    for text in texts:
        several = parse_range(text)
        found += several
        have_range = have_range or len(several) > 1
        if have_range and len(found) > MAX_REMOTES:
            raise UsageError(
                f"with remote '{shown_remote(text)}' there are {len(found)} remotes, and a client "
                f"with ranges has up to {MAX_REMOTES}: have several clients"
            )
    return tuple(found)


def parse_range(text: str) -> tuple[Remote, ...]:
    """Return the remotes that `text` writes: one, or one for each port of a range.

    Raises `UsageError`.
    """
    try:
        found = _find(text)
        if found is None:
            return (Remote.parse(text),)
        first_text, count = found
    except RemoteError as error:
        raise UsageError(f"remote '{shown_remote(text)}': {error}") from error
    first = Remote.parse(first_text, written=text)
    return tuple(
        attrs.evolve(
            first,
            local_port=first.local_port + n,
            remote_port=first.remote_port + n,
            range_text=text,
        )
        for n in range(count)
    )


def parse_single(text: str) -> Remote:
    """Return the one remote that `text` writes.  Raises `UsageError`, also for a range."""
    remote, *others = parse_range(text)
    if others:
        raise UsageError(
            f"remote '{shown_remote(text)}': a range of {1 + len(others)} ports is as many "
            "remotes, and this takes one: give it each of them, as in 3000:db:3000"
        )
    return remote


def has_range(text: str) -> bool:
    """Return whether a remote has a range of ports, even one that makes no sense."""
    try:
        return _find(text) is not None
    except RemoteError:
        return True


def _find(text: str) -> tuple[str, int] | None:
    """Return the text of the first remote of a range, and their number; None for no range.

    Raises `RemoteError` for a range that makes no sense.
    """
    plain, _ = split_options(text)
    mark, rest = split_mark(plain)
    try:
        _, words = split_login(rest)
    except RemoteError:  # which the parse of a single remote explains
        return None
    ranges = _ranges(words)
    if not ranges:
        return None
    if words[-1] == "socks" or words[0] == "stdio" or any(map(is_path, words)):
        raise RemoteError(
            "SOCKS, Unix sockets and stdio have one place each: write a remote for each"
        )
    count = _common_length(words, ranges)
    for place, found in ranges.items():
        words[place] = f"{found['first']}{found['protocol'] or ''}"
    return f"{mark}{':'.join(words)}{text[len(plain) :]}", count


def _ranges(words: list[str]) -> Mapping[int, re.Match[str]]:
    """Return the words that are ranges, by their places."""
    hosts = _places_of_hosts(words)
    found = ((place, _RANGE.fullmatch(word)) for place, word in enumerate(words))
    return {place: match for place, match in found if match and place not in hosts}


def _places_of_hosts(words: list[str]) -> tuple[int, ...]:
    """Return the places in which two numbers with a hyphen are the name of a host."""
    one_word = words[-1] == "socks" or is_path(words[-1])
    if len(words) == (3 if one_word else 4):
        return (0,) if one_word else (0, 2)
    first_is_no_host = words[0] == "stdio" or not is_host(words[0]) or _RANGE.fullmatch(words[0])
    return (1,) if len(words) == 3 and first_is_no_host else ()


def _common_length(words: list[str], ranges: Mapping[int, re.Match[str]]) -> int:
    """Return the number of ports, which is the same at both ends.  Raises `RemoteError`."""
    lengths = {_length(found["first"], found["last"]) for found in ranges.values()}
    if any(STARTS_LIKE_PORT.fullmatch(word) for word in words):
        lengths.add(1)
    if len(lengths) > 1:
        few, *_, many = sorted(lengths)
        named = "" if len(words) - 1 in ranges else _NAMED
        raise RemoteError(f"{many} ports at one end and {few} at the other: {_SAME_LENGTH}{named}")
    (count,) = lengths
    return count


def _length(first: str, last: str) -> int:
    low, high = parse_port(first), parse_port(last)
    if low == 0:
        raise RemoteError("port 0 stands for any free one, and is in no range")
    if low > high:
        raise RemoteError(f"a range goes up: write {high}-{low}")
    count = high - low + 1
    if count > MAX_REMOTES:
        raise RemoteError(f"a range has up to {MAX_REMOTES} ports, not {count}")
    return count
