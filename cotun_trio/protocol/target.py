"""Targets: where one forwarded connection goes, as the open of its channel carries it.

There are four kinds, as they go over the wire::

    host:port           TCP
    host:port/udp       UDP
    socks               to wherever the SOCKS request in the connection itself says
    unix:/path          a Unix-domain socket; no Go peer knows these
"""

import functools
import re

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import (
    MAX_PORT,
    RemoteError,
    canonical_host,
    clean_host,
    clean_path,
    join_host_port,
    parse_port,
    unix_path,
)

MAX_TARGET = 1024
"""Bytes of a target: the longest host, at four bytes a character, and ``:65535/udp``."""

KEPT = 256
"""Targets that are not parsed again."""

LOOPBACK = "127.0.0.1"


@attrs.frozen
class Target:
    """Where one forwarded connection goes, as a channel open carries it.

    `str` gives it as it goes over the wire.  A target without a host and a port is ``socks``, or
    has the `path` of a Unix-domain socket.
    """

    host: str = attrs.field(converter=clean_host)
    port: int
    udp: bool = False
    socks: bool = False
    path: str = attrs.field(default="", converter=clean_path)

    def __attrs_post_init__(self) -> None:
        if self.socks or self.path:
            if any((self.host, self.port, self.udp, self.socks and self.path)):
                kind = "socks" if self.socks else "a Unix-domain socket"
                raise RemoteError(f"{kind} goes without a host, a port and UDP")
        elif not self.host:
            raise RemoteError("the host to connect to is missing")
        elif not 0 < self.port <= MAX_PORT:
            raise RemoteError(f"nothing can be reached on port {self.port}")

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return the target that `text` writes, or raise `RemoteError`.

        As in Go, no host means this one.  A colon may follow a path: a Go server joins the two
        fields of a reverse remote of ours to ``unix:/path:``, the port being empty.
        """
        if text == "socks":
            return cls("", 0, socks=True)
        if (path := unix_path(text)) is not None:
            return cls("", 0, path=path.removesuffix(":"))
        found = _TARGET.fullmatch(text)
        if found is None:
            raise RemoteError("not of the form host:port, host:port/udp, unix:/path or socks")
        return cls(found["host"] or LOOPBACK, parse_port(found["port"]), bool(found["udp"]))

    @property
    def access_address(self) -> str:
        """The text that an access list matches: `address`, with the host in canonical form."""
        return join_host_port(canonical_host(self.host), self.port) if self.host else self.address

    @property
    def address(self) -> str:
        """``host:port``, ``unix:/path`` or ``socks``, without the protocol."""
        if self.socks:
            return "socks"
        return f"unix:{self.path}" if self.path else join_host_port(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.address}/udp" if self.udp else self.address


_TARGET = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]*):(?P<port>[^:/]*)(?P<udp>/udp)?")


@functools.lru_cache(KEPT)
def parse_target(raw: bytes) -> Target:
    """Return the target in the type-specific data of a channel open, or raise `ProtocolError`.

    The same few come again and again, and all that there is to check of one takes 7 % of the time
    of a short connection: so the last of them are kept.
    """
    try:
        if len(raw) > MAX_TARGET:
            raise RemoteError(f"longer than {MAX_TARGET} bytes")
        return Target.parse(raw.decode())
    except (RemoteError, UnicodeDecodeError) as error:
        raise ProtocolError(f"channel target '{escape(raw)}': {error}") from error
