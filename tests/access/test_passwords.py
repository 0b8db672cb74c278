"""Passwords, plain and hashed: what is right, what is a hash, and what is neither."""

from __future__ import annotations

import bcrypt
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access import passwords
from cotun_trio.access.passwords import Secret, decoy, hash_password
from cotun_trio.errors import UsageError

SALT = "c29tZXNhbHQ"
"""somesalt"""
VALUE = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
# Of the reference implementation's test.c (P-H-C/phc-winner-argon2), of argon2-cffi, which is the
# same in Python, at our bounds of salt and value, of bcrypt, and of htpasswd -nbB.
KNOWN = {
    f"$argon2id$v=19$m=256,t=2,p=1${SALT}$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4": "password",
    f"$argon2id$v=19$m=256,t=2,p=2${SALT}$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc": "password",
    "$argon2id$v=19$m=64,t=1,p=1$eHh4eHh4eHg$cKj1f0i3RWrm8zUrGJMuxg": "p",
    f"$argon2id$v=19$m=64,t=3,p=4${'eXl5' * 21}eQ"
    "$r5uKshq/30Z8lRX0rliTpRvC9/8YYKE5qCq7Bv2eo4wa6fE358lf7864ReiyIyUPg29+VZRQ9A1rp7fDowt7aQ": (
        "пароль"
    ),
    "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.": "hunter2",
    "$2y$04$wPk1U./25SZ5GDazNaGkDeRWTUqbzE3i6WzCQzQc/.fZmMzWhi13u": "hunter2",
}


@pytest.mark.parametrize("text", KNOWN)
def test_hashes_made_elsewhere_are_taken(text: str) -> None:
    secret = Secret.parse(text)
    assert secret.cost is not None
    assert secret.matches(KNOWN[text])
    for wrong in ("", KNOWN[text] + "x", KNOWN[text][:-1], KNOWN[text].upper(), text):
        assert not secret.matches(wrong)


@pytest.mark.parametrize("prefix", ["$2a$", "$2y$"])
def test_the_other_names_of_bcrypt_are_the_same(prefix: str) -> None:
    text = "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR."
    assert Secret.parse(prefix + text[4:]).matches("hunter2")


@pytest.mark.parametrize("scheme", ["argon2id", "bcrypt"])
@pytest.mark.parametrize("password", ["hunter2", "пароль", "a b\tc", "x" * 72])
def test_what_we_make_is_what_we_take(
    scheme: passwords.Scheme, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "BCRYPT_ROUNDS", 4)
    monkeypatch.setattr(passwords, "ARGON2_MEMORY", 64)
    made = hash_password(password, scheme)
    assert made != hash_password(password, scheme)
    assert Secret.parse(made).matches(password)
    assert not Secret.parse(made).matches(password + "x")


def test_what_we_make_costs_what_is_recommended() -> None:
    assert hash_password("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.BCRYPT_ROUNDS == 12


def test_bcrypt_is_not_given_more_than_it_looks_at() -> None:
    with pytest.raises(UsageError, match="72 octets"):
        hash_password("x" * 73, "bcrypt")
    with pytest.raises(UsageError, match="72 octets"):
        hash_password("ü" * 37, "bcrypt")
    with pytest.raises(UsageError, match="no NUL"):
        hash_password("a\0b", "bcrypt")


@pytest.mark.parametrize("scheme", ["argon2id", "bcrypt"])
def test_what_is_not_unicode_has_no_hash(scheme: passwords.Scheme) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        hash_password("hunter2\udcff", scheme)


def test_a_password_that_is_longer_than_bcrypt_sees_is_wrong() -> None:
    secret = Secret.parse(bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())
    assert secret.matches("x" * 72)
    assert not secret.matches("x" * 73)


@pytest.mark.parametrize(("right", "same"), [("hunter2", "hunter2\0hunter2"), ("", "\0")])
def test_what_bcrypt_takes_for_the_same_is_wrong(right: str, same: str) -> None:
    text = bcrypt.hashpw(right.encode(), bcrypt.gensalt(4))
    assert bcrypt.checkpw(same.encode(), text)
    assert Secret.parse(text.decode()).matches(right)
    assert not Secret.parse(text.decode()).matches(same)


def test_a_wrong_password_that_cannot_be_right_costs_a_hash_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = Secret.parse(bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode())
    checked = []
    checkpw = bcrypt.checkpw

    def noting(password: bytes, text: bytes) -> bool:
        checked.append(password)
        return checkpw(password, text)

    monkeypatch.setattr(bcrypt, "checkpw", noting)
    for odd in ("x" * 73, "x\0x"):
        assert not secret.matches(odd)
    assert checked == [b"x" * 72, b"x\0x"]


@given(st.text(max_size=5), st.text(max_size=5))
def test_a_plain_password_is_right_when_it_is_the_same(one: str, other: str) -> None:
    secret = Secret.parse(one)
    assert secret.matches(other) == (one == other)
    assert secret.cost is None


@pytest.mark.parametrize("text", ["", "$", "$5 note", "$dollar", "$$", "a$6$b", "2b$12$", "$9$x$y"])
def test_what_only_begins_a_little_like_a_hash_is_a_password(text: str) -> None:
    secret = Secret.parse(text)
    assert secret.cost is None
    assert secret.matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "$1$abcdefgh$xyz",
        "$2x$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",
        "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR",  # cut short
        "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR..",
        "$2b$04$hwr9Zat359TSaZY3oKro5vbBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",  # a bit too much of salt
        "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR/",  # or value
        "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.\n",
        " $2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",
        "$2b$03$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",
        "$2b$17$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",
        "$2b$99$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.",
        "$5$abc$xyz",
        "$6$rounds=5000$abc$xyz",
        "$7$CU....abcdefgh",
        "$y$j9T$abc$xyz",
        "$apr1$abc$xyz",
        f"$argon2i$v=19$m=256,t=2,p=1${SALT}$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        f"$argon2d$v=19$m=256,t=2,p=1${SALT}${VALUE}",
        f"$argon2id$v=16$m=256,t=2,p=1${SALT}${VALUE}",
        f"$argon2id$v=19$m=0256,t=2,p=1${SALT}${VALUE}",
        f"$argon2id$v=19$m=256,t=2,p=1${SALT[:-1]}R${VALUE}",  # a bit too much of salt
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}${VALUE[:-1]}5",  # or value
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}AA${VALUE}",  # not base64
        f"$argon2id$v=19$m=256,t=2,p=1${SALT[:10]}${VALUE}",  # 7 octets of salt
        f"$argon2id$v=19$m=256,t=2,p=1${'A' * 87}${VALUE}",  # 65
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}${'A' * 20}",  # 15 octets of value
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}${'A' * 87}",  # 65
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}${VALUE}=",
        f"$argon2id$v=19$m=520,t=1,p=65${SALT}${VALUE}",
        f"$argon2id$v=19$m={'9' * 30},t=1,p=1${SALT}${VALUE}",
        "$argon2id-and-what-follows",
        "$y$cut-short",
        "$gy$j9T$abc$xyz",
        f"$argon2id$m=256,t=2,p=1${SALT}$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}",
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}$" + "A" * 25,  # not base64
        f"$argon2id$v=19$m=7,t=2,p=1${SALT}$" + "A" * 43,
        f"$argon2id$v=19$m=15,t=2,p=2${SALT}$" + "A" * 43,
        f"$argon2id$v=19$m=2000000,t=2,p=1${SALT}$" + "A" * 43,
        f"$argon2id$v=19$m=256,t=0,p=1${SALT}$" + "A" * 43,
        f"$argon2id$v=19$m=256,t=65,p=1${SALT}$" + "A" * 43,
        f"$argon2id$v=19$m=1048576,t=5,p=1${SALT}$" + "A" * 43,  # in its bounds, but together
        f"$argon2id$v=19$m=256,t=1,p=0${SALT}$" + "A" * 43,
        "$scrypt$ln=16,r=8,p=1$abc$xyz",
        "$pbkdf2-sha256$100000$abc$xyz",
    ],
)
def test_what_looks_like_a_hash_and_is_not_one_of_ours_is_an_error_that_does_not_show_it(
    text: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        Secret.parse(text)
    assert not any(part in str(caught.value) for part in text.split("$")[3:] if part)
    assert text.strip()[8:] not in str(caught.value)


@pytest.mark.parametrize("text", KNOWN)
def test_a_decoy_is_checked_like_the_others_and_fits_nothing(text: str) -> None:
    cost = Secret.parse(text).cost
    assert cost is not None
    one = decoy(cost)
    assert one.cost == cost
    assert one != decoy(cost)
    assert not one.matches(KNOWN[text])
    assert not one.matches("")
    # The libraries take it: they would refuse what is damaged before they begin to compute.
    assert Secret.parse(one._text) == one


@pytest.mark.parametrize("text", ["plain", "not Unicode \ud800", *KNOWN])
def test_no_password_whatever_makes_a_check_fail(text: str) -> None:
    secret = Secret.parse(text)
    for odd in ("\0", "a\0b", "\udcff", "x" * 100_000, "\N{PILE OF POO}"):
        assert not secret.matches(odd)


def test_a_secret_is_never_printed_and_equal_to_the_same() -> None:
    assert "hunter2" not in repr(Secret.parse("hunter2"))
    assert Secret.parse("a") == Secret.parse("a") != Secret.parse("b")
    (known, *_) = KNOWN
    assert known not in repr(Secret.parse(known))


def test_without_argon2_a_hash_of_it_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self, **_: object) -> None:
            raise UnsupportedAlgorithm("no")

    monkeypatch.setattr(passwords, "Argon2id", Missing)
    passwords._check_argon2.cache_clear()
    try:
        for use in (lambda: Secret.parse(next(iter(KNOWN))), lambda: hash_password("x")):
            with pytest.raises(UsageError, match="has no argon2id: take bcrypt"):
                use()
    finally:
        passwords._check_argon2.cache_clear()
