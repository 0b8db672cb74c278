"""Access to the admin interface: a token, and the checks that keep the pages of other sites out.

A Unix socket is private by its mode; a program that can connect may ask.  A TCP port is open to
each program of the machine, and to each page in a browser there.  So a TCP interface wants a token,
as ``Authorization: Bearer`` (RFC 6750 section 2.1) or as a cookie, which the address with
``?token=`` sets once.  Host has to be an address, ``localhost`` or the host that is listened on: a
page of another site can have its own name lead here (DNS rebinding), and Host still has that name.
Origin, where there is one, has to be the interface itself (RFC 6454 section 7), on both kinds of
socket.
"""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from cotun_trio.admin.answers import text

if TYPE_CHECKING:
    from cotun_trio.admin.answers import Answer
    from cotun_trio.http.front import Request

COOKIE = "cotun_trio_admin"
"""The beginning of the cookie's name, see `cookie_name`."""
_BEARER = "bearer "
_CHALLENGE = 'WWW-Authenticate: Bearer realm="cotun-trio"'


def token_of_query(request: Request) -> str | None:
    """Return the token that the query of a request has, if there is one."""
    try:
        found = parse_qs(request.query, max_num_fields=16).get("token")
    except ValueError:
        return None
    return found[0] if found else None


def cookie_name(request: Request) -> str:
    """Return the name of the cookie with the token: it has the port that the browser sees.

    Browsers have one set of cookies for all ports of a host (RFC 6265 section 8.5), and a server
    and a client on one machine have a token each.
    """
    port = b"".join(request.values(b"host")).rpartition(b":")[2]
    return f"{COOKIE}_{port.decode()}" if port.isdigit() else COOKIE


class Gate:
    """Lets requests in that have `token`; without one, all that no page of another site has sent.

    `host` is the one that is listened on, with the port, where that is TCP.
    """

    def __init__(self, token: str | None, host: str | None) -> None:
        self._token = token
        self._host = host

    def refusal(self, request: Request) -> Answer | None:
        """Return the answer (401 or 403) to a request that may not come in; None if it may."""
        hosts = request.values(b"host")
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if self._host is not None and not self._is_ours(host):
            return text("this Host is not that of the interface", HTTPStatus.FORBIDDEN)
        for origin in request.values(b"origin"):
            if origin.decode("latin-1").lower() != f"http://{host}":
                return text("this Origin is not the interface", HTTPStatus.FORBIDDEN)
        if self._token is not None and not any(map(self.is_token, _tokens(request))):
            return text("no token, or a wrong one", HTTPStatus.UNAUTHORIZED, _CHALLENGE)
        return None

    def is_token(self, given: str) -> bool:
        """Return whether this is the token, in a time that does not tell how much of it is."""
        wanted = self._token or ""
        return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if not port.isascii() or not port.isdigit():
            name = host
        if host == self._host or name == "localhost":
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


def _tokens(request: Request) -> list[str]:
    """Return the tokens that a request has, right or wrong."""
    found = [
        words[len(_BEARER) :].strip()
        for value in request.values(b"authorization")
        if (words := value.decode("latin-1"))[: len(_BEARER)].lower() == _BEARER
    ]
    name = cookie_name(request)
    for value in request.values(b"cookie"):
        cookies = SimpleCookie()
        try:
            cookies.load(value.decode("latin-1"))
        except CookieError:
            continue
        if name in cookies:
            found.append(cookies[name].value)
    if (given := token_of_query(request)) is not None:
        found.append(given)
    return found
