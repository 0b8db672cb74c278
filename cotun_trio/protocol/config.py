"""The config request: a client's version and the remotes that it asks for, as raw JSON.

It is the payload of the first global request after login.  We send the same bytes as Go's
``encoding/json`` does for the same values.  We accept the same requests as Go, except that every
remote has to make sense here and now (a Go server finds out when it tries to listen), and that the
limits below hold.

Between two cotun-trio ends there is more, in fields that Go ignores:

* ``CotunTrio`` holds the client's identity, and the names of its `extensions`.  A client that sends
  an identity gets a `ConfigReply`.
* A client with several connections says so in it (``Several``), and puts into it, as ``Nodes``, the
  servers that it has sessions with.  One of these refuses the request (`refusal`), and nothing has
  changed there: no listener of the other session is taken over.
* A Unix-domain socket is ``unix:/path`` in the field of the host, with an empty port.
* ``SocksAuth`` is the ``user:password`` of a reverse SOCKS remote, where it is the server that asks
  for them.  The passwords of a client's own listeners are not sent.
* ``Allow`` is the list of networks whose visitors a reverse remote lets in.  A server that listens
  for it and does not have the extension ``visitors`` lets everybody in.
"""

import json
import re

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.addresses import RemoteError, bracketed, parse_port
from cotun_trio.protocol.extensions import read_extensions
from cotun_trio.protocol.peer_json import Fields, JsonError, parse_object, take
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.remote_options import RemoteOptions

MAX_REMOTES = 1024
"""Remotes in one request: a listener each, and more JSON than this hardly fits the packet."""
MAX_REQUEST = 256 * 1024 - 1024
"""Bytes of a request: it has to fit a packet that Go takes, with its padding."""
MAX_VERSION = 100
"""Characters of a version that are kept: it is only ever logged."""
MAX_IDENTITY = 64
"""Hexadecimal digits of an identity: 256 bits are more than enough to be the only one."""
MAX_NODES = 64
"""Servers that a client has sessions with, in one request."""


def too_many(remotes: int) -> str:
    """Return the error of so many remotes that they do not fit one request."""
    return (
        f"these {remotes} remotes do not fit the packet that tells the server of them "
        f"({MAX_REQUEST // 1024} KiB): have several clients"
    )


@attrs.frozen
class Config:
    """A client's config request."""

    version: str
    remotes: tuple[Remote, ...]
    identity: str = attrs.field(default="", repr=False)
    """A random number of this run of the client, up to 64 hexadecimal digits; Go clients have none.

    By it a client that comes back is known to be the same; so it is a secret.
    """
    extensions: tuple[str, ...] = ()
    """Those that the client asks for (`extensions`); of those that came, the ones we know.  Sent
    with an identity only."""
    nodes: tuple[str, ...] = ()
    """The servers that the client has sessions with, by `ConfigReply.node`, where it wants one with
    another server.  Sent with an identity only."""
    several: bool = False
    """Whether the client wants sessions with several servers, with the same remotes at each."""

    def encode(self) -> bytes:
        """Return the payload, the same bytes as from Go."""
        # Go's nil slice: a client without remotes sends null.
        remotes = [_to_json(remote) for remote in self.remotes] or None
        fields: Fields = {"Version": self.version, "Remotes": remotes}
        if self.identity:
            ours: Fields = {"Identity": self.identity}
            if self.extensions:
                ours["Extensions"] = self.extensions
            if self.several:
                ours["Several"] = True
            if self.nodes:
                ours["Nodes"] = self.nodes
            fields["CotunTrio"] = ours
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        # These stand in strings only, never in the syntax around them.
        return _ESCAPED_BY_GO.sub(lambda c: f"\\u{ord(c[0]):04x}", text).encode()

    @classmethod
    def decode(cls, payload: bytes) -> "Config":
        """Return the config in `payload`, or raise `ProtocolError`.

        The caller bounds the size of the payload; time and memory are linear in it.
        """
        try:
            fields = parse_object(payload)
            version = _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", take(fields, "Version", ""))
            remotes = _read_remotes(take(fields, "Remotes", []))
            ours: Fields = take(fields, "CotunTrio", {})
            identity = take_identity(ours, "Identity")
            extensions = read_extensions(ours) if identity else ()
            nodes = _read_nodes(ours) if identity else ()
            several = take(ours, "Several", False)
        except JsonError as error:
            raise ProtocolError(f"config request: {error}") from error
        return cls(version[:MAX_VERSION], remotes, identity, extensions, nodes, several)


def take_identity(fields: Fields, name: str) -> str:
    """Return the identity in a field; empty where there is none.  Raises `JsonError`."""
    return _check_identity(name, take(fields, name, ""))


def _check_identity(name: str, value: object) -> str:
    if not isinstance(value, str) or not _IDENTITY.fullmatch(value):
        raise JsonError(f"{name} is not up to {MAX_IDENTITY} hexadecimal digits")
    return value


def _read_nodes(fields: Fields) -> tuple[str, ...]:
    values = take(fields, "Nodes", [])
    if len(values) > MAX_NODES:
        raise JsonError(f"more than {MAX_NODES} Nodes")
    return tuple(_check_identity("one of Nodes", value) for value in values)


_ESCAPED_BY_GO = re.compile("[<>&\u2028\u2029]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_IDENTITY = re.compile(f"[0-9a-f]{{0,{MAX_IDENTITY}}}")


def _to_json(remote: Remote) -> Fields:
    protocol = "udp" if remote.udp else "tcp"
    fields: Fields = {
        "LocalHost": _host(remote.local_host, remote.local_path),
        "LocalPort": "" if remote.local_path else str(remote.local_port),
        "LocalProto": protocol,
        "RemoteHost": _host(remote.remote_host, remote.remote_path),
        "RemotePort": str(remote.remote_port or ""),
        "RemoteProto": protocol,
        "Socks": remote.socks,
        "Reverse": remote.reverse,
        "Stdio": remote.stdio,
    }
    if remote.reverse and remote.socks_auth:
        fields["SocksAuth"] = ":".join(remote.socks_auth)
    if remote.reverse and remote.options.allow:
        fields["Allow"] = list(map(str, remote.options.allow))
    return fields


def _host(host: str, path: str) -> str:
    return f"unix:{path}" if path else bracketed(host)


def _read_remotes(values: list[object]) -> tuple[Remote, ...]:
    if len(values) > MAX_REMOTES:
        raise JsonError(f"more than {MAX_REMOTES} remotes")
    remotes = []
    for number, value in enumerate(values, 1):
        try:
            if not isinstance(value, dict):
                raise JsonError("not an object")
            remotes.append(_from_json(value))
        except (JsonError, RemoteError) as error:
            raise JsonError(f"remote {number}: {error}") from error
    return tuple(remotes)


def _from_json(fields: Fields) -> Remote:
    # An empty protocol is that of the other end.  A remote without a port is a SOCKS remote only if
    # it says so: the versions of cotun that leave `Socks` out have no SOCKS either.
    named = {take(fields, name, "").lower() for name in ("LocalProto", "RemoteProto")} - {""}
    if named not in (set(), {"tcp"}, {"udp"}):
        raise RemoteError("neither TCP nor UDP at both ends")
    local_port, remote_port = take(fields, "LocalPort", ""), take(fields, "RemotePort", "")
    reverse = take(fields, "Reverse", False)
    user, colon, password = take(fields, "SocksAuth", "").partition(":")
    return Remote.build(
        local_host=take(fields, "LocalHost", ""),
        local_port=parse_port(local_port) if local_port else None,
        remote_host=take(fields, "RemoteHost", ""),
        remote_port=parse_port(remote_port) if remote_port else None,
        udp=named == {"udp"},
        socks=take(fields, "Socks", False),
        reverse=reverse,
        stdio=take(fields, "Stdio", False),
        # Without a colon the password is empty, and that is refused.
        socks_auth=(user, password) if reverse and (user or colon) else None,
        options=RemoteOptions(allow=_networks(fields) if reverse else ()),
    )


def _networks(fields: Fields) -> list[str]:
    networks: list[object] = take(fields, "Allow", [])
    if not all(isinstance(each, str) for each in networks):
        raise JsonError("a network that is no string")
    return list(map(str, networks))
