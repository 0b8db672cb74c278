"""The config request: a client's version and the remotes that it asks for, as raw JSON.

It is the payload of the first global request after login.  What we send is, byte for byte, what
Go's ``encoding/json`` makes of the same values.  What we accept is what Go accepts: names of fields
in any case, unknown fields, missing ones, ``null`` for "as it was".  Beyond that, every remote has
to make sense here and now, where a Go server finds out when it tries to listen; and the limits
below hold.
"""

import json
import re
from typing import TypeVar

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.remote import Remote, RemoteError, bracketed, parse_port

MAX_DEPTH = 8
"""Objects and arrays in one another: ours are 3 deep, and the parser recurses for each."""
MAX_REMOTES = 1024
"""Remotes in one request: a listener each, and more JSON than this hardly fits the packet."""
MAX_VERSION = 100
"""Characters of a version that are kept: it is only ever logged."""


@attrs.frozen
class Config:
    """What a client asks for."""

    version: str
    remotes: tuple[Remote, ...]

    def encode(self) -> bytes:
        """Return the payload, the same bytes as from Go."""
        # Go's nil slice: a client without remotes sends null.
        remotes = [_to_json(remote) for remote in self.remotes] or None
        text = json.dumps(
            {"Version": self.version, "Remotes": remotes},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        # These stand in strings only, never in the syntax around them.
        return _ESCAPED_BY_GO.sub(lambda c: f"\\u{ord(c[0]):04x}", text).encode()

    @classmethod
    def decode(cls, payload: bytes) -> "Config":
        """Return the config in `payload`, or raise `ProtocolError`.

        The caller bounds the size of the payload; time and memory are linear in it.
        """
        fields = _parse(payload)
        version = _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _take(fields, "Version", ""))
        remotes: list[object] = _take(fields, "Remotes", [])
        if len(remotes) > MAX_REMOTES:
            raise ProtocolError(f"config request: more than {MAX_REMOTES} remotes")
        decoded = []
        for number, value in enumerate(remotes, 1):
            if not isinstance(value, dict):
                raise ProtocolError(f"config request: remote {number} is not an object")
            try:
                decoded.append(_from_json(value))
            except RemoteError as error:
                raise ProtocolError(f"config request: remote {number}: {error}") from error
        return cls(version[:MAX_VERSION], tuple(decoded))


_ESCAPED_BY_GO = re.compile("[<>&\u2028\u2029]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# A string without an end is taken to the end of the text, and never looked at again: linear time.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _to_json(remote: Remote) -> dict[str, str | bool]:
    protocol = "udp" if remote.udp else "tcp"
    return {
        "LocalHost": bracketed(remote.local_host),
        "LocalPort": str(remote.local_port),
        "LocalProto": protocol,
        "RemoteHost": bracketed(remote.remote_host),
        "RemotePort": "" if remote.socks else str(remote.remote_port),
        "RemoteProto": protocol,
        "Socks": remote.socks,
        "Reverse": remote.reverse,
        "Stdio": remote.stdio,
    }


def _from_json(fields: dict[str, object]) -> Remote:
    # An empty protocol is that of the other end.  A remote without a port is a SOCKS remote only if
    # it says so: the versions of cotun that leave `Socks` out have no SOCKS either.
    named = {_take(fields, name, "").lower() for name in ("LocalProto", "RemoteProto")} - {""}
    if named not in (set(), {"tcp"}, {"udp"}):
        raise RemoteError("neither TCP nor UDP at both ends")
    local_port, remote_port = _take(fields, "LocalPort", ""), _take(fields, "RemotePort", "")
    return Remote.build(
        local_host=_take(fields, "LocalHost", ""),
        local_port=parse_port(local_port) if local_port else None,
        remote_host=_take(fields, "RemoteHost", ""),
        remote_port=parse_port(remote_port) if remote_port else None,
        udp=named == {"udp"},
        socks=_take(fields, "Socks", False),
        reverse=_take(fields, "Reverse", False),
        stdio=_take(fields, "Stdio", False),
    )


Value = TypeVar("Value", str, bool, list[object])


def _take(fields: dict[str, object], name: str, default: Value) -> Value:
    """Return the field `name`, which is of the type of its default, or the default."""
    value = fields.get(name.casefold(), default)
    if not isinstance(value, type(default)):
        raise ProtocolError(f"config request: {name} is of the wrong type")
    return value


def _parse(payload: bytes) -> dict[str, object]:
    try:
        text = payload.decode()
        _check_depth(text)
        fields = json.loads(
            text,
            # None of our fields is a number; and a huge one would keep `int` busy, or fail in it.
            parse_int=lambda _: 0.0,
            parse_constant=_refuse_constant,
            object_pairs_hook=_fold_names,
        )
    except ValueError as error:
        raise ProtocolError(f"config request: {error}") from error
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise ProtocolError("config request: not a JSON object")
    return fields


def _check_depth(text: str) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"JSON more than {MAX_DEPTH} deep")
        elif token[0] in ("]", "}"):
            depth -= 1


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")  # though Python takes it for such


def _fold_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object as Go does: names without case, the last one wins, null changes nothing."""
    return {name.casefold(): value for name, value in pairs if value is not None}
