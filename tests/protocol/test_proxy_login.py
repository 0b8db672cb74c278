"""The login at a proxy: what is sent after which challenge."""

from __future__ import annotations

import itertools

import pytest

from cotun_trio.errors import ProxyLoginUnknown, ProxyRefused
from cotun_trio.protocol.proxy_login import ProxyLogin

BASIC = b'Basic realm="x"'
MD5 = b'Digest realm="md", nonce="n", qop="auth"'
SHA = b'Digest realm="sha", nonce="n", qop="auth", algorithm=SHA-256'
UNKNOWN = b'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-512-256'


def login(user: str | None = "me", password: str | None = "secret") -> ProxyLogin:
    numbers = itertools.count(1)
    return ProxyLogin(user, password, "a:1", new_nonce=lambda: f"own{next(numbers)}")


def fields(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"proxy-authenticate", value) for value in values]


def sent(*values: bytes) -> str:
    """Return what is sent after these challenges."""
    mine = login()
    assert mine.authorization() is None
    mine.challenge(fields(*values))
    return (mine.authorization() or b"").decode()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([BASIC], "Basic bWU6c2VjcmV0"),
        ([b"basic"], "Basic bWU6c2VjcmV0"),
        ([], "Basic bWU6c2VjcmV0"),
        ([BASIC, MD5], 'realm="md"'),
        ([MD5, BASIC], 'realm="md"'),
        ([MD5, SHA, BASIC], 'realm="sha"'),
        ([SHA + b", " + MD5], 'realm="sha"'),
        ([b"Negotiate", b"NTLM", BASIC], "Basic bWU6c2VjcmV0"),
        ([UNKNOWN, MD5], 'realm="md"'),
        ([UNKNOWN, BASIC], "Basic bWU6c2VjcmV0"),
    ],
)
def test_the_strongest_scheme_that_is_known_is_taken(offered: list[bytes], chosen: str) -> None:
    assert chosen in sent(*offered)


def test_no_password_is_an_empty_one() -> None:
    mine = login(password=None)
    mine.challenge(fields(BASIC))
    assert mine.authorization() == b"Basic bWU6"


@pytest.mark.parametrize(
    ("offered", "named"),
    [
        ([b"NTLM"], "NTLM"),
        ([b"Negotiate", b"NTLM"], "Negotiate or NTLM"),
        ([b"Negotiate, Negotiate abc="], "Negotiate"),
        ([UNKNOWN], "Digest (SHA-512-256)"),
    ],
)
@pytest.mark.parametrize("user", [None, "me"])
def test_a_scheme_that_is_not_known_is_named_with_what_helps(
    offered: list[bytes], named: str, user: str | None
) -> None:
    with pytest.raises(ProxyLoginUnknown) as caught:
        login(user).challenge(fields(*offered))
    said = str(caught.value)
    assert said.startswith(f"it wants a login by {named} (HTTP 407): only Basic and Digest are ")
    assert "cntlm or px" in said
    assert caught.value.status == 407


@pytest.mark.parametrize(
    ("offered", "named"),
    [([], ""), ([BASIC], ", by Basic"), ([b"NTLM", SHA], ", by NTLM or Digest (SHA-256)")],
)
def test_without_a_user_what_is_offered_is_named(offered: list[bytes], named: str) -> None:
    with pytest.raises(ProxyRefused) as caught:
        login(None).challenge(fields(*offered))
    assert str(caught.value) == f"it wants a user and a password (HTTP 407){named}"
    assert not isinstance(caught.value, ProxyLoginUnknown)


@pytest.mark.parametrize(
    ("first", "second", "by"),
    [
        (BASIC, BASIC, "Basic"),
        (MD5, MD5, "Digest (MD5)"),
        (SHA, SHA + b", stale=false", "Digest (SHA-256)"),
        (SHA, BASIC, "Digest (SHA-256)"),  # the password is not shown after all
        (BASIC, SHA + b", stale=true", "Basic"),
        (SHA, b"", "Digest (SHA-256)"),
    ],
)
def test_a_second_challenge_is_a_wrong_password(first: bytes, second: bytes, by: str) -> None:
    mine = login()
    mine.challenge(fields(first))
    mine.authorization()
    with pytest.raises(ProxyRefused) as caught:
        mine.challenge(fields(second))
    assert str(caught.value) == f"it does not take the password (HTTP 407), by {by}"


def test_an_old_nonce_is_renewed_once() -> None:
    mine = login()
    mine.challenge(fields(MD5))
    for _ in range(2):  # as when a connection breaks between
        first = mine.authorization() or b""
    assert b'nonce="n", uri="a:1", cnonce="own2", nc=00000002,' in first
    mine.challenge(fields(MD5.replace(b'"n"', b'"new"') + b", stale=true"))
    assert b'nonce="new", uri="a:1", cnonce="own3", nc=00000001,' in (mine.authorization() or b"")
    with pytest.raises(ProxyRefused, match="does not take the password"):
        mine.challenge(fields(MD5 + b", stale=true"))


def test_nothing_that_is_shown_has_the_password_in_it() -> None:
    mine = login()
    mine.challenge(fields(SHA))
    assert "secret" not in repr(mine)
    assert b"secret" not in (mine.authorization() or b"")
