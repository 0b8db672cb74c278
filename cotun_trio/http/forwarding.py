"""The headers that a gateway changes (RFC 9110 section 7.6), and the proxies that it trusts.

The origin of a request is known from its socket.  Other claims about it (``X-Forwarded-For`` and
its kin, ``Forwarded``) are dropped, unless the socket's peer is a proxy that the user trusts: then
its claims are kept, and the proxy is added to them.  The same holds for names that a back end could
take for one of these, or for one of those that frame a message: CGI and its kin write
``X_Forwarded_For`` and ``X-Forwarded-For`` in the same way (RFC 3875 section 4.1.18).
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, TypeAlias

import attrs

from cotun_trio.protocol.addresses import bracketed
from cotun_trio.protocol.networks import is_within

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cotun_trio.protocol.networks import Network

Headers: TypeAlias = "Sequence[tuple[bytes, bytes]]"

VIA = b"1.1 cotun-trio"
WEBSOCKET = b"websocket"
_HOP_BY_HOP = {
    b"connection",
    b"http2-settings",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"transfer-encoding",
    b"upgrade",
}
"""About one connection only (RFC 9110 section 7.6.1)."""
_REWRITTEN = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"}
"""Claims that are written again, with what is known here."""
_CLAIMS = {
    *_REWRITTEN,
    b"cf-connecting-ip",
    b"cf-connecting-ipv6",
    b"client-ip",
    b"fastly-client-ip",
    b"fly-client-ip",
    b"front-end-https",
    b"proxy",  # in CGI it is HTTP_PROXY, a proxy for requests of the back end's own
    b"remote-user",
    b"true-client-ip",
    b"x-arr-ssl",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-envoy-external-address",
    b"x-host",
    b"x-http-host-override",
    b"x-proxyuser-ip",
    b"x-real-ip",
    b"x-remote-addr",
    b"x-remote-ip",
    b"x-remote-user",
    b"x-rewrite-url",
    b"x-scheme",
    b"x-url-scheme",
}
_KINDS_OF_CLAIMS = (b"x-forwarded-", b"x-original-")
"""The first halves of other ones, such as ``X-Forwarded-Port`` and ``X-Original-URL``."""
_FRAMING = {
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"expect",
    b"host",
    b"trailer",
}
"""The form of a message, or its way: no trailer has them (RFC 9110 section 6.5.1)."""
_NOT_IN_TRAILERS = _HOP_BY_HOP | _FRAMING | {b"authorization", b"cookie", b"cache-control", b"via"}
_NO_LETTER = re.compile(rb"[^0-9a-z-]")


@attrs.frozen
class Origin:
    """The origin of a request, as its socket shows it."""

    host: str
    """The address of the socket's peer."""
    tls: bool
    trusted: tuple[Network, ...] = ()
    """Proxies whose claims are believed."""

    @property
    def is_trusted(self) -> bool:
        """Whether the socket's peer is one of these proxies."""
        return is_within(self.host, self.trusted)

    def client(self, headers: Headers) -> str:
        """Return the address of the client: the last one that no trusted proxy has."""
        if not self.is_trusted:
            return self.host
        client = self.host
        for claim in reversed(_values(headers, b"x-forwarded-for")):
            address = claim.decode("latin-1").strip("[]")
            try:
                ipaddress.ip_address(address)
            except ValueError:
                break  # a malformed claim: nothing in front of it can be believed
            client = address
            if not is_within(address, self.trusted):
                break
        return client


def _values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the members of the list that the headers called `name` are together."""
    return [
        member.strip()
        for key, value in headers
        if key == name
        for member in value.split(b",")
        if member.strip()
    ]


def is_upgrade(headers: Headers) -> bool:
    """Return whether a head asks for, or grants, another protocol."""
    connection = {member.lower() for member in _values(headers, b"connection")}
    return b"upgrade" in connection and bool(_values(headers, b"upgrade"))


def narrow_upgrades(headers: Headers, allowed: Collection[bytes]) -> Headers:
    """Return `headers` without the protocols to switch to that are not `allowed`.

    A protocol with a version (RFC 9110 section 7.8) is allowed by its name, too.
    """
    kept = [
        protocol
        for protocol in _values(headers, b"upgrade")
        if not {protocol.lower(), protocol.partition(b"/")[0].lower()}.isdisjoint(allowed)
    ]
    others = [pair for pair in headers if pair[0] != b"upgrade"]
    return [*others, (b"upgrade", b", ".join(kept))] if kept else others


def is_granted(headers: Headers, request: Headers) -> bool:
    """Return whether a 101 switches to nothing but what `request` has asked for."""
    granted = {protocol.lower() for protocol in _values(headers, b"upgrade")}
    return granted <= {protocol.lower() for protocol in _values(request, b"upgrade")}


def _is_claim(name: bytes) -> bool:
    return name in _CLAIMS or name.startswith(_KINDS_OF_CLAIMS)


def _is_alias(name: bytes) -> bool:
    """Return whether a back end could take a header for another one, which says too much."""
    if not _NO_LETTER.search(name):
        return False
    other = _NO_LETTER.sub(b"-", name)
    return _is_claim(other) or other in _HOP_BY_HOP or other in _FRAMING


def _end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    named = {member.lower() for member in _values(headers, b"connection")}
    # A client must not have a length removed by naming it there (that would make two messages), nor
    # what a proxy has said about it.
    dropped = _HOP_BY_HOP | {name for name in named if name not in _FRAMING and not _is_claim(name)}
    return [(key, value) for key, value in headers if key not in dropped]


def request_headers(
    headers: Headers, origin: Origin, authority: str, *, upgrade: bool
) -> list[tuple[bytes, bytes]]:
    """Return the headers that the back end at `authority` gets for a client's."""
    trusted = origin.is_trusted
    kept = _end_to_end(headers)
    claims = _claims(kept) if trusted else {}
    result = [(b"host", authority.encode())]
    for pair in kept:
        name = pair[0]
        if name in _REWRITTEN or name == b"host":
            continue
        if trusted or not (_is_claim(name) or _is_alias(name)):
            result.append(pair)
    result += _provenance(headers, origin, claims)
    result.append((b"via", VIA))
    result += _hop_by_hop(headers)
    return result + _upgrade(headers) if upgrade else result


def _claims(headers: Headers) -> dict[bytes, bytes]:
    """Return the claims that are written again; several lines of one are a list."""
    names = {key for key, _ in headers if key in _REWRITTEN}
    return {name: b", ".join(_values(headers, name)) for name in names}


def request_trailers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the trailers that the back end gets for a client's: it may add them to the headers."""
    return [
        (name, value)
        for name, value in headers
        if not (name in _NOT_IN_TRAILERS or _is_claim(name) or _is_alias(name))
    ]


def _provenance(
    headers: Headers, origin: Origin, claims: Mapping[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the headers that name the origin of a request; `claims` are believed."""
    host = b"".join(value for key, value in headers if key == b"host")
    proto = b"https" if origin.tls else b"http"
    addresses = _values(headers, b"x-forwarded-for") if claims else []
    elements = _values(headers, b"forwarded") if claims else []
    element = b"for=" + _node(origin.host) + b";host=" + _quoted(host) + b";proto=" + proto
    return [
        (b"x-forwarded-for", b", ".join([*addresses, origin.host.encode()])),
        (b"x-forwarded-proto", claims.get(b"x-forwarded-proto", proto)),
        (b"x-forwarded-host", claims.get(b"x-forwarded-host", host)),
        (b"forwarded", b", ".join([*elements, element])),
    ]


def _hop_by_hop(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers about the body for the back end, as the client has sent them to us."""
    result = []
    if any(key == b"transfer-encoding" for key, _ in headers):
        result.append((b"transfer-encoding", b"chunked"))
    if b"trailers" in {member.lower() for member in _values(headers, b"te")}:
        result += [(b"te", b"trailers"), (b"connection", b"TE")]
    return result


def _node(host: str) -> bytes:
    """Return an address as ``Forwarded`` names it (RFC 7239 section 6): IPv6 in quotes."""
    node = bracketed(host).encode()
    return b'"' + node + b'"' if b":" in node else node


def _quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"").replace(b'"', b"") + b'"'


def response_headers(headers: Headers, *, upgrade: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers that a client gets for the back end's."""
    kept = _end_to_end(headers)
    return kept + _upgrade(headers) if upgrade else kept


def _upgrade(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(b"connection", b"upgrade"), *(pair for pair in headers if pair[0] == b"upgrade")]
