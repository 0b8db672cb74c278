"""Headers that a gateway passes on, drops or adds, and the proxies that it trusts."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from cotun_trio.http.forwarding import (
    Origin,
    is_granted,
    is_upgrade,
    narrow_upgrades,
    request_headers,
    request_trailers,
    response_headers,
)

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
HOST = (b"host", b"example.com")


def passed(
    *headers: tuple[bytes, bytes], origin: Origin | None = None, upgrade: bool = False
) -> dict[bytes, bytes]:
    """Return what the back end gets for `headers`; values of one name are joined."""
    result: dict[bytes, bytes] = {}
    pairs = request_headers(
        (HOST, *headers), origin or Origin("192.0.2.1", tls=False), "inside:8080", upgrade=upgrade
    )
    for key, value in pairs:
        result[key] = result[key] + b"|" + value if key in result else value
    return result


def test_the_back_end_learns_where_a_request_has_come_from() -> None:
    assert passed() == {
        b"host": b"inside:8080",
        b"x-forwarded-for": b"192.0.2.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"example.com",
        b"forwarded": b'for=192.0.2.1;host="example.com";proto=http',
        b"via": b"1.1 cotun-trio",
    }


def test_an_ipv6_address_is_quoted_where_it_has_to_be() -> None:
    got = passed(origin=Origin("2001:db8::1", tls=True))
    assert got[b"x-forwarded-for"] == b"2001:db8::1"
    assert got[b"forwarded"] == b'for="[2001:db8::1]";host="example.com";proto=https'


CLAIMS = (
    (b"x-forwarded-for", b"198.51.100.1, 10.9.9.9"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"www.example.com"),
    (b"x-real-ip", b"198.51.100.1"),
    (b"forwarded", b"for=198.51.100.1"),
)


def test_what_anybody_claims_is_dropped() -> None:
    assert passed(*CLAIMS) == passed()


OTHER_CLAIMS = [
    b"proxy",
    b"remote-user",
    b"true-client-ip",
    b"x-client-ip",
    b"x-forwarded-client-cert",
    b"x-forwarded-port",
    b"x-forwarded-ssl",
    b"x-forwarded-user",
    b"x-original-host",
    b"x-original-url",
    b"x-rewrite-url",
]
ALIASES = [
    b"x_forwarded_for",
    b"x-forwarded_for",
    b"x.forwarded.for",
    b"x_forwarded_port",
    b"x_real_ip",
    b"true_client_ip",
    b"content_length",
    b"content_type",
    b"transfer_encoding",
    b"transfer~encoding",
    b"proxy_connection",
    b"proxy_authorization",
]


@pytest.mark.parametrize("name", [*OTHER_CLAIMS, *ALIASES])
def test_what_says_too_much_is_dropped_unless_a_trusted_proxy_has_said_it(name: bytes) -> None:
    assert passed((name, b"1")) == passed()
    trusted = Origin("10.0.0.1", tls=False, trusted=TRUSTED)
    assert passed((name, b"1"), origin=trusted)[name] == b"1"


@pytest.mark.parametrize("name", [b"x_request_id", b"x-user_name", b"accept", b"dnt", b"x-proxy"])
def test_other_names_are_passed_on_with_their_underscores(name: bytes) -> None:
    assert passed((name, b"1"))[name] == b"1"


@pytest.mark.parametrize("name", [*OTHER_CLAIMS, *ALIASES, b"content-length", b"host", b"cookie"])
def test_trailers_claim_nothing_and_frame_nothing(name: bytes) -> None:
    assert request_trailers([(name, b"1"), (b"x-check", b"9")]) == [(b"x-check", b"9")]


def test_a_trusted_proxys_claims_cannot_be_dropped_by_connection() -> None:
    trusted = Origin("10.0.0.1", tls=False, trusted=TRUSTED)
    named = (b"connection", b"x-forwarded-proto, x-forwarded-port")
    got = passed(named, *CLAIMS, (b"x-forwarded-port", b"443"), origin=trusted)
    assert (got[b"x-forwarded-proto"], got[b"x-forwarded-port"]) == (b"https", b"443")


def test_claims_in_several_lines_are_one_list() -> None:
    lines = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"10.9.9.9")]
    lines += [(b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http")]
    got = passed(*lines, origin=Origin("10.0.0.1", tls=False, trusted=TRUSTED))
    assert got[b"x-forwarded-for"] == b"198.51.100.1, 10.9.9.9, 10.0.0.1"
    assert got[b"x-forwarded-proto"] == b"https, http"


def test_what_a_trusted_proxy_claims_is_kept_and_it_is_added() -> None:
    got = passed(*CLAIMS, origin=Origin("10.0.0.1", tls=False, trusted=TRUSTED))
    assert got[b"x-forwarded-for"] == b"198.51.100.1, 10.9.9.9, 10.0.0.1"
    assert got[b"x-forwarded-proto"] == b"https"
    assert got[b"x-forwarded-host"] == b"www.example.com"
    assert got[b"x-real-ip"] == b"198.51.100.1"
    assert got[b"forwarded"] == b'for=198.51.100.1, for=10.0.0.1;host="example.com";proto=http'


@pytest.mark.parametrize(
    ("peer", "claimed", "client"),
    [
        ("192.0.2.1", [b"198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1, 10.2.2.2", b"10.3.3.3"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1, rubbish"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, rubbish, 10.3.3.3"], "10.3.3.3"),
        ("2001:db8::1", [b"[2001:db9::1]"], "2001:db9::1"),
    ],
)
def test_the_client_is_the_last_one_that_is_no_trusted_proxy(
    peer: str, claimed: list[bytes], client: str
) -> None:
    headers = [(b"x-forwarded-for", value) for value in claimed]
    assert Origin(peer, tls=False, trusted=TRUSTED).client(headers) == client


def test_what_is_about_one_connection_only_is_not_passed_on() -> None:
    hops = (
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"x"),
        (b"proxy-authorization", b"Basic x"),
        (b"te", b"gzip"),
        (b"upgrade", b"h2c"),
    )
    ends = ((b"accept", b"*/*"), (b"cookie", b"a=b"), (b"cookie", b"c=d"))
    assert passed(*hops, *ends) == passed() | {b"accept": b"*/*", b"cookie": b"a=b|c=d"}
    kept = response_headers((*hops, (b"set-cookie", b"a"), (b"set-cookie", b"b")))
    assert kept == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]


@pytest.mark.parametrize("name", [b"content-length", b"host", b"transfer-encoding"])
def test_headers_that_frame_a_message_cannot_be_dropped_by_connection(name: bytes) -> None:
    got = passed((b"connection", name), (b"content-length", b"5"))
    assert got[b"content-length"] == b"5"
    assert got[b"host"] == b"inside:8080"


def test_chunks_and_the_wish_for_trailers_are_passed_on() -> None:
    got = passed((b"transfer-encoding", b"chunked"), (b"te", b"trailers"))
    assert got[b"transfer-encoding"] == b"chunked"
    assert (got[b"te"], got[b"connection"]) == (b"trailers", b"TE")


def test_an_upgrade_is_passed_on_where_it_is_one() -> None:
    headers = ((b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"websocket"))
    assert is_upgrade(headers)
    got = passed(*headers, upgrade=True)
    assert (got[b"connection"], got[b"upgrade"]) == (b"upgrade", b"websocket")
    assert (b"upgrade", b"websocket") in response_headers(headers, upgrade=True)
    assert not is_upgrade(headers[:1])
    assert not is_upgrade(headers[1:])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ([b"websocket"], [b"websocket"]),
        ([b"WebSocket"], [b"WebSocket"]),
        ([b"h2c"], []),
        ([b"h2c, websocket"], [b"websocket"]),
        ([b"h2c", b"websocket", b"mine/2"], [b"websocket, mine/2"]),
        ([b"TLS/1.0"], []),
        ([b"websockets"], []),
        ([b""], []),
        ([], []),
    ],
)
def test_only_what_is_allowed_can_be_switched_to(asked: list[bytes], kept: list[bytes]) -> None:
    headers = [(b"connection", b"upgrade"), *((b"upgrade", value) for value in asked)]
    narrowed = narrow_upgrades(headers, {b"websocket", b"mine"})
    assert [value for key, value in narrowed if key == b"upgrade"] == kept
    assert is_upgrade(narrowed) == bool(kept)


def test_only_what_was_asked_for_can_be_granted() -> None:
    asked = [(b"upgrade", b"websocket, mine")]
    assert is_granted([(b"upgrade", b"WebSocket")], asked)
    assert not is_granted([(b"upgrade", b"h2c")], asked)
    assert not is_granted([(b"upgrade", b"websocket"), (b"upgrade", b"h2c")], asked)


def test_the_settings_of_http_2_go_no_further() -> None:
    assert passed((b"http2-settings", b"AAMAAABkAAQ")) == passed()
