"""Remotes: what the user writes to say which connections go through the tunnel, and where to.

Grammar::

    remote = ["R:"] [local ":"] target
    local  = port | host | host ":" port | "stdio"
    target = "socks" | [host ":"] port
    host   = name | IPv4 address | "[" IPv6 address "]" | nothing
    port   = digits ["/tcp" | "/udp"]

`local` is where one end listens, `target` is where the other end connects to.  Without ``R:`` the
client listens and the server connects; ``R:`` swaps the two.  Examples, with their `str`::

    3000                             3000=>3000
    example.com:80                   80=>example.com:80
    3000:example.com:80              3000=>example.com:80
    127.0.0.1:3000:example.com:80    127.0.0.1:3000=>example.com:80
    127.0.0.1:example.com:80         127.0.0.1:80=>example.com:80
    [::1]:3000:[fe80::2%eth0]:80     [::1]:3000=>[fe80::2%eth0]:80
    0:example.com:80                 0=>example.com:80
    1.1.1.1:53/udp                   53=>1.1.1.1:53/udp
    socks                            127.0.0.1:1080=>socks
    5000:socks                       127.0.0.1:5000=>socks
    stdio:example.com:22             stdio=>example.com:22
    R:2222:localhost:22              R:2222=>localhost:22
    R:socks                          R:127.0.0.1:1080=>socks

What is left out, or is an empty host, has a default: the local host is 0.0.0.0 (127.0.0.1 for
SOCKS), the local port that of the target (1080 for SOCKS, 0 stands for any free one), and the
target's host 127.0.0.1.  Two rules keep that unambiguous:

* A word in front of a port belongs to it: ``host:port`` alone is a target.
* After a local host, the target names its host too.  chisel reads ``127.0.0.1:3000:80`` as port
  3000 of *all* interfaces, which nobody means who writes it.
"""

import ipaddress
import re
from functools import cached_property

import attrs

from cotun_trio.errors import ProtocolError, UsageError
from cotun_trio.escape import escape

MAX_PORT = 65535
MAX_HOST = 253
"""Characters of a host name: 255 octets in DNS (RFC 1035 section 2.3.4) are 253 as written."""
MAX_TARGET = 1024
"""Bytes of a target: the longest host, at four bytes a character, and ``:65535/udp``."""

ANY_INTERFACE = "0.0.0.0"  # noqa: S104  chisel's default, and people rely on it
LOOPBACK = "127.0.0.1"
SOCKS_PORT = 1080

_FORM = "[R:][local-host:]local-port:remote-host:remote-port[/udp], as in 3000:example.com:80"


class RemoteError(ValueError):
    """What is wrong with a remote, a target, a host or a port; foreign text in it is escaped.

    Whose fault it is, only the caller knows: `Remote.parse` makes it the user's (`UsageError`), and
    what reads from a peer makes it the peer's (`ProtocolError`).
    """


def parse_port(text: str) -> int:
    """Return the port that `text` writes in ASCII digits, 0 to 65535, or raise `RemoteError`.

    Leading zeros do no harm.  Signs, blanks and the digits of other scripts, which `int` would
    take, are no part of a port.
    """
    digits = re.fullmatch("0*([0-9]{1,5})", text)
    if digits is None or int(digits[1]) > MAX_PORT:
        raise RemoteError(f"'{escape(text)}' is not a port (a number up to {MAX_PORT})")
    return int(digits[1])


_LABEL = "[0-9A-Za-z_][0-9A-Za-z_-]*"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)\.?")  # digits of any script
_ZONE = re.compile("(?:25(?=[A-Za-z]))?([0-9A-Za-z._-]+)")


def clean_host(text: str) -> str:
    """Return the host `text` as we keep it: checked, and an IPv6 address without its brackets.

    The empty host stays empty.  Raises `RemoteError` for what cannot be the name or the address of
    a host, and for numbers that a resolver might take for an address although they do not look
    like one, such as ``127.1`` and ``0x7f000001`` (as the WHATWG URL Standard does in its host
    parser): nobody could tell from an access list what they lead to.
    """
    if len(text) > MAX_HOST:
        raise RemoteError(f"'{escape(text)}' is too long for a host (up to {MAX_HOST} characters)")
    in_brackets = re.fullmatch(r"\[(.*)\]", text)
    if in_brackets or ":" in text:
        host = _clean_ipv6(in_brackets[1] if in_brackets else text)
    else:
        host = text if not text or _is_host(text) else None
    if host is None:
        raise RemoteError(f"'{escape(text)}' is not a host name or an address")
    return host


def _clean_ipv6(text: str) -> str | None:
    address, percent, zone_text = text.partition("%")
    # In a URL the % of a zone is itself escaped, as %25 (RFC 6874), and chisel's grammar knew no
    # other spelling.  A name has to follow: "%25" alone is the interface number 25.
    zone = _ZONE.fullmatch(zone_text)
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return None
    if not percent:
        return address
    return f"{address}%{zone[1]}" if zone else None


def _is_host(text: str) -> bool:
    try:
        name = text.encode("idna").decode("ascii")
        if _ENDS_IN_NUMBER.fullmatch(name) or _ENDS_IN_NUMBER.fullmatch(text):
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    # The codec drops and translates invisible characters, hence the look at the original too.
    return text.isprintable() and _NAME.fullmatch(name) is not None


def bracketed(host: str) -> str:
    """Return `host` as it stands in front of a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def join_host_port(host: str, port: int) -> str:
    """Return ``host:port``."""
    return f"{bracketed(host)}:{port}"


@attrs.frozen
class Target:
    """Where one forwarded connection goes: what a channel open carries.

    `str` gives it as it goes over the wire.  The target ``socks``, where the SOCKS greeting in the
    connection itself says where to, has no host and no port.
    """

    host: str = attrs.field(converter=clean_host)
    port: int
    udp: bool = False
    socks: bool = False

    def __attrs_post_init__(self) -> None:
        if self.socks:
            if self.host or self.port or self.udp:
                raise RemoteError("socks goes without a host, a port and UDP")
        elif not self.host:
            raise RemoteError("the host to connect to is missing")
        elif not 0 < self.port <= MAX_PORT:
            raise RemoteError(f"nothing can be reached on port {self.port}")

    @property
    def address(self) -> str:
        """``host:port`` or ``socks``, without the protocol: what an access list matches."""
        return "socks" if self.socks else join_host_port(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.address}/udp" if self.udp else self.address


_TARGET = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]*):(?P<port>[^:/]*)(?P<udp>/udp)?")


def parse_target(raw: bytes) -> Target:
    """Return the target in the type-specific data of a channel open.

    Raises `ProtocolError` for anything but ``host:port``, ``host:port/udp`` and ``socks``.  As in
    Go, no host means this one.
    """
    try:
        if len(raw) > MAX_TARGET:
            raise RemoteError(f"longer than {MAX_TARGET} bytes")
        text = raw.decode()
        if text == "socks":
            return Target("", 0, socks=True)
        found = _TARGET.fullmatch(text)
        if found is None:
            raise RemoteError("not of the form host:port, host:port/udp or socks")
        return Target(found["host"] or LOOPBACK, parse_port(found["port"]), bool(found["udp"]))
    except (RemoteError, UnicodeDecodeError) as error:
        raise ProtocolError(f"channel target '{escape(raw)}': {error}") from error


@attrs.frozen(kw_only=True)
class Remote:
    """One forward: who listens where, and where each connection goes.

    Hosts are kept without the brackets of IPv6 addresses.  Nothing listens for a `stdio` remote,
    and its local host and port are the defaults; a `socks` remote has no remote host (it is empty)
    and no remote port (it is 0).

    Building one that makes no sense raises `RemoteError`.
    """

    local_host: str = attrs.field(converter=clean_host)
    local_port: int
    remote_host: str = attrs.field(converter=clean_host)
    remote_port: int
    udp: bool = False
    socks: bool = False
    reverse: bool = False
    stdio: bool = False

    def __attrs_post_init__(self) -> None:
        _ = self.target  # checks the remote half
        if not 0 <= self.local_port <= MAX_PORT:
            raise RemoteError(f"nothing can listen on port {self.local_port}")
        if self.local_host in ("", "R", "stdio"):
            # The grammar has other uses for these words: `encode` would not lead back here.
            raise RemoteError(f"'{self.local_host}' is no host to listen on")
        if self.stdio and self.reverse:
            raise RemoteError("stdio is the client's own, and cannot be reversed")
        if self.stdio and self.udp:
            raise RemoteError("stdio is a stream, and cannot carry UDP")

    @classmethod
    def build(
        cls,
        *,
        local_host: str = "",
        local_port: int | None = None,
        remote_host: str = "",
        remote_port: int | None = None,
        udp: bool = False,
        socks: bool = False,
        reverse: bool = False,
        stdio: bool = False,
    ) -> "Remote":
        """Return a remote with the defaults in place of empty hosts and missing ports."""
        if stdio:
            local_host, local_port = "", None
        if socks:
            default_host, default_port = LOOPBACK, SOCKS_PORT
            remote_port = remote_port or 0
        elif remote_port is None:
            raise RemoteError("the remote port is missing")
        else:
            default_host, default_port = ANY_INTERFACE, remote_port
            remote_host = remote_host or LOOPBACK
        return cls(
            local_host=local_host or default_host,
            local_port=default_port if local_port is None else local_port,
            remote_host=remote_host,
            remote_port=remote_port,
            udp=udp,
            socks=socks,
            reverse=reverse,
            stdio=stdio,
        )

    @classmethod
    def parse(cls, text: str) -> "Remote":
        """Return the remote that `text` writes in the grammar above, or raise `UsageError`."""
        try:
            return _read(text)
        except RemoteError as error:
            raise UsageError(f"remote '{escape(text)}': {error}; write {_FORM}") from error

    @cached_property
    def target(self) -> Target:
        """Where its connections go."""
        return Target(self.remote_host, self.remote_port, self.udp, self.socks)

    @cached_property
    def channel_target(self) -> bytes:
        """The type-specific data of the channel opens for its connections."""
        return str(self.target).encode()

    @property
    def access_address(self) -> str:
        """What an access list matches: the target, or ``R:interface:port`` of a reverse remote."""
        return f"R:{self.local_address}" if self.reverse else self.remote_address

    @property
    def local_address(self) -> str:
        """``host:port`` or ``stdio``: where it listens."""
        return "stdio" if self.stdio else join_host_port(self.local_host, self.local_port)

    @property
    def remote_address(self) -> str:
        """``host:port`` or ``socks``: where its connections go, without the protocol."""
        return self.target.address

    def encode(self) -> str:
        """Return the text in full, all defaults included, that `parse` makes this remote of."""
        return f"{'R:' if self.reverse else ''}{self.local_address}:{self.target}"

    def __str__(self) -> str:
        """Return what logs show, as in Go: the hosts that need no mention are left out."""
        local = self.local_address.removeprefix(f"{ANY_INTERFACE}:")
        target = str(self.target).removeprefix(f"{LOOPBACK}:")
        return f"{'R:' if self.reverse else ''}{local}=>{target}"


_COLON = re.compile(r":(?![^\[\]]*\])")  # but not the colons in brackets
_STARTS_LIKE_PORT = re.compile("[0-9]+(/.*)?")


def _read(text: str) -> Remote:
    """Do the work of `Remote.parse`, from the back to the front as people read it."""
    *front, last = _COLON.split(text.removeprefix("R:"))
    socks = last == "socks"
    local_host = remote_host = local_protocol = protocol = ""
    local_port = remote_port = None
    if not socks:
        remote_port, protocol = _read_port(last)
        if front and front != ["stdio"] and not _STARTS_LIKE_PORT.fullmatch(front[-1]):
            remote_host = front.pop()
    stdio = front == ["stdio"]
    match front:
        case [] | ["stdio"]:
            pass
        case [port] if _STARTS_LIKE_PORT.fullmatch(port):
            local_port, local_protocol = _read_port(port)
        case [host] if host:
            local_host = host
        case [host, port] if not _STARTS_LIKE_PORT.fullmatch(host):
            local_host = host
            local_port, local_protocol = _read_port(port)
        case _:
            raise RemoteError(
                "no local host and port in front of the target (an IPv6 address needs brackets)"
            )
    if local_host and not remote_host and not socks:
        raise RemoteError("after a local host, the target has to name its host too")
    if local_protocol and local_protocol != (protocol or "tcp"):
        raise RemoteError("both ends of a remote have the same protocol, named at the end")
    return Remote.build(
        local_host=local_host,
        local_port=local_port,
        remote_host=remote_host,
        remote_port=remote_port,
        udp=protocol == "udp",
        socks=socks,
        reverse=text.startswith("R:"),
        stdio=stdio,
    )


def _read_port(text: str) -> tuple[int, str]:
    """Return the port, and the protocol if it names one."""
    port, slash, protocol = text.partition("/")
    protocol = protocol.lower()
    if slash and protocol not in ("tcp", "udp"):
        raise RemoteError(f"'{escape(text)}' names a protocol other than tcp and udp")
    return parse_port(port), protocol
