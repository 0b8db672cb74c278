"""The login at an HTTP proxy: the strongest of the schemes that it offers and we know.

That is Digest with SHA-256, then Digest with MD5, then Basic.  So nothing is sent before the proxy
has asked: Basic, sent at once, would show the password also to a proxy that takes a hash of it.
"""

from __future__ import annotations

import base64
import errno
import secrets
from typing import TYPE_CHECKING

from cotun_trio.errors import ProxyLoginUnknown, ProxyRefused
from cotun_trio.escape import escape
from cotun_trio.protocol.http_answer import Diagnosis
from cotun_trio.protocol.http_challenges import read_challenges
from cotun_trio.protocol.http_digest import answer_digest, read_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cotun_trio.protocol.http_challenges import Challenge
    from cotun_trio.protocol.http_digest import DigestChallenge

UNKNOWN = Diagnosis(
    "only Basic and Digest are known here",
    "run a local helper that logs in for you, such as cntlm or px, and give its address as --proxy",
)
"""For a proxy that wants NTLM, Negotiate (Kerberos) or something else."""
_STATUS = 407


class ProxyLogin:
    """The login for one request, which is made again after each challenge.

    `target` is the one of the request, a CONNECT.
    """

    def __init__(
        self,
        user: str | None,
        password: str | None,
        target: str,
        *,
        new_nonce: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        self._user = user
        self._password = password or ""
        self._target = target
        self._new_nonce = new_nonce
        self._scheme = ""
        self._digest: DigestChallenge | None = None
        self._count = 0
        self._renewed = False

    def authorization(self) -> bytes | None:
        """Return the value of Proxy-Authorization for the next request; None before a challenge."""
        if self._digest is not None:
            self._count += 1
            return answer_digest(
                self._digest,
                self._user or "",
                self._password,
                method="CONNECT",
                target=self._target,
                count=self._count,
                client_nonce=self._new_nonce(),
            )
        if self._scheme:
            return b"Basic " + base64.b64encode(f"{self._user}:{self._password}".encode())
        return None

    def challenge(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Take an answer 407 with these fields, to the last request.

        Raises `ProxyRefused` where there is no other request to be made: the password is wrong or
        missing, or none of the schemes is known here.
        """
        offered = read_challenges(fields, b"proxy-authenticate")
        digest = _strongest_digest(offered)
        if self._scheme:
            self._renew(digest)
            return
        scheme = _choose(offered, digest)
        if self._user is None:
            wanted = f", by {_alternatives(offered)}" if offered else ""
            raise _refused(f"it wants a user and a password (HTTP {_STATUS}){wanted}")
        self._scheme, self._digest = scheme, digest

    def _renew(self, digest: DigestChallenge | None) -> None:
        """Take another nonce for one that was too old, once (RFC 7616 section 3.3)."""
        if self._digest is None or digest is None or not digest.stale or self._renewed:
            raise _refused(f"it does not take the password (HTTP {_STATUS}), by {self._scheme}")
        self._digest, self._count, self._renewed = digest, 0, True


def _strongest_digest(offered: list[Challenge]) -> DigestChallenge | None:
    digests = [read_digest(each) for each in offered if each.is_of("digest")]
    known = [digest for digest in digests if digest is not None]
    return max(known, key=lambda each: each.strength, default=None)


def _choose(offered: list[Challenge], digest: DigestChallenge | None) -> str:
    """Return the name of the scheme to use.  Raises `ProxyLoginUnknown`."""
    if digest is not None:
        return f"Digest ({digest.hash_name})"
    # Where the proxy does not say, there is no other one as common.
    if not offered or any(each.is_of("basic") for each in offered):
        return "Basic"
    raise ProxyLoginUnknown(
        f"it wants a login by {_alternatives(offered)} (HTTP {_STATUS}): {UNKNOWN}",
        errno.EACCES,
        status=_STATUS,
    )


def _alternatives(offered: list[Challenge]) -> str:
    """Return the names of what is offered, once each."""
    names = []
    for each in offered:
        algorithm = each.parameters.get("algorithm", b"") if each.is_of("digest") else b""
        names.append(escape(each.scheme) + (f" ({escape(algorithm)})" if algorithm else ""))
    return " or ".join(dict.fromkeys(names))


def _refused(text: str) -> ProxyRefused:
    return ProxyRefused(text, errno.EACCES, status=_STATUS)
