"""``cotun-trio check-auth``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cotun_trio import cli
from cotun_trio.access import hash_costs
from cotun_trio.access.passwords import decoy

if TYPE_CHECKING:
    from pathlib import Path

USERS = r"""{
  "alice:secret": ["^example\\.com:80$", "^R:0\\.0\\.0\\.0:80", "^unix:/run/", "^dns:53$"],
  "bob:secret": ["^socks$", "socks:^10\\."],
  "carol:secret": [""]
}"""


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users.json"
    path.write_text(USERS)
    path.chmod(0o600)
    return str(path)


def check(*argv: str) -> int | str | None:
    """Run the command; return its status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["check-auth", *argv])
    return caught.value.code


@pytest.mark.parametrize(
    ("user", "address", "pattern"),
    [
        ("alice", "example.com:80", r"^example\\.com:80$"),
        ("alice", "EXAMPLE.com.:80", r"^example\\.com:80$"),
        ("alice", "example.com:81", None),
        ("alice", "dns:53/udp", "^dns:53$"),
        ("alice", "R:8080", r"^R:0\\.0\\.0\\.0:80"),
        ("alice", "R:127.0.0.1:8080", None),
        ("alice", "R:unix:/run/a.sock", None),
        ("alice", "unix:/run/a.sock", "^unix:/run/"),
        ("alice", "socks", None),
        ("alice", "socks:10.0.0.1:80", None),
        ("bob", "socks", "^socks$"),
        ("bob", "socks:10.0.0.1:80", r"socks:^10\\."),
        ("bob", "socks:example.com:80", None),
        ("bob", "10.0.0.1:80", None),
        ("bob", "10.0.0.1:80/udp", r"socks:^10\\."),
        ("carol", "anything:1", ""),
    ],
)
def test_it_says_which_pattern_decides(
    users: str, user: str, address: str, pattern: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    status = check("--authfile", users, user, address)
    answer = "denied" if pattern is None else f"allowed by '{pattern}'"
    assert capsys.readouterr().out == f"{address}: {answer}\n"
    assert status == (pattern is None)


def test_one_denied_address_is_enough_for_status_1(
    users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("alice", "example.com:80", "socks", "--authfile", users) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert check("--authfile", users, "alice", "example.com:80", "dns:53") == 0


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["dave", "a:1"], "has no user 'dave'"),
        (["da\x1bve", "a:1"], r"has no user 'da\\x1bve'"),
        (["alice", "a"], "address 'a': not of the form host:port"),
        (["alice", "a:99999"], "address 'a:99999': '99999' is not a port"),
        (["alice", "127.1:80"], "address '127.1:80': '127.1' is not a host"),
        (["alice", "R:x:y:z"], "remote 'R:x:y:z"),
        (["alice", "R:80-81"], "address 'R:80-81': ask about each port of a range"),
        (["alice", "R:127.0.0.1:81-80"], "ask about each port of a range"),
        (["alice", "a:80-81"], "'80-81' is not a port"),
        (["alice", "socks:x"], "address 'socks:x': not of the form"),
    ],
)
def test_a_question_that_makes_no_sense_is_status_2(
    users: str, argv: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--authfile", users, *argv) == 2
    out, err = capsys.readouterr()
    assert not out
    *warnings, last = err.splitlines()
    assert all(line.startswith("cotun-trio: warning: ") for line in warnings)
    assert re.match(f"cotun-trio: .*{error}", last)


@pytest.mark.parametrize("argv", [["alice", "a:1"], [], ["alice"], ["--authfile", "users.json"]])
def test_a_missing_argument_is_an_error(argv: list[str]) -> None:
    assert check(*argv) != 0


def test_what_a_server_would_warn_of_is_said_here_too(
    users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check("--authfile", users, "carol", "a:1")
    warning = capsys.readouterr().err
    assert warning.startswith("cotun-trio: warning: pattern 2 of the user 'alice', ")
    assert len(warning.splitlines()) == 3


def test_a_hash_that_takes_too_long_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_costs, "SLOW", 0.0)
    path = tmp_path / "users.json"
    path.write_text(f'{{\n"alice:x": [],\n"bob:{decoy(("bcrypt", "04"))._text}": []}}')
    path.chmod(0o600)
    assert check("--authfile", str(path), "bob", "a:1") == 1
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"cotun-trio: warning: the users file {path}: line 3: a check of ")
