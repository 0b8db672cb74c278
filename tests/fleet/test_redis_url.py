"""The URL of the directory."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from cotun_trio.errors import UsageError
from cotun_trio.fleet.redis_url import RedisUrl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown", "hosts"),
    [
        ("redis://host", "redis://host:6379", [("host", 6379)]),
        ("redis://host:1/2", "redis://host:1/2", [("host", 1)]),
        ("rediss://[::1]:7", "rediss://[::1]:7", [("::1", 7)]),
        ("redis://:p%40ss@host/", "redis://:***@host:6379", [("host", 6379)]),
        ("redis://u:secret@host", "redis://u:***@host:6379", [("host", 6379)]),
        (
            "redis+sentinel://a,b:2/main/3",
            "redis+sentinel://a:26379,b:2/main/3",
            [("a", 26379), ("b", 2)],
        ),
        (
            "rediss+cluster://u:secret@a,b",
            "rediss+cluster://u:***@a:6379,b:6379",
            [("a", 6379), ("b", 6379)],
        ),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(
    text: str, shown: str, hosts: list[tuple[str, int]]
) -> None:
    url = RedisUrl.parse(text)
    assert str(url) == shown
    assert list(url.hosts) == hosts
    assert "secret" not in repr(url)
    assert url.tls is text.startswith("rediss")


def test_user_and_password_are_decoded() -> None:
    url = RedisUrl.parse("redis://al%3Aice:p%40ss@host/4")
    assert (url.user, url.password, url.database) == ("al:ice", "p@ss", 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:6379",
        "http://:secret@host",
        "redis://:secret@",
        "redis://:secret@a,b",
        "redis://:secret@host/x",
        "redis://:secret@host:x",
        "redis://:secret@host:99999",
        "redis://:secret@ho st",
        "redis://:secret@[::1",
        "redis+sentinel://:secret@host",
        "redis+cluster://:secret@host/1",
        "redis://:sec@ret@secret@host:x",
    ],
)
def test_another_url_is_refused_without_showing_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        RedisUrl.parse(text)
    assert "secret" not in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))


def test_a_password_comes_from_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("two words\nmore\n")
    file.chmod(0o600)
    url = RedisUrl.parse("redis://alice@host").with_password_from(str(file))
    assert (url.user, url.password) == ("alice", "two words")
    assert str(url) == "redis://alice:***@host:6379"


def test_a_file_without_a_password_or_that_others_can_change_is_refused(tmp_path: Path) -> None:
    file, url = tmp_path / "password", RedisUrl.parse("redis://host")
    with pytest.raises(UsageError, match="cannot read"):
        url.with_password_from(str(file))
    file.write_text("\nmore\n")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="first line"):
        url.with_password_from(str(file))
    file.write_text("secret\n")
    file.chmod(0o666)
    with pytest.raises(UsageError, match="chmod"):
        url.with_password_from(str(file))
