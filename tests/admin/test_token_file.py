"""The file of the token: made if it is missing, and for us alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio.admin.token_file import read_or_make
from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_file_is_made_and_then_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token, made = read_or_make(str(path))
    assert made
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 43
    assert read_or_make(str(path)) == (token, False)


def test_a_token_of_ones_own_will_do(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abcdefgh-0123456\nsecond line\n")
    path.chmod(0o600)
    assert read_or_make(str(path)) == ("abcdefgh-0123456", False)


@pytest.mark.parametrize("content", ["", "\n", "short\n", "with a blank in it, and long\n"])
def test_a_file_without_a_token_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="has no token"):
        read_or_make(str(path))


def test_a_file_that_everybody_can_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abcdefgh-0123456\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        read_or_make(str(path))


@pytest.mark.parametrize("path", ["/nowhere/token", "a\0b"])
def test_a_file_that_cannot_be_made_is_an_error(path: str) -> None:
    with pytest.raises(UsageError, match="cannot make the admin token's file"):
        read_or_make(path)
