"""Command lines as people write them: options anywhere, and Go's single hyphen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio import cli
from cotun_trio.cli.app import AUTH_HINT, parse, spelled
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://h"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "AUTH"):
        monkeypatch.delenv(name, raising=False)


def plan_of(*words: str) -> Plan:
    plan = parse(words)
    assert isinstance(plan, Plan)
    return plan


# ---- options anywhere


@pytest.mark.parametrize(
    "words",
    [
        ["client", "--auth", "u:p", "-v", URL, "3000", "4000"],
        ["client", URL, "--auth", "u:p", "3000", "4000", "-v"],
        ["client", URL, "3000", "--auth", "u:p", "-v", "4000"],
        ["client", "-v", URL, "--auth=u:p", "3000", "4000"],
        ["client", "-v", URL, "3000", "4000", "--auth", "u:p"],
        ["client", "-v", URL, "--auth", "u:p", "3000", "--", "4000"],
        ["-v", "--auth", "u:p", "client", URL, "3000", "4000"],
        ["-auth", "u:p", "client", "-v", URL, "3000", "4000"],
    ],
    ids=" ".join,
)
def test_options_may_stand_anywhere(words: list[str]) -> None:
    plan = plan_of(*words)
    settings: Any = plan.settings
    assert [remote.local_port for remote in settings.remotes] == [3000, 4000]
    assert (settings.auth.user, settings.auth.password) == ("u", "p")
    assert plan.process.verbose


def test_options_that_are_repeated_may_stand_between_remotes() -> None:
    words = ("client", URL, "--header", "A: b", "1", "--remote", "2", "3", "--header", "C: d", "4")
    settings: Any = plan_of(*words).settings
    assert [remote.local_port for remote in settings.remotes] == [1, 3, 4, 2]
    assert settings.headers == (("A", "b"), ("C", "d"))


def test_addresses_may_stand_on_both_sides_of_the_users_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users.json"
    path.write_text('{"alice:secret": ["^a:1$"]}')
    path.chmod(0o600)
    assert parse(["check-auth", "alice", "--authfile", str(path), "a:1", "b:1"]) == 1
    assert capsys.readouterr().out == "a:1: allowed by '^a:1$'\nb:1: denied\n"
    with pytest.raises(UsageError, match="ADDRESS"):
        parse(["check-auth", "alice", "--authfile", str(path)])


# ---- Go's style


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-port", "8091"], {"port": 8091}),
        (["-port=8091"], {"port": 8091}),
        (["--port=8091"], {"port": 8091}),
        (["-p", "8091"], {"port": 8091}),
        (["-reverse", "-socks5=true"], {"reverse": True, "socks5": True}),
        (["-max-startups", "3"], {"max_startups": 3}),
        (["-host", "::1", "-keepalive=5s"], {"host": "::1", "keepalive": 5.0}),
    ],
    ids=str,
)
def test_options_of_a_server_may_have_one_hyphen(
    words: list[str], expected: dict[str, object]
) -> None:
    settings = plan_of("server", *words).settings
    assert {name: getattr(settings, name) for name in expected} == expected


def test_options_of_a_client_may_have_one_hyphen() -> None:
    words = ("-max-retry-count", "3", "-v", URL, "-hostname=a", "R:80", "-pid")
    plan = plan_of("client", *words)
    settings: Any = plan.settings
    assert (settings.max_retry_count, settings.hostname) == (3, "a")
    assert (plan.process.verbose, plan.process.pid) == (True, "cotun.pid")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["client", "-v", "-vv"],
        ["server", "-p8091"],
        ["server", "--keygen", "-"],
        ["client", URL, "--", "-auth"],
        ["--version"],
        ["check-auth", "-bogus"],
        ["nothing", "-port"],
    ],
    ids=str,
)
def test_other_words_stay_as_they_are(words: list[str]) -> None:
    assert spelled(words) == words


def test_help_may_have_one_hyphen_and_stand_before_the_command() -> None:
    assert spelled(["-help"]) == ["--help"]
    assert spelled(["-help", "server"]) == ["server", "--help"]


def test_an_option_that_there_is_not_is_named_as_it_was_written() -> None:
    with pytest.raises(UsageError, match="-bogus"):
        parse(["server", "-bogus"])


# ---- a password on the command line


@pytest.mark.parametrize("words", [["--auth", "u:p"], ["--auth=u:p"], ["-auth", "u:p"]])
def test_a_password_on_the_command_line_is_worth_a_hint(words: list[str]) -> None:
    assert plan_of("server", *words).hints == (AUTH_HINT,)
    assert plan_of("client", URL, "3000", *words).hints == (AUTH_HINT,)


def test_a_hash_or_a_password_from_elsewhere_is_worth_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "auth"
    file.write_text("u:p\n")
    file.chmod(0o600)
    hashed = "u:$2b$12$KIXQJ4vC1oT2b9W0aW0cVu1jF3GmI1G4o2qv8cS7Wq4Zb1x1JtYyK"
    assert not plan_of("server", "--auth", hashed).hints
    assert not plan_of("server", "--auth-from", str(file)).hints
    monkeypatch.setenv("AUTH", "u:p")
    assert not plan_of("client", URL, "3000").hints


def test_a_hint_is_printed_and_does_not_show_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Plan, "run", lambda *_: 0)
    with pytest.raises(SystemExit):
        cli.main(["server", "--auth", "u:hunter2"])
    err = capsys.readouterr().err
    assert err == f"cotun-trio: hint: {AUTH_HINT}\n"


def test_a_server_takes_its_user_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text("alice:secret\nmore\n")
    file.chmod(0o600)
    words = ("server", "--auth-from", str(file))
    settings: Any = plan_of(*words).settings
    assert (settings.auth.user, settings.auth.password) == ("alice", "secret")
    settings = plan_of(*words, "--auth", "u:p").settings
    assert settings.auth.user == "u"


def test_a_server_does_not_let_everybody_in_because_of_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text("")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="has nothing on its first line"):
        parse(["server", "--auth-from", str(file)])
