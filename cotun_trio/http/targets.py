"""The target and the host of a request (RFC 9112 section 3.2), sans-I/O.

A target is a path with or without a query, the ``http`` URI of one, or the ``*`` of OPTIONS::

    GET /a/b?c=d HTTP/1.1
    GET http://example.com:8080/a/b HTTP/1.1
    OPTIONS * HTTP/1.1

Everything else is a bad request: two programs that read it in two ways could see two targets in it,
or two hosts.  Bytes that are not ASCII are taken, as nginx does, and written as the percent-encoded
ones that they stand for (RFC 3986 section 2.1).
"""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(rb"\Ahttps?://([^/?#]*)", re.IGNORECASE)
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~%-]+)?\]|[0-9A-Za-z._~%!$&'()*+=\x80-\xff-]*)"
    rb"(?::[0-9]{0,5})?"
)
"""A host with or without a port (RFC 3986 section 3.2.2), without the ``,`` and ``;`` that separate
the members of other fields."""
_RAW = re.compile(rb"[\x80-\xff]")


class TargetError(ValueError):
    """A target or a host that is none."""


def authority_of(target: bytes) -> bytes | None:
    """Return the host and the port in a target that is a URI; None where it is none."""
    match = _ABSOLUTE.match(target)
    return match[1] if match else None


def origin_form(method: bytes, target: bytes) -> bytes:
    """Return `target` without the scheme and the authority that it may have."""
    match = _ABSOLUTE.match(target)
    if not match:
        return target
    rest = target[match.end() :]
    if not rest and method == b"OPTIONS":
        return b"*"  # RFC 9112 section 3.2.4
    return rest if rest.startswith(b"/") else b"/" + rest


def check_target(method: bytes, target: bytes) -> None:
    """Raise `TargetError` for what is no target of a request with this method."""
    authority = authority_of(target)
    if authority is not None:
        if not authority or authority.startswith(b":"):
            raise TargetError("a target without a host")
        check_host(authority)
    elif not (target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*")):
        raise TargetError("a target that is neither a path nor an http URI")


def check_host(host: bytes) -> None:
    """Raise `TargetError` for what is no host, with or without a port."""
    if not _HOST.fullmatch(host):
        raise TargetError("a host that is none")


class LineReader:
    """Encodes the raw bytes in the target of one request, which comes in pieces."""

    def __init__(self) -> None:
        self.grown = 0
        """Bytes that there are more of it by that."""
        self._in_target = False
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """Return `data` with the target in it encoded; all that follows its line is left alone."""
        if self._done or not data:
            return data
        line, end, rest = data.partition(b"\n")
        method, space = b"", b""
        if not self._in_target:
            method, space, line = line.partition(b" ")
            self._in_target = bool(space)
        self._done = bool(end)
        encoded = _RAW.sub(_encoded, line)
        self.grown += len(encoded) - len(line)
        return b"".join((method, space, encoded, end, rest))


def _encoded(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
