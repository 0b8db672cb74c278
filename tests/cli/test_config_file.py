"""The configuration file: what it means, what comes before it, and what is wrong with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio import cli
from cotun_trio.access.credentials import Credentials
from cotun_trio.cli.app import parse
from cotun_trio.cli.config_errors import MAX_ERRORS
from cotun_trio.cli.config_file import mode_warnings, warnings_about
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import UsageError
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import ClientSettings, ProcessSettings, Route, ServerSettings, ServerUrl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have nothing in the environment, and an empty working directory."""
    for name in list(os.environ):
        if name in ("HOST", "PORT", "AUTH") or name.startswith(("COTUN_", "CHISEL_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Written:
    """A file, and what command lines make of it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        path.write_text(text)
        path.chmod(0o600)

    def plan(self, *words: str) -> Plan:
        """Return the plan of a command line with the file."""
        plan = parse([*words, "--config", str(self.path)])
        assert isinstance(plan, Plan)
        return plan

    def client(self, *words: str) -> ClientSettings:
        """Return the settings of a client with the file."""
        settings = self.plan("client", *words).settings
        assert isinstance(settings, ClientSettings)
        return settings

    def server(self, *words: str) -> ServerSettings:
        """Return the settings of a server with the file."""
        settings = self.plan("server", *words).settings
        assert isinstance(settings, ServerSettings)
        return settings


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Give what writes a file."""
    return lambda text: Written(tmp_path / "cotun.toml", text)


BOTH = """
[server]
port = 7000
reverse = true
tls-domain = ["a.example", "b.example"]
auth = "alice:secret"
keepalive = "10s"
max_startups = 5
[client]
server = ["https://a.example", "https://b.example"]
remote = ["3000", "R:2222:localhost:22"]
header = ["A: b", "C: d"]
proxy-from-env = true
max-retry-count = -1
verbose = true
pid = true
log-format = "json"
"""


def test_each_command_has_its_table_with_its_options_by_their_names(written: Any) -> None:
    file = written(BOTH)
    server = file.server()
    assert (server.port, server.reverse, server.keepalive, server.max_startups) == (
        7000,
        True,
        10,
        5,
    )
    assert server.tls is not None
    assert server.tls.domains == ("a.example", "b.example")
    assert server.auth == Credentials("alice", "secret")
    client = file.client()
    routes = tuple(
        Route(ServerUrl.parse(url)) for url in ("https://a.example", "https://b.example")
    )
    assert client.routes == routes
    assert client.remotes == (Remote.parse("3000"), Remote.parse("R:2222:localhost:22"))
    assert client.headers == (("A", "b"), ("C", "d"))
    assert client.max_retry_count == -1
    process = ProcessSettings(verbose=True, pid="cotun.pid", log_format="json")
    assert file.plan("client").process == process
    assert file.plan("server").process == ProcessSettings()


def test_figures_of_users_are_for_an_admin_interface_only(written: Any) -> None:
    on = written('[server]\nadmin-listen = "9110"\nmetrics-per-user = true')
    assert on.server().metrics_per_user is True
    assert written('[server]\nadmin-listen = "9110"').server().metrics_per_user is False
    with pytest.raises(UsageError, match="--metrics-per-user is for --admin-listen only"):
        written("[server]\nmetrics-per-user = true").server()


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(BOTH)
    monkeypatch.setenv("PORT", "7001")
    monkeypatch.setenv("AUTH", "bob:hunter2")
    assert file.server().port == 7001
    assert file.server("--port", "7002").port == 7002
    assert file.server().auth == Credentials("bob", "hunter2")
    assert file.server("--keepalive", "1s").keepalive == 1


def test_arguments_of_the_command_line_replace_those_of_the_file(written: Any) -> None:
    file = written(BOTH)
    client = file.client("https://c.example")
    assert client.routes == (Route(ServerUrl.parse("https://c.example")),)
    assert len(client.remotes) == 2
    client = file.client("https://c.example", "4000")
    assert client.remotes == (Remote.parse("4000"),)
    client = file.client("--server", "https://d.example", "--remote", "5000")
    assert client.routes == (Route(ServerUrl.parse("https://d.example")),)
    assert client.remotes == (Remote.parse("5000"),)


def test_more_servers_and_remotes_on_the_command_line_are_added_to_the_first() -> None:
    plan = parse(
        ["client", "--server", "b.example", "a.example", "1", "2", "--remote", "3", "--server=c"]
    )
    assert isinstance(plan, Plan)
    assert isinstance(plan.settings, ClientSettings)
    assert [route.server.host for route in plan.settings.routes] == ["a.example", "b.example", "c"]
    assert plan.settings.remotes == tuple(map(Remote.parse, "123"))
    assert not plan.from_file


def test_a_remote_may_be_a_table(written: Any) -> None:
    file = written(
        """
[client]
server = "http://a"

[[client.remote]]
remote = "R:80:web:8080"
proxy = "v2"
allow = ["10.0.0.0/8"]

[[client.remote]]
remote = "3000"
"""
    )
    assert list(file.client().remotes) == [
        Remote.parse("R:80:web:8080,proxy=v2,allow=10.0.0.0/8"),
        Remote.parse("3000"),
    ]


def test_a_switch_of_the_file_can_be_turned_off(written: Any) -> None:
    file = written('[server]\nreverse = true\nsocks5 = false\npid = false\n[client]\npid = "/a"\n')
    assert file.server().reverse
    assert not file.server("--reverse=false").reverse
    assert not file.server().socks5
    assert file.plan("server").process.pid is None


WRONG = [
    ("[server]\nprot = 1", r"\[server\]: there is no option 'prot'; did you mean 'port'\?"),
    ("[client]\nservers = ['a']", "no option 'servers'; did you mean 'server'"),
    ("[server]\nmax_startup = 1", "did you mean 'max-startups'"),
    ("[server]\nzzzzzz = 1", "there is no option 'zzzzzz'$"),
    ("[server]\nkeygen = 'a'", "there is no option 'keygen'"),
    ("[server]\nconfig = 'a'", "there is no option 'config'"),
    ("[serve]\nport = 1", r"there is no \[serve\]; did you mean 'server'\?"),
    ("port = 1", r"there is no \[port\]"),
    ("server = 1", r"server is a table, and begins with a line \[server\]"),
    ("[server]\nport = 'x'", "port"),
    ("[server]\nport = 65536", "65536"),
    ("[server]\nport = [1, 2]", "port"),
    ("[server]\nport = {a = 1}", "port"),
    ("[server]\nauth = 'hunter2'", "user:password"),
    ("[server]\nkeepalive = 5", "5"),
    ("[server", "configuration file .*line 1|at end of document|Expected"),
    ("[server]\nport = 1\nport = 2", "Cannot overwrite a value"),
    ("[client]\nremote = " + "[" * 5000, "brackets in brackets without end"),
    ("[server]\n'\x1b' = 1", "cotun.toml"),
    ('[server]\n"\\u001b[2J" = 1', r"no option '\\x1b\[2J'"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said(
    text: str, said: str, written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(text)
    words = ["client", "https://a", "1"] if "[client]" in text else ["server"]
    with pytest.raises(UsageError, match=said) as caught:
        file.plan(*words)
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SystemExit) as ended:
        cli.main(["config", "check", str(file.path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("cotun-trio: ")


@pytest.mark.parametrize("kind", ["missing", "directory", "bytes", "large"])
def test_a_file_that_cannot_be_read_is_said(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cotun.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\xff")
    elif kind == "large":
        monkeypatch.setattr("cotun_trio.cli.config_file.MAX_SIZE", 10)
        path.write_text("#" * 11)
    with pytest.raises(UsageError, match=r"configuration file .*cotun\.toml"):
        parse(["server", "--config", str(path)])


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o600, "[server]\nauth = 'a:b'", None),
        (0o644, "[server]\nauth = 'a:b'", "holds a secret and can be read by everybody"),
        (0o644, "[server]\nport = 1", None),
        (0o666, "[server]\nport = 1", "can be changed by everybody"),
    ],
)
def test_a_file_that_is_open_to_others_is_warned_of(
    mode: int, text: str, said: str | None, written: Any
) -> None:
    file = written(text)
    file.path.chmod(mode)
    warnings = file.plan("server").warnings
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_a_file_with_a_secret_that_others_can_change_is_refused(written: Any) -> None:
    file = written("[server]\nauth = 'a:b'")
    file.path.chmod(0o602)
    with pytest.raises(UsageError, match=r"the configuration file .* chmod go-w"):
        file.plan("server")


# ---- check


def check(path: Path) -> int:
    """Run the check, and return its status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["config", "check", str(path)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_file_that_has_gone_a_moment_ago_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*gone: No such file"):
        warnings_about(str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"cannot read .*gone: No such file"):
        mode_warnings(str(tmp_path / "gone"), [])


def test_a_good_file_is_fine(written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(BOTH)
    assert check(file.path) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"{file.path}, [{name}]: fine\n" for name in ("server", "client"))
    assert "will look for this server on port 443" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nauthfile = 'users.json'", "cannot read the users file users.json"),
        ("[server]\ntls-cert = 'a'\ntls-key = 'b'", "[server]: "),
        ("[client]\nserver = ['https://a']\nremote = ['1']\ntls-ca = 'a'", "[client]: "),
        ("[client]\nserver = ['https://a']", "there is no REMOTE"),
        ("[client]\nremote = ['1']", "there is no SERVER"),
        ("", "it has no [server] and no [client]"),
    ],
)
def test_what_the_file_names_is_looked_at(
    text: str, said: str, written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(written(text).path) == 2
    assert said in capsys.readouterr().err


MANY: list[tuple[str, list[str]]] = [
    (
        "[server]\nprot = 1\nkeepalive = 'x'\nmax-starts = 1\nport = 'y'\npath = 'z'",
        [
            "[server]: there is no option 'prot'; did you mean 'port'?",
            "[server]: there is no option 'max-starts'; did you mean",
            "[server]: Invalid value for [port] from",
            "[server]: 'x' ",
            "[server]: --path 'z': write it like /tunnel",
        ],
    ),
    (
        "[client]\nremote = ['1', 'a:b:c:d:e', '2', 'R:R:1', 'a:b:c:d:e']\nfingerprint = 'x'",
        [
            "[client]: there is no SERVER",
            "'a:b:c:d:e'",
            "'R:R:1'",
            "'x' is not a fingerprint",
        ],
    ),
    (
        "[server]\nkeepalive = 'x'\nport = 70000\n[client]\nkeepalive = 'x'\nremote = '1'\n[serve]",
        [
            "there is no [serve]",
            "[server]: 'x' ",
            "[server]: 70000",
            "[client]: ",
            "[client]: ",
        ],
    ),
    (  # without both of them, it is another error: that one does not count
        "[server]\ntls-cert = 'a'\ntls-key = 'b'\nbackend = 'http://a/b'\nauthfile = 'c'",
        ["[server]: ", "[server]: ", "[server]: "],
    ),
    (  # the same words for two options
        "[client]\nserver = 'a'\nremote = '1'\nkeepalive = 'x'\nmax-retry-interval = 'x'\nsni = 1",
        ["[client]: ", "[client]: "],
    ),
    ("[client]\nserver = 'a'\nremote = ['stdio:a:1', 'stdio:a:2']", ["[client]: only one remote"]),
]


@pytest.mark.parametrize(("text", "said"), MANY, ids=range(len(MANY)))
def test_all_errors_are_said_once_each(
    text: str, said: list[str], written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(written(text).path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said) == len(set(lines)), lines
    left = list(lines)
    for words in sorted(said, key=len, reverse=True):
        left.remove(next(line for line in left if words in line))
    assert all(line.count("configuration file") <= 1 for line in lines)


def test_an_error_that_is_not_from_the_file_is_said_once(
    written: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTUN_WS_TIMEOUT", "x")
    assert check(written(BOTH).path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "COTUN_WS_TIMEOUT" in line


def test_a_table_without_end_of_errors_comes_to_one(
    written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "\n".join(f"zz{number} = 1" for number in range(MAX_ERRORS + 1))
    assert check(written(f"[server]\n{names}").path) == 2
    assert len(capsys.readouterr().err.splitlines()) == MAX_ERRORS


def test_a_file_that_others_can_change_is_said_once_and_the_rest_is_looked_at(
    written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("[server]\nauth = 'a:b'\nport = 70000\n[client]\nauth = 'a:b'")
    file.path.chmod(0o602)
    assert check(file.path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert sum("chmod go-w" in line for line in lines) == 1


# ---- credentials from a file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"alice:secret\n", Credentials("alice", "secret")),
        (b"alice:se:cret\r\nmore", Credentials("alice", "se:cret")),
        (b"alice: secret ", Credentials("alice", " secret ")),
        (b"\n", None),
        (b"", None),
    ],
)
def test_credentials_can_be_in_a_file_of_their_own(
    content: bytes, expected: Credentials | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth").write_bytes(content)

    def auth(*words: str) -> Credentials | None:
        plan = parse(["client", "a", "1", "--auth-from", "auth", *words])
        assert isinstance(plan, Plan)
        return plan.settings.auth

    assert auth() == expected
    assert auth("--auth", "bob:hunter2") == Credentials("bob", "hunter2")


@pytest.mark.parametrize("content", [b"hunter2", b"\xff:hunter2", None])
def test_a_file_with_no_credentials_is_an_error_that_shows_nothing_of_it(
    content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "auth").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        parse(["client", "a", "1", "--auth-from", "auth"])
    assert "hunter2" not in str(caught.value)
