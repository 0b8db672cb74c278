"""Digest: the examples of the RFCs, and what curl sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cotun_trio.protocol.http_challenges import read_challenges
from cotun_trio.protocol.http_digest import answer_digest, read_digest

if TYPE_CHECKING:
    from cotun_trio.protocol.http_digest import DigestChallenge


def challenge_of(value: str) -> DigestChallenge | None:
    (found,) = read_challenges(
        [(b"proxy-authenticate", f"Digest {value}".encode())], b"proxy-authenticate"
    )
    return read_digest(found)


def answer(
    value: str,
    user: str,
    password: str,
    *,
    method: str = "CONNECT",
    target: str = "example.com:8080",
    count: int = 1,
    client_nonce: str = "",
) -> str:
    challenge = challenge_of(value)
    assert challenge is not None
    return answer_digest(
        challenge,
        user,
        password,
        method=method,
        target=target,
        count=count,
        client_nonce=client_nonce,
    ).decode()


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm: str, response: str) -> None:
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    opaque = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    said = answer(
        f'realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        f'nonce="{nonce}", opaque="{opaque}"',
        "Mufasa",
        "Circle of Life",
        method="GET",
        target="/dir/index.html",
        client_nonce=client_nonce,
    )
    assert said == (
        f'Digest username="Mufasa", realm="http-auth@example.org", nonce="{nonce}", '
        f'uri="/dir/index.html", cnonce="{client_nonce}", nc=00000001, qop=auth, '
        f'response="{response}", opaque="{opaque}", algorithm={algorithm}'
    )


def test_the_example_of_rfc_2617_section_3_5() -> None:
    said = answer(
        'realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"',
        "Mufasa",
        "Circle Of Life",
        method="GET",
        target="/dir/index.html",
        client_nonce="0a4f113b",
    )
    assert 'response="6629fae49393a05397450978507c4ef1"' in said
    assert "algorithm" not in said


CURL = [
    (
        'realm="r", nonce="n", qop="auth", algorithm=MD5-sess, opaque="o"',
        (
            'Digest username="me", realm="r", nonce="n", uri="example.com:8080", '
            'cnonce="YzUyMmFmZWUzMzU4ZWRmMTNlZGQ0YTE3Y2Q1ZDI4MTc=", nc=00000001, qop=auth, '
            'response="c0a8945d06a5bb77e1099e08401028da", opaque="o", algorithm=MD5-sess'
        ),
    ),
    (
        'realm="r", nonce="n", qop="auth,auth-int", algorithm=SHA-256-sess',
        (
            'Digest username="me", realm="r", nonce="n", uri="example.com:8080", '
            'cnonce="NmQyZDdhMDFiZjc4MmJhY2NjMDhiNjJlOTRmYjc2Yzg=", nc=00000001, qop=auth, '
            'response="7daacdcc917cc9790eaff132b2400a537bd850f4af58a603eff4257442ba5d30", '
            "algorithm=SHA-256-sess"
        ),
    ),
    (
        'realm="r", nonce="n", qop="auth", algorithm=SHA-256, userhash=true',
        (
            'Digest username="171188f9fe5ff7f33fca2169f629f20f5e7305450f538f19bab68e262f1166a7", '
            'realm="r", nonce="n", uri="example.com:8080", '
            'cnonce="YThjZWY0NmQyMjg4YWE5YTkzZmUxOTU4NGQ5NzI4ZWU=", nc=00000001, qop=auth, '
            'response="c94b9281dbce8fb5c8c31f150fd359091d514cb4bfc94f225488fd56ff320e26", '
            "algorithm=SHA-256, userhash=true"
        ),
    ),
    (
        r'realm="a \"b\" \\c", nonce="n", qop="auth"',
        (
            r'Digest username="me", realm="a \"b\" \\c", nonce="n", uri="example.com:8080", '
            'cnonce="YjQ0YmRjY2I4MDEwYWYzYWQwYTAzMWIzOTg0YTM1NTE=", nc=00000001, qop=auth, '
            'response="aecf073eb9e51bebfa468bac27a64012"'
        ),
    ),
    (
        'realm="r", nonce="n"',
        (
            'Digest username="me", realm="r", nonce="n", uri="example.com:8080", '
            'response="78854a8eb501ea74a09660744f898476"'
        ),
    ),
]
"""Challenges, and what curl 7.88 answers to each for ``me:a:secret``."""


@pytest.mark.parametrize(("challenge", "sent"), CURL, ids=[challenge for challenge, _ in CURL])
def test_we_send_what_curl_sends(challenge: str, sent: str) -> None:
    client_nonce = re.search('cnonce="(.*?)"', sent)
    said = answer(
        challenge, "me", "a:secret", client_nonce=client_nonce[1] if client_nonce else "unused"
    )
    assert said == sent


def test_a_name_beyond_ascii_is_sent_as_the_proxy_knows_it() -> None:
    plain = 'realm="r", nonce="n", qop="auth", algorithm=SHA-256'
    client_nonce = "MDQwOWQ5ZmY0N2FiM2MyMzE3YjRmMTNhMzgzMjVhMDk="
    # As curl 7.88 sends it.
    hashed = 'response="4fade3340f632294f2a9793a2b793121e46cda956d2c838d746aab118a764ece"'
    said = answer(plain, "mü", "ß", client_nonce=client_nonce)
    assert said.startswith('Digest username="mü", ')
    assert hashed in said
    said = answer(f"{plain}, charset=UTF-8", "mü", "ß", client_nonce=client_nonce)
    assert said.startswith("Digest username*=UTF-8''m%C3%BC, ")
    assert hashed in said


def test_a_quote_in_a_name_does_not_end_it() -> None:
    said = answer('realm="r", nonce="n", qop=auth', 'a"b\\c', "x")
    assert said.startswith(r'Digest username="a\"b\\c", realm="r"')


def test_each_answer_is_counted_in_hex_and_hashed_with_its_number() -> None:
    value = 'realm="r", nonce="n", qop="auth"'
    one, other = (answer(value, "me", "x", count=count, client_nonce="c") for count in (1, 255))
    assert "nc=00000001" in one
    assert "nc=000000ff" in other
    assert one[-40:] != other[-40:]


@pytest.mark.parametrize(
    "value",
    [
        'realm="r", nonce="n", qop="auth", algorithm=SHA-512-256',
        'realm="r", nonce="n", qop="auth", algorithm=SHA-1',
        'realm="r", nonce="n", qop="auth", algorithm="MD5-SE\xdf"',
        'realm="r", nonce="n", qop="auth-int"',
        'realm="r", nonce="n", algorithm=MD5-sess',  # bound to a nonce that there is not
        'realm="r", qop="auth"',
        'nonce="n", qop="auth"',
        "",
    ],
)
def test_what_is_not_known_cannot_be_answered(value: str) -> None:
    assert challenge_of(value) is None


@pytest.mark.parametrize(
    ("value", "stale"), [("", False), (", stale=false", False), (', stale="TRUE"', True)]
)
def test_a_challenge_may_say_that_the_nonce_was_old(value: str, stale: bool) -> None:
    found = challenge_of(f'realm="r", nonce="n"{value}')
    assert found is not None
    assert found.stale is stale


def test_sha_256_is_the_stronger_one() -> None:
    md5, sha = (
        challenge_of(f"realm=r, nonce=n, qop=auth, algorithm={name}")
        for name in ("md5-sess", "sha-256")
    )
    assert md5 is not None
    assert sha is not None
    assert sha.strength > md5.strength
