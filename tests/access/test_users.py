"""Credentials and the one user, held against how chisel reads the same text."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest

from cotun_trio.access.users import Credentials, Users
from cotun_trio.errors import UsageError

VECTORS = Path(__file__).parents[1] / "vectors"
GO = {
    row["Auth"]: (row["User"], row["Pass"])
    for row in json.loads((VECTORS / "auth.json").read_text())
}
NO_COLON = {"", "user"}
"""To Go, these are no user and no password: a server lets everybody in then, without a word."""


@pytest.mark.parametrize("text", sorted(set(GO) - NO_COLON))
def test_credentials_are_read_as_go_reads_them(text: str) -> None:
    credentials = Credentials.parse(text)
    assert (credentials.user, credentials.password) == GO[text]


@pytest.mark.parametrize("text", [*sorted(NO_COLON), "hunter2", "ÿ"])
def test_without_a_colon_they_are_the_users_error_which_does_not_show_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Credentials.parse(text)
    assert not text or text not in str(caught.value).replace("user:password", "")


def test_bytes_that_are_not_utf8_are_the_users_error() -> None:
    # SSH has them as UTF-8, and so they would fail later, in the middle of a login.
    with pytest.raises(UsageError) as caught:
        Credentials.parse(b"user:caf\xe9".decode("utf-8", "surrogateescape"))
    assert "caf" not in str(caught.value)


def test_a_password_is_never_printed() -> None:
    credentials = Credentials.parse("alice:hunter2")
    assert "hunter2" not in repr(credentials)
    assert "hunter2" not in str(credentials)
    assert "hunter2" not in f"{Users(credentials)!r} {vars(Users(credentials))}"
    assert "alice" in repr(credentials)


def test_without_users_everybody_is_let_in() -> None:
    assert Users().verify("", "")
    assert Users().verify("anybody", "at all")


@pytest.mark.parametrize(
    ("user", "password", "may"),
    [
        ("alice", "hunter2", True),
        ("alice", "hunter3", False),
        ("alice", "hunter", False),
        ("alice", "hunter22", False),
        ("alice", "", False),
        ("alicf", "hunter2", False),
        ("Alice", "hunter2", False),
        ("", "hunter2", False),
        ("", "", False),
        ("hunter2", "alice", False),
        ("alice:hunter2", "", False),
        ("alice\0", "hunter2", False),
    ],
)
def test_one_user_is_let_in_with_the_right_password_only(
    user: str, password: str, may: bool
) -> None:
    assert Users(Credentials("alice", "hunter2")).verify(user, password) is may


def test_an_empty_user_and_an_empty_password_are_some_too() -> None:
    users = Users(Credentials("", ""))
    assert users.verify("", "")
    assert not users.verify("", "x")
    assert not users.verify("x", "")


def test_names_and_passwords_may_be_in_any_script() -> None:
    users = Users(Credentials.parse("ünal:пароль"))
    assert users.verify("ünal", "пароль")
    assert not users.verify("u\N{COMBINING DIAERESIS}nal", "пароль")  # looks the same, and is not


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_no_takes_the_same_steps_whichever_is_wrong(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    compare = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    assert not Users(Credentials("alice", "hunter2")).verify(user, "wrong")
    assert compared == [user.encode(), b"wrong"]
