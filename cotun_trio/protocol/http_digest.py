"""Digest, the client's side: a login that shows nobody the password (RFC 7616).

The answer to a challenge is a hash of the password, the challenge's nonce, a nonce of our own and
the request::

    Proxy-Authenticate: Digest realm="net", qop="auth", algorithm=SHA-256, nonce="7ypf/xlj9XX"

    Proxy-Authorization: Digest username="alice", realm="net", uri="example.com:443",
        algorithm=SHA-256, nonce="7ypf/xlj9XX", nc=00000001, cnonce="f2/wE4q74E6zIJEt",
        qop=auth, response="753927fa0e85d155564e2e272a28d180"

The hashes are MD5 and SHA-256, each also in the form ``-sess``.  The kind that covers the content
of a request (``qop="auth-int"``) is not known here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cotun_trio.protocol.http_challenges import Challenge


def _md5(data: bytes) -> bytes:
    # The flag has it work where the system allows no MD5 otherwise (FIPS): the proxy has chosen.
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


_HASHES: Mapping[str, Callable[[bytes], bytes]] = {"MD5": _md5, "SHA-256": _sha256}
"""By name; a stronger one comes later."""
_STRENGTH = list(_HASHES)
_SESSION = "-SESS"
_SPECIAL = re.compile(rb'(["\\])')


@attrs.frozen
class DigestChallenge:
    """A challenge of Digest that can be answered."""

    realm: bytes
    nonce: bytes
    algorithm: str | None
    """As the challenge has it; None where it does not say, which is MD5."""
    hash_name: str
    """A key of the known hashes."""
    session: bool
    """Whether the hash of the password is bound to the nonces (``-sess``)."""
    qop: bool
    """Whether the answer has a nonce of the client's; without is the form of RFC 2069."""
    opaque: bytes | None
    """To be sent back as it is."""
    userhash: bool
    """Whether the user's name is sent as a hash."""
    utf8: bool
    """Whether the proxy says that it knows names beyond ASCII."""
    stale: bool
    """Whether the answer before this challenge was right but for its nonce."""

    @property
    def strength(self) -> int:
        """The higher, the better."""
        return _STRENGTH.index(self.hash_name)


def read_digest(challenge: Challenge) -> DigestChallenge | None:
    """Return a challenge of Digest; None where it asks for something that is not known here."""
    found = challenge.parameters
    algorithm = _text(found.get("algorithm"))
    name = (algorithm or "MD5").upper()
    hash_name = name.removesuffix(_SESSION)
    session = hash_name != name
    options = [option.strip() for option in _text(found.get("qop")).lower().split(",")]
    qop = "auth" in options
    if (
        hash_name not in _HASHES
        or not ("realm" in found and "nonce" in found)
        or not (qop or ("qop" not in found and not session))
    ):
        return None
    return DigestChallenge(
        realm=found["realm"],
        nonce=found["nonce"],
        algorithm=algorithm or None,
        hash_name=hash_name,
        session=session,
        qop=qop,
        opaque=found.get("opaque"),
        userhash=_text(found.get("userhash")).lower() == "true",
        utf8=_text(found.get("charset")).lower() == "utf-8",
        stale=_text(found.get("stale")).lower() == "true",
    )


def answer_digest(
    challenge: DigestChallenge,
    user: str,
    password: str,
    *,
    method: str,
    target: str,
    count: int,
    client_nonce: str,
) -> bytes:
    """Return the credentials for a request: the value of its field (RFC 7616 section 3.4).

    `target` is the request's; `count` says how often the challenge has been answered, with this
    time; `client_nonce` is a random text.
    """
    digest = _HASHES[challenge.hash_name]
    name, own = user.encode(), client_nonce.encode()
    secret = digest(b":".join((name, challenge.realm, password.encode())))
    if challenge.session:
        secret = digest(b":".join((secret, challenge.nonce, own)))
    hashed_request = digest(f"{method}:{target}".encode())
    turn = (b"%08x" % count, own, b"auth") if challenge.qop else ()
    response = digest(b":".join((secret, challenge.nonce, *turn, hashed_request)))
    # In curl's order, which every proxy has met.
    fields = [
        _user_field(challenge, name),
        b"realm=" + _quoted(challenge.realm),
        b"nonce=" + _quoted(challenge.nonce),
        b"uri=" + _quoted(target.encode()),
    ]
    if challenge.qop:
        fields.append(b"cnonce=%b, nc=%08x, qop=auth" % (_quoted(own), count))
    fields.append(b"response=" + _quoted(response))
    if challenge.opaque is not None:
        fields.append(b"opaque=" + _quoted(challenge.opaque))
    if challenge.algorithm is not None:
        fields.append(b"algorithm=" + challenge.algorithm.encode())
    if challenge.userhash:
        fields.append(b"userhash=true")
    return b"Digest " + b", ".join(fields)


def _user_field(challenge: DigestChallenge, name: bytes) -> bytes:
    if challenge.userhash:
        hashed = _HASHES[challenge.hash_name](name + b":" + challenge.realm)
        return b"username=" + _quoted(hashed)
    if challenge.utf8 and not name.isascii():
        return b"username*=UTF-8''" + quote(name, safe="").encode()  # RFC 8187 section 3.2
    return b"username=" + _quoted(name)


def _quoted(text: bytes) -> bytes:
    return b'"' + _SPECIAL.sub(rb"\\\1", text) + b'"'


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii", "replace")
