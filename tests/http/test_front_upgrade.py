"""Which requests are upgrades to our protocol, and what trio-websocket is shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio.http.front import (
    HeadError,
    Request,
    asks_for_websocket,
    upgrade_head,
    wanted_dialect,
)
from cotun_trio.protocol.dialect import CHISEL, COTUN

if TYPE_CHECKING:
    from collections.abc import Iterable


def request(
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: bytes = b"GET",
    target: bytes = b"/",
) -> Request:
    """Return a request, as `receive_request` does."""
    return Request(
        method,
        target,
        tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        b"",
    )


def upgrade(*protocols: str, token: str = "websocket") -> Request:
    """Return an upgrade with a Sec-WebSocket-Protocol header for each of `protocols`."""
    return request(
        [("Upgrade", token), *(("Sec-WebSocket-Protocol", value) for value in protocols)]
    )


def test_each_dialect_is_known_by_its_token() -> None:
    assert wanted_dialect(upgrade("chisel-v3")) is CHISEL
    assert wanted_dialect(upgrade("costrict-v3")) is COTUN


@pytest.mark.parametrize(
    "protocols",
    [
        [],
        [""],
        ["chisel-v3, costrict-v3"],
        ["chisel-v3,costrict-v3"],
        ["chisel-v3", "chisel-v3"],
        ["chisel-v3", "costrict-v3"],
        ["Chisel-v3"],
        ["CHISEL-V3"],
        ["chisel-v2"],
        ["chisel-v33"],
        ["chisel"],
        ["chisel-v3\xa0"],
        ["mqtt"],
    ],
)
def test_anything_but_one_exact_token_asks_for_nothing_of_ours(protocols: list[str]) -> None:
    assert wanted_dialect(upgrade(*protocols)) is None


@pytest.mark.parametrize("protocols", [["chisel-v3,"], ["", "chisel-v3"], [" chisel-v3 ", ","]])
def test_a_list_with_empty_members_is_what_is_left_of_it(protocols: list[str]) -> None:
    # RFC 9110 section 5.6.1, and a list may come in several lines (section 5.3).
    assert wanted_dialect(upgrade(*protocols)) is CHISEL


@pytest.mark.parametrize(
    ("values", "asks"),
    [
        (["websocket"], True),
        (["WebSocket"], True),
        (["WEBSOCKET"], True),
        (["h2c, websocket"], True),
        (["h2c,WebSocket ,x"], True),
        (["h2c", "websocket"], True),
        ([], False),
        ([""], False),
        (["h2c"], False),
        (["websocket2"], False),
        (["web socket"], False),
        (["websocket/13"], False),
    ],
)
def test_an_upgrade_is_one_by_a_token_of_its_list(values: list[str], asks: bool) -> None:
    made = request([("Upgrade", value) for value in values])
    assert asks_for_websocket(made) is asks


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"PUT", b"CONNECT", b"get"])
def test_only_get_upgrades(method: bytes) -> None:
    made = request(
        [("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", "chisel-v3")], method=method
    )
    assert not asks_for_websocket(made)
    assert wanted_dialect(made) is None


HANDSHAKE = [
    ("Upgrade", "h2c, WebSocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "costrict-v3"),
]


def test_a_head_for_trio_websocket_has_what_counts_and_nothing_else() -> None:
    made = request(
        [
            ("Host", "xn--0"),
            *HANDSHAKE,
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Cookie", "caf\xe9"),
            ("Content-Length", "5"),
        ],
        target=b"/with/a/path?and=query",
    )
    assert upgrade_head(made, COTUN) == (
        b"GET / HTTP/1.1\r\n"
        b"Host: localhost\r\n"
        b"Upgrade: websocket\r\n"
        b"Sec-WebSocket-Protocol: costrict-v3\r\n"
        b"connection: keep-alive, Upgrade\r\n"
        b"sec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


def test_a_head_for_trio_websocket_invents_nothing_that_is_missing() -> None:
    head = upgrade_head(request(), CHISEL)
    assert head == (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Protocol: chisel-v3\r\n\r\n"
    )


def test_headers_that_came_in_several_lines_are_joined() -> None:
    # wsproto looks at the last one only, and would not find the upgrade.
    made = request([("Connection", "Upgrade"), ("Connection", "keep-alive")])
    assert b"\r\nconnection: Upgrade, keep-alive\r\n" in upgrade_head(made, CHISEL)


@pytest.mark.parametrize("name", ["Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"])
def test_what_is_not_ascii_in_an_upgrade_is_a_bad_request(name: str) -> None:
    with pytest.raises(HeadError) as caught:
        upgrade_head(request([(name, "caf\xe9")]), CHISEL)
    assert caught.value.status == 400
