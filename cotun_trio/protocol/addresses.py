"""The words that remotes are made of: hosts, ports, and the paths of Unix-domain sockets.

They come from the user or from a peer, end in system calls, logs and access lists, and have to mean
the same in all of these.  So each is checked once, here, and a word that could be read in two ways
is refused.
"""

import ipaddress
import re

from cotun_trio.escape import escape

MAX_PORT = 65535
MAX_HOST = 253
"""Characters of a host name: 255 octets in DNS (RFC 1035 section 2.3.4) are 253 as written."""
MAX_PATH = 107
"""Bytes of the path of a Unix-domain socket: ``sun_path`` has 108 (unix(7)), one of them a NUL."""


class RemoteError(ValueError):
    """A fault in a remote, a target, or a word in one; foreign text in the error is escaped.

    Only the caller knows whose fault it is: `Remote.parse` makes it the user's (`UsageError`), and
    a reader of a peer's messages makes it the peer's (`ProtocolError`).
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

    The empty host stays empty.  Raises `RemoteError` for text that cannot be the name or the
    address of a host, and for numbers that a resolver might take for an address although they do
    not look like one, such as ``127.1`` and ``0x7f000001`` (as the WHATWG URL Standard does in its
    host parser): an access list would not show where they lead.
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


def canonical_host(host: str) -> str:
    """Return the one form that a host from `clean_host` has in access lists.

    The forms that lead to the same place must not be told apart: names are in lower case, without
    a final dot and with their A-labels (RFC 5891), an IPv6 address is written as RFC 5952 says, and
    an IPv4-mapped one (RFC 4291 section 2.5.5.2) as the IPv4 address that it leads to.  A zone is
    kept only where it counts, with link-local addresses (RFC 4007 section 11).
    """
    if ":" not in host:
        return host.encode("idna").decode("ascii").lower().removesuffix(".")
    text, _, zone = host.partition("%")
    address = ipaddress.IPv6Address(text)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{address}%{zone}" if zone and address.is_link_local else str(address)


def is_wildcard(host: str) -> bool:
    """Return whether `host` is all interfaces: 0.0.0.0 or ``::`` in any spelling, or nothing."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def bracketed(host: str) -> str:
    """Return `host` as it stands in front of a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def join_host_port(host: str, port: int) -> str:
    """Return ``host:port``."""
    return f"{bracketed(host)}:{port}"


_UNIX = re.compile(r"unix:([./].*)", re.DOTALL)


def unix_path(text: str) -> str | None:
    """Return the path in ``unix:/path`` and ``unix:./path``; None if `text` is something else.

    A path begins with a slash or a dot, which no host and no port does: ``unix:80`` is port 80 of a
    host whose name is unix.
    """
    found = _UNIX.fullmatch(text)
    return found and found[1]


def clean_path(path: str) -> str:
    """Return the path of a Unix-domain socket, checked; the empty one stays empty.

    Raises `RemoteError` for a path that does not fit a remote (a colon ends it), a log line, or
    the system's limit; and for one that goes up by ``..``: an access list that allows
    ``unix:/run/app/`` would allow ``unix:/run/app/../docker.sock``.
    """
    if not path:
        return path
    if not path.isprintable() or ":" in path or path[0] not in "./":
        raise RemoteError(f"'{escape(path)}' is not a path of plain characters and no colon")
    if ".." in path.split("/"):
        raise RemoteError(f"'{escape(path)}' goes up by '..': write where it leads")
    if len(path.encode()) > MAX_PATH:
        raise RemoteError(f"'{escape(path)}' is too long for a socket (up to {MAX_PATH} bytes)")
    return path
