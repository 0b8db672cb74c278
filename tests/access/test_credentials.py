"""Credentials, held against how chisel reads the same text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotun_trio.access.credentials import Credentials
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
    assert "alice" in repr(credentials)
