"""Who may ask: tokens, and the checks that keep the pages of other sites out."""

from __future__ import annotations

import pytest

from cotun_trio.admin.access import COOKIE, Gate, cookie_name, token_of_query
from cotun_trio.http.front import Request

TOKEN = "0123456789abcdef"
HERE = "127.0.0.1:9110"


def request(target: str = "/ready", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), v.encode("latin-1")) for name, v in headers.items()]
    return Request(b"GET", target.encode(), tuple(pairs), b"")


def status(gate: Gate, asked: Request) -> int:
    refusal = gate.refusal(asked)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN}"}, 200),
        ({"cookie": f"a=b; {COOKIE}_9110={TOKEN}"}, 200),
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer \xff\xfe"}, 401),
        ({"cookie": f"other={TOKEN}"}, 401),
        ({"cookie": f"{COOKIE}_9110=wrong"}, 401),
        # Of another interface on the same machine.
        ({"cookie": f"{COOKIE}_9111={TOKEN}"}, 401),
        ({"cookie": '"\\'}, 401),
    ],
)
def test_a_token_is_wanted(headers: dict[str, str], expected: int) -> None:
    assert status(Gate(TOKEN, HERE), request(host=HERE, **headers)) == expected


def test_who_has_no_token_is_told_how_to_give_one() -> None:
    refusal = Gate(TOKEN, HERE).refusal(request(host=HERE))
    assert refusal is not None
    assert 'WWW-Authenticate: Bearer realm="cotun-trio"\r\n' in refusal.lines  # RFC 9110, 15.5.2


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HERE, 200),
        ("127.0.0.1", 200),
        ("localhost:9110", 200),
        ("LOCALHOST", 200),
        ("[::1]:9110", 200),
        ("192.0.2.7:9110", 200),
        ("evil.example:9110", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_page_that_has_its_own_name_lead_here_is_refused(host: str, expected: int) -> None:
    asked = request(host=host, authorization=f"Bearer {TOKEN}")
    assert status(Gate(TOKEN, HERE), asked) == expected


def test_the_name_that_is_listened_on_is_a_host() -> None:
    asked = request(host="admin.internal:9110", authorization=f"Bearer {TOKEN}")
    assert status(Gate(TOKEN, "admin.internal:9110"), asked) == 200
    assert status(Gate(TOKEN, HERE), asked) == 403


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    bare = Request(b"GET", b"/", ((b"authorization", f"Bearer {TOKEN}".encode()),), b"")
    assert status(Gate(TOKEN, HERE), bare) == 403
    two = Request(b"GET", b"/", (*bare.headers, (b"host", b"localhost"), (b"host", b"x")), b"")
    assert status(Gate(TOKEN, HERE), two) == 403


@pytest.mark.parametrize("gate", [Gate(None, None), Gate(TOKEN, HERE)], ids=["unix", "tcp"])
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (f"http://{HERE}", 200),
        (f"https://{HERE}", 403),
        ("http://localhost:9110", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ],
)
def test_the_page_of_another_site_is_refused(gate: Gate, origin: str, expected: int) -> None:
    asked = request(host=HERE, origin=origin, authorization=f"Bearer {TOKEN}")
    assert status(gate, asked) == expected


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (HERE, f"{COOKIE}_9110"),
        ("[::1]:80", f"{COOKIE}_80"),
        ("localhost", COOKIE),
        ("[::1]", COOKIE),
        ("x:\xb2", COOKIE),
        ("", COOKIE),
    ],
)
def test_each_port_has_a_cookie_of_its_own(host: str, name: str) -> None:
    assert cookie_name(request(host=host)) == name


def test_on_a_unix_socket_no_token_is_wanted_and_any_host_will_do() -> None:
    assert status(Gate(None, None), request(host="whatever")) == 200


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/?token=abc", "abc"),
        ("/x?a=b&token=abc&token=d", "abc"),
        ("/?token=", None),
        ("/", None),
        ("/?" + "&".join(f"a{number}=1" for number in range(100)), None),
    ],
)
def test_the_token_of_an_address(target: str, expected: str | None) -> None:
    assert token_of_query(request(target)) == expected
