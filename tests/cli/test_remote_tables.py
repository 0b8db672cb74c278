"""Remotes in a configuration file that are tables."""

from __future__ import annotations

from typing import Any

import pytest

from cotun_trio.cli.remote_tables import write_out_remotes
from cotun_trio.errors import UsageError


def as_texts(remotes: object, where: str) -> object:
    """Return what becomes of the remotes in a table."""
    table = {"remote": remotes, "other": {}}
    write_out_remotes(table, where)
    assert table["other"] == {}
    return table["remote"]


def test_a_table_is_a_remote_with_its_options() -> None:
    remotes = [
        "3000",
        {"remote": "R:80:web:8080", "proxy": "v2", "allow": ["10.0.0.0/8", "::1"]},
        {"remote": "R:81:web:8080", "allow": "10.0.0.0/8"},
        {"remote": "8080"},
    ]
    assert as_texts(remotes, "here") == [
        "3000",
        "R:80:web:8080,proxy=v2,allow=10.0.0.0/8,allow=::1/128",
        "R:81:web:8080,allow=10.0.0.0/8",
        "8080",
    ]
    assert as_texts({"remote": "80", "proxy": "v1"}, "here") == ["80,proxy=v1"]
    assert as_texts("3000", "here") == "3000"


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"remote": "80", "prox": "v1"}, "no key 'prox': there are remote, proxy, allow"),
        ({"proxy": "v1"}, "has the text of one remote"),
        ({"remote": 80}, "remote is a text"),
        ({"remote": "80", "proxy": 1}, "proxy is a text"),
        ({"remote": "80", "allow": [1]}, "allow is a text"),
        ({"remote": "u:secret@socks", "proxy": "v3"}, "proxy is v1 or v2, not 'v3'"),
        ({"remote": "80", "allow": ["10/8"]}, "'10/8' is no network"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=f"here: remote: .*{why}") as caught:
        as_texts([table], "here")
    assert "secret" not in str(caught.value)
