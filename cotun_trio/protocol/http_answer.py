"""An HTTP answer that is not the one that was wanted: what it says, and what to do about it.

It is read as far as it can be, since anything may be at the other end of a connection::

    HTTP/1.1 302 Found                          HTTP/1.1 429 Too Many Requests
    Location: https://login.example.com/        Retry-After: 30

    HTTP/1.1 401 Unauthorized                   SSH-2.0-OpenSSH_9.6
    WWW-Authenticate: Basic realm="inside"
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeAlias

import attrs

from cotun_trio.escape import escape
from cotun_trio.protocol.http_challenges import read_challenges
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

Fields: TypeAlias = "tuple[tuple[bytes, bytes], ...]"

MAX_RETRY_AFTER = 3600.0
"""Seconds that a server can have a client wait: what it says is not proved by any key."""
MAX_SSH_LINE = 255
"""Bytes of SSH's first line (RFC 4253 section 4.2)."""
_WANTS_TLS = re.compile(rb"\b(?:https|tls|ssl-enabled)\s+(?:server|port)", re.IGNORECASE)
"""What nginx, Apache, Go and cotun-trio say to plain HTTP on a port with TLS."""
_TITLE = re.compile(rb"<title[^>]*>([^<]*)", re.IGNORECASE)
_TAG = re.compile(rb"<[^>]*>")
MAX_PAGE = 4096
"""Bytes of a page that are looked at."""
MAX_TITLE = 80
"""Characters that are shown of a page."""
_TOO_MANY, _UNAVAILABLE = 429, 503


def read_fields(head: bytes) -> Fields:
    """Return the header fields of `head`, with names in lower case; without lines that are none."""
    fields = []
    for line in head.replace(b"\r\n", b"\n").split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and [name] == name.split():  # without a space in it
            fields.append((name.lower(), value.strip(b" \t")))
    return tuple(fields)


def members(fields: Fields, name: bytes) -> list[bytes]:
    """Return the members of the list that the fields called `name` are together (RFC 9110, 5.3)."""
    found = (part.strip() for key, value in fields if key == name for part in value.split(b","))
    return [member for member in found if member]


def what_it_is(data: bytes, peer: str = "the server") -> str | None:
    """Return what an answer of `peer` is that begins with `data`, where it is no HTTP.

    None where it is HTTP, or more of it has to come to tell.
    """
    if data.startswith(b"HTTP/") or b"HTTP/".startswith(data):
        return None
    if data.startswith(b"SSH-") or b"SSH-".startswith(data):
        line, end, _ = data.partition(b"\n")
        if not end and len(data) < MAX_SSH_LINE:
            return None
        return f"{peer} speaks SSH ({escape(line.strip())}): HTTP is at another port, if any"
    if data[0] in (21, 22) and data[1:2] in (b"", b"\x03"):  # an alert or a handshake
        return f"{peer} speaks TLS: write https:// in its URL"
    line = data.partition(b"\n")[0].strip()
    return f"{peer} does not speak HTTP: it begins with '{escape(line, 60)}'"


def schemes(fields: Fields, name: bytes) -> list[str]:
    """Return the schemes in the challenges called `name`, once each."""
    return list(dict.fromkeys(escape(each.scheme) for each in read_challenges(fields, name)))


def retry_after(status: int, fields: Fields) -> float | None:
    """Return the seconds to wait before another request (RFC 9110 section 10.2.3).

    They are `MAX_RETRY_AFTER` at most; None where the answer does not say.  A date counts from the
    one of the answer.
    """
    if status not in (_TOO_MANY, _UNAVAILABLE):
        return None
    text = _first(fields, b"retry-after")
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        until, now = _date(text), _date(_first(fields, b"date"))
        if until is None or now is None:
            return None
        seconds = (until - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


@attrs.frozen
class Diagnosis:
    """What something that went wrong means, and what would help; either may be empty."""

    meaning: str = ""
    advice: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.meaning, self.advice)))


def advice(status: int, fields: Fields, body: bytes = b"") -> str:
    """Return `diagnose` as one text; "" where nobody knows."""
    return str(diagnose(status, fields, body))


def diagnose(status: int, fields: Fields, body: bytes = b"") -> Diagnosis:
    """Return what an answer with this status means where an upgrade was asked for, and what helps.

    `body` is its beginning, as far as it has come.
    """
    found = _firewall(status, fields)
    if found is None and (read := _READERS.get(status)) is not None:
        found = read(status, fields, body)
    return found or _PLAIN.get(status, Diagnosis())


OUR_NOT_FOUND = b"Not found"
"""The body with which a server of ours, and Go's, answers a request that is not for the tunnel."""
_UPGRADE_DROPPED = (
    "does each proxy on the way pass on the headers Upgrade and Connection, as scripts/nginx.conf "
    "does?"
)
_NO_UPGRADE_SEEN = Diagnosis(
    "a tunnel server may have answered, and saw no request for its tunnel",
    f"is the path of the URL that of its --path?  {_UPGRADE_DROPPED}",
)
_WEB_PAGE = Diagnosis(
    "it is a web page, perhaps one to log in",
    "is the URL right, and does a proxy or a portal on the way want a login in a browser first?",
)
_BACK_END_DOWN = Diagnosis(
    "a proxy on the way does not reach the server behind it",
    "is the tunnel's server running, where the proxy looks for it?",
)
_PLAIN = {
    200: Diagnosis(
        "a web server answers, and no tunnel",
        f"is the path of the URL that of --path at the server?  {_UPGRADE_DROPPED}",
    ),
    404: Diagnosis(
        "a web server answers, and has no tunnel at this path",
        "is the path of the URL that of --path at the server, and the host the right one?",
    ),
    426: Diagnosis("the request came without its headers for a WebSocket", _UPGRADE_DROPPED),
    502: _BACK_END_DOWN,
    504: _BACK_END_DOWN,
    511: Diagnosis(  # RFC 6585 section 6
        "the network wants a login first, as in hotels and trains",
        "open any page in a browser, and log in there",
    ),
}
_FIREWALLS: tuple[tuple[bytes, bytes, str], ...] = (
    (b"server", b"cloudflare", "Cloudflare"),
    (b"server", b"akamaighost", "Akamai"),
    (b"server", b"sucuri/cloudproxy", "Sucuri"),
    (b"server", b"mod_security", "ModSecurity"),
    (b"x-iinfo", b"", "Imperva"),
    (b"x-amzn-waf-action", b"", "AWS WAF"),
    (b"server", b"awselb/", "the load balancer of AWS"),
    (b"x-azure-ref", b"", "Azure Front Door"),
)
"""Headers of services in front of web servers: a name, how the value begins, and whose it is."""
_BLOCKS = {403, 405, 406, 501}
"""The statuses by which they say that a request is not let through."""


def _firewall(status: int, fields: Fields) -> Diagnosis | None:
    """Return what a refusal with a service in front of the server means; None without one."""
    if status not in _BLOCKS or schemes(fields, b"www-authenticate"):
        return None
    for name, start, owner in _FIREWALLS:
        if any(key == name and value.lower().startswith(start) for key, value in fields):
            return Diagnosis(
                f"{owner} is in front of the server, and one of them blocks this request",
                "their owner has to allow WebSockets at this path; a User-Agent of a browser, by "
                "--header, may be let through",
            )
    return None


def _moved(_status: int, fields: Fields, _body: bytes) -> Diagnosis | None:
    location = escape(_first(fields, b"location"))
    if not location:
        return None
    return Diagnosis(
        f"it points to {location}",
        "give that URL, if the server is there; a page to log in wants a browser first",
    )


def _malformed(_status: int, _fields: Fields, body: bytes) -> Diagnosis | None:
    if _WANTS_TLS.search(body):
        return Diagnosis("it wants TLS", "write https:// in its URL")
    return None


def _login(status: int, fields: Fields, _body: bytes) -> Diagnosis:
    if names := " or ".join(schemes(fields, b"www-authenticate")):
        return Diagnosis(
            f"it wants a login by HTTP ({names})", "give it by --header 'Authorization: …'"
        )
    if status == 401:
        return Diagnosis("it wants a login by HTTP, and does not say which")
    return Diagnosis(
        "it forbids this", "a firewall may want another --header or --hostname, or another URL"
    )


def _proxy_login(_status: int, fields: Fields, _body: bytes) -> Diagnosis:
    wanted = " or ".join(schemes(fields, b"proxy-authenticate")) or "a scheme not said"
    return Diagnosis(
        f"a proxy wants a login ({wanted})", "give it in --proxy http://user:password@…"
    )


def _busy(status: int, fields: Fields, _body: bytes) -> Diagnosis:
    busy = "too many requests" if status == _TOO_MANY else "it is not available now"
    seconds = retry_after(status, fields)
    if seconds is not None:
        busy = f"{busy}, try again after {format_duration(seconds)}"
    if status == _TOO_MANY:
        return Diagnosis(
            busy,
            "a cotun-trio server bars an address for a while after failed logins, and its log says "
            "so; other servers have limits of their own",
        )
    return Diagnosis(busy, "is the server behind it running, and is it full?")


def _found(_status: int, fields: Fields, _body: bytes) -> Diagnosis | None:
    is_page = _first(fields, b"content-type").lower().startswith(b"text/html")
    return _WEB_PAGE if is_page else None


def _not_found(_status: int, _fields: Fields, body: bytes) -> Diagnosis | None:
    return _NO_UPGRADE_SEEN if body == OUR_NOT_FOUND else None


_READERS: Mapping[int, Callable[[int, Fields, bytes], Diagnosis | None]] = {
    200: _found,
    **dict.fromkeys((301, 302, 303, 307, 308), _moved),
    400: _malformed,
    **dict.fromkeys((401, 403), _login),
    404: _not_found,
    407: _proxy_login,
    **dict.fromkeys((_TOO_MANY, _UNAVAILABLE), _busy),
}
"""The statuses that mean different things by what else is in the answer."""


def _first(fields: Fields, name: bytes) -> bytes:
    return next((value for key, value in fields if key == name), b"")


def title(body: bytes) -> str:
    """Return the title of a page that begins with `body`, or else its first words; escaped.

    "" where there is nothing to read.
    """
    body = body[:MAX_PAGE]  # the patterns take quadratic time for a hostile one
    found = _TITLE.search(body)
    words = found[1] if found is not None else _TAG.sub(b" ", body)
    return escape(b" ".join(words.split()), MAX_TITLE)


def _date(text: bytes) -> datetime | None:
    try:
        date = parsedate_to_datetime(text.decode("ascii"))
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
