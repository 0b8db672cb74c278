"""The words that remotes are made of: hosts, ports, and the paths of Unix-domain sockets.

They come from the user or from a peer, end in system calls, logs and access lists, and have to mean
the same in all of these.  So each is checked once, here, and a word that could be read in two ways
is refused.
"""

import ipaddress
import re

import idna

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
_NUMBER = re.compile("(?P<hex>0[xX][0-9A-Fa-f]*)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*)")
_ZONE = re.compile("[0-9A-Za-z._-]+")


def clean_host(text: str) -> str:
    """Return the host `text` as we keep it: checked, and an IPv6 address without its brackets.

    The empty host stays empty.  Raises `RemoteError` for text that cannot be the name or the
    address of a host, and for numbers that a resolver takes for an address although they do not
    look like one, such as ``127.1`` and ``0x7f000001``: an access list would not show where they
    lead.
    """
    address, percent, zone = text.removeprefix("[").removesuffix("]").partition("%")
    # chisel's grammar knew a zone as URLs have it, with %25 for the %.  A name has to follow: "%25"
    # alone is the interface number 25.
    if re.match("25[A-Za-z]", zone):
        zone = zone[2:]
    return _clean(text, address, zone if percent else None)


def clean_url_host(text: str) -> str:
    """Return the host in a URL as we keep it, as `clean_host` does.

    `text` is without brackets, as `urllib.parse` has it.  The % in front of a zone is written as
    %25 there (RFC 6874); as with curl, a plain one is understood.
    """
    address, percent, zone = text.partition("%")
    return _clean(text, address, zone.removeprefix("25") if percent else None)


def _clean(text: str, address: str, zone: str | None) -> str:
    """Return a host, checked; `address` and `zone` are for `text` that is an IPv6 address."""
    if len(text) > MAX_HOST:
        raise RemoteError(f"'{escape(text)}' is too long for a host (up to {MAX_HOST} characters)")
    if ":" in text or text[:1] == "[":
        host = _clean_ipv6(text, address, zone)
    else:
        host = text if not text or _is_host(text) else None
    if host is None:
        raise RemoteError(f"'{escape(text)}' is not a host name or an address")
    return host


def _clean_ipv6(text: str, address: str, zone: str | None) -> str | None:
    if (text[:1] == "[") != (text[-1:] == "]"):
        return None
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return None
    if zone is None:
        return address
    return f"{address}%{zone}" if _ZONE.fullmatch(zone) else None


def _is_host(text: str) -> bool:
    try:
        name = ascii_name(text)
        if _reads_as_ipv4(name.removesuffix(".")):
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    # Invisible characters are dropped and translated, hence the look at the original too.
    return text.isprintable() and _NAME.fullmatch(name) is not None


def _reads_as_ipv4(name: str) -> bool:
    """Return whether resolvers take `name` for an address, as inet_aton(3) does.

    It has one to four numbers, in decimal, octal or hexadecimal, of which the last one fills all
    bytes that are left.
    """
    numbers = []
    for part in name.split("."):
        found = _NUMBER.fullmatch(part)
        if found is None:
            return False
        base = {"hex": 16, "octal": 8, "decimal": 10}[found.lastgroup or ""]
        numbers.append(int(part[2:] or "0", 16) if base == 16 else int(part, base))
    *front, last = numbers
    return len(front) < 4 and all(n < 256 for n in front) and last < 256 ** (4 - len(front))


def ascii_name(name: str) -> str:
    """Return a name as DNS has it: labels beyond ASCII as A-labels (RFC 5891, UTS 46).

    A final dot stays.  Raises `UnicodeError` for what can be no name.
    """
    plain = name if name.isascii() else idna.uts46_remap(name, std3_rules=False)
    labels = [each if each.isascii() else idna.alabel(each).decode() for each in plain.split(".")]
    if not all(0 < len(label) < 64 for label in (labels[:-1] if labels[-1] == "" else labels)):
        raise UnicodeError("a label has 1 to 63 characters")
    return ".".join(labels)


def host_on_the_wire(host: str) -> str:
    """Return a host from `clean_host` as other machines are told: in ASCII, and without its zone,
    which counts here only (RFC 4007 section 11.2)."""
    return host.partition("%")[0] if ":" in host else ascii_name(host)


def name_for_tls(host: str) -> str:
    """Return a host as SNI has it (RFC 6066 section 3), and certificates: without a final dot."""
    return host_on_the_wire(host).removesuffix(".")


def host_header(text: str) -> str:
    """Return ``host`` or ``host:port`` as it stands in a Host header (RFC 9110 section 7.2).

    Raises `RemoteError` for what cannot stand there.
    """
    found = _AUTHORITY.fullmatch(text)
    host, port = (found["host"], found["port"]) if found else (text, None)
    host = bracketed(host_on_the_wire(clean_host(host)))
    if not host:
        raise RemoteError(f"'{escape(text)}' is not a host name or an address")
    return host if port is None else f"{host}:{parse_port(port)}"


_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]+))?")


def canonical_host(host: str) -> str:
    """Return the one form that a host from `clean_host` has in access lists.

    The forms that lead to the same place must not be told apart: names are in lower case, without
    a final dot and with their A-labels (RFC 5891), an IPv6 address is written as RFC 5952 says, and
    an IPv4-mapped one (RFC 4291 section 2.5.5.2) as the IPv4 address that it leads to.  A zone is
    kept only where it counts, with link-local addresses (RFC 4007 section 11).
    """
    if ":" not in host:
        return ascii_name(host).lower().removesuffix(".")
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
