"""The command line: every option and variable, what is refused, and what help says."""

from __future__ import annotations

import inspect
import os
import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from cotun_trio import __version__, cli, daemon
from cotun_trio.access.credentials import Credentials
from cotun_trio.protocol.proxy_url import ProxyUrl
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import (
    ClientSettings,
    ClientTls,
    ProcessSettings,
    ServerAcme,
    ServerSettings,
    ServerTls,
    ServerUrl,
    Timings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FINGERPRINT = "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw="
STATUS = 42
"""What the program under the command line ends with."""


@attrs.frozen
class Run:
    """What the command line started."""

    settings: Any
    process: ProcessSettings
    reread: Callable[[], ClientSettings] | None = None


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Collect what is started, and start nothing; with nothing in the environment."""
    for name in list(os.environ):
        if name in ("HOST", "PORT", "AUTH") or name.startswith(("COTUN_", "CHISEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    found: list[Run] = []

    def starter(kind: type) -> Callable[..., int]:
        def run(settings: object, process: ProcessSettings, **options: Any) -> int:
            assert type(settings) is kind
            found.append(Run(settings, process, **options))
            return STATUS

        return run

    monkeypatch.setattr(daemon, "run_server", starter(ServerSettings))
    monkeypatch.setattr(daemon, "run_client", starter(ClientSettings))
    return found


def call(*argv: str) -> int | str | None:
    """Run the command line; return its status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    return caught.value.code


@pytest.fixture
def server(runs: list[Run]) -> Callable[..., ServerSettings]:
    """Give what turns options into the settings of a server."""

    def settings(*argv: str) -> ServerSettings:
        assert call("server", *argv) == STATUS
        got: ServerSettings = runs.pop().settings
        return got

    return settings


@pytest.fixture
def client(runs: list[Run]) -> Callable[..., ClientSettings]:
    """Give what turns options into the settings of a client."""

    def settings(*argv: str) -> ClientSettings:
        assert call("client", *argv) == STATUS
        got: ClientSettings = runs.pop().settings
        return got

    return settings


# ---- the server


def test_a_server_needs_no_options(server: Callable[..., ServerSettings]) -> None:
    assert server() == ServerSettings()
    assert (server().host, server().port, server().keepalive) == ("0.0.0.0", 8080, 25)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--host", "127.0.0.1"], {"host": "127.0.0.1"}),
        (["--host", "::1"], {"host": "::1"}),
        (["--port", "3000"], {"port": 3000}),
        (["--port=0"], {"port": 0}),
        (["-p", "3000"], {"port": 3000}),
        (["--auth", "alice:hun:ter"], {"auth": Credentials("alice", "hun:ter")}),
        (["--auth", ":"], {"auth": Credentials("", "")}),
        (["--authfile", "users.json"], {"authfile": "users.json"}),
        (["--max-auth-failures", "3"], {"max_auth_failures": 3}),
        (["--max-startups", "0"], {"max_startups": 0}),
        (["--max-startups-per-source", "5"], {"max_startups_per_source": 5}),
        (["--max-user-sessions", "5"], {"max_user_sessions": 5}),
        (["--max-connections", "5"], {"max_connections": 5}),
        (["--max-session-connections", "5"], {"max_session_connections": 5}),
        (["--reverse"], {"reverse": True}),
        (["--socks5"], {"socks5": True}),
        (["--unix"], {"unix": True}),
        (["--path", "/tunnel"], {"path": "/tunnel"}),
        (["--backend", "http://a:1"], {"backend": ServerUrl.parse("http://a:1")}),
        (["--proxy", "https://a"], {"backend": ServerUrl.parse("https://a")}),
        (
            ["--backend", "http://a:1", "--backend-upgrade", "mqtt", "--backend-upgrade", "x/2"],
            {"backend": ServerUrl.parse("http://a:1"), "backend_upgrades": ("mqtt", "x/2")},
        ),
        (
            ["--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1"],
            {"trusted_proxies": (ip_network("10.0.0.0/8"), ip_network("::1"))},
        ),
        (["--health-listen", "8081"], {"health_listen": ("127.0.0.1", 8081)}),
        (["--health-listen", "[::1]:8081"], {"health_listen": ("::1", 8081)}),
        (
            ["--tls-cert", "a", "--tls-key", "b", "--tls-ca", "c"],
            {"tls": ServerTls(cert="a", key="b", ca="c")},
        ),
        (["--keepalive", "1m30s"], {"keepalive": 90.0}),
        (["--keepalive", "0s"], {"keepalive": 0.0}),
    ],
)
def test_every_option_of_a_server_counts(
    argv: list[str], expected: dict[str, Any], server: Callable[..., ServerSettings]
) -> None:
    assert server(*argv) == attrs.evolve(ServerSettings(), **expected)


def test_the_environment_speaks_where_no_option_does(
    server: Callable[..., ServerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "127.0.0.1")
    monkeypatch.setenv("PORT", "3000")
    monkeypatch.setenv("AUTH", "alice:hunter2")
    auth = Credentials("alice", "hunter2")
    assert server() == ServerSettings(host="127.0.0.1", port=3000, auth=auth)
    assert server("--host", "::1", "-p", "1", "--auth", "b:c") == ServerSettings(
        host="::1", port=1, auth=Credentials("b", "c")
    )


def test_certificates_by_acme_are_asked_for_by_name(
    server: Callable[..., ServerSettings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    names = ("--tls-domain", "A.example", "--tls-domain", "b.example.")
    settings = server(*names, "--port", "443", "--tls-ca", "c")
    assert settings.tls == ServerAcme(
        domains=("a.example", "b.example"), cache="/var/cache/cotun", clients="c"
    )
    assert not capsys.readouterr().err
    monkeypatch.setenv("COTUN_LE_CACHE", "-")
    monkeypatch.setenv("COTUN_LE_EMAIL", "root@example.com")
    monkeypatch.setenv("COTUN_LE_DIRECTORY", "https://ca.example/dir")
    monkeypatch.setenv("COTUN_LE_CA", "ca.pem")
    assert server(*names[:2]).tls == ServerAcme(
        domains=("a.example",),
        email="root@example.com",
        directory="https://ca.example/dir",
        ca="ca.pem",
    )
    assert "on port 443, and it listens on 8080" in capsys.readouterr().err


def test_an_empty_variable_is_none(
    server: Callable[..., ServerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOST", "PORT", "AUTH", "COTUN_SSH_TIMEOUT"):
        monkeypatch.setenv(name, "")
    assert server() == ServerSettings()


# ---- the client


def expected_client(*remotes: str, **settings: Any) -> ClientSettings:
    """Return settings of a client of example.com."""
    return ClientSettings(
        server=ServerUrl.parse("http://example.com"),
        remotes=tuple(map(Remote.parse, remotes)),
        **settings,
    )


def test_a_client_needs_a_server_and_remotes(client: Callable[..., ClientSettings]) -> None:
    assert client("http://example.com", "3000") == expected_client("3000")
    many = ("3000", "localhost:5000:db:5432", "[::1]:80:example.com:443")
    assert client("example.com", *many) == expected_client(*many)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--fingerprint", FINGERPRINT], {"fingerprint": FINGERPRINT}),
        (["--auth", "alice:hunter2"], {"auth": Credentials("alice", "hunter2")}),
        (["--keepalive", "10s"], {"keepalive": 10.0}),
        (["--max-retry-count", "3"], {"max_retry_count": 3}),
        (["--max-connections", "7"], {"max_connections": 7}),
        (["--connections", "2"], {"connections": 2}),
        (["--max-retry-count", "0"], {"max_retry_count": 0}),
        (["--max-retry-count", "-1"], {"max_retry_count": -1}),
        (["--max-retry-interval", "10s"], {"max_retry_interval": 10.0}),
        (["--min-retry-interval", "3s"], {"min_retry_interval": 3.0}),
        (["--header", "A: b"], {"headers": (("A", "b"),)}),
        (["--header", "A: b", "--header", "A: c:d"], {"headers": (("A", "b"), ("A", "c:d"))}),
        (["--hostname", "other.example"], {"hostname": "other.example"}),
        (["--proxy", "socks5h://a:b@c"], {"proxy": ProxyUrl.parse("socks5h://a:b@c")}),
        (["--protocol", "auto"], {"protocol": "auto"}),
        (["--protocol", "chisel"], {"protocol": "chisel"}),
        (["--protocol", "cotun"], {"protocol": "cotun"}),
    ],
)
def test_every_option_of_a_client_counts(
    argv: list[str], expected: dict[str, object], client: Callable[..., ClientSettings]
) -> None:
    settings = expected_client("3000", **expected)
    assert client(*argv, "http://example.com", "3000") == settings
    assert client("http://example.com", *argv, "3000") == settings
    assert client("http://example.com", "3000", *argv) == settings


def test_the_environments_proxy_is_used_where_that_is_asked_for(
    client: Callable[..., ClientSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://a:3128")
    assert client("https://example.com", "3000").proxy is None
    proxy = ProxyUrl.parse("http://a:3128")
    assert client("https://example.com", "3000", "--proxy-from-env").proxy == proxy
    assert client("http://example.com", "3000", "--proxy-from-env").proxy is None
    other = client("https://example.com", "3000", "--proxy-from-env", "--proxy", "b:1").proxy
    assert other == ProxyUrl.parse("http://b:1")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--tls-ca", "a"], ClientTls(ca="a")),
        (["--tls-cert", "a", "--tls-key", "b"], ClientTls(cert="a", key="b")),
        (["--sni", "a.example"], ClientTls(sni="a.example")),
        (["--tls-skip-verify"], ClientTls(skip_verify=True)),
    ],
)
def test_every_option_about_tls_counts(
    argv: list[str],
    expected: ClientTls,
    client: Callable[..., ClientSettings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert client(*argv, "https://example.com", "3000").tls == expected
    warned = (
        "TLS is not verified; only --fingerprint identifies the server" in capsys.readouterr().err
    )
    assert warned == expected.skip_verify


def test_a_clients_credentials_may_come_from_the_environment(
    client: Callable[..., ClientSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH", "alice:hunter2")
    assert client("example.com", "3000").auth == Credentials("alice", "hunter2")
    assert client("example.com", "3000", "--auth", "b:c").auth == Credentials("b", "c")
    monkeypatch.setenv("AUTH", "")
    assert client("example.com", "3000").auth is None


# ---- both


BOTH = pytest.mark.parametrize(
    "argv", [["server"], ["client", "example.com", "3000"]], ids=["server", "client"]
)


@BOTH
def test_the_times_come_from_the_environment(
    argv: list[str], runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTUN_DIAL_TIMEOUT", "300ms")
    monkeypatch.setenv("COTUN_REKEY_BYTES", "1048576")
    call(*argv)
    assert runs[0].settings.timings == Timings(dial_timeout=0.3, rekey_bytes=1048576)


@BOTH
def test_how_to_run_is_told_apart_from_what_to_do(argv: list[str], runs: list[Run]) -> None:
    for options, expected in (
        ([], ProcessSettings()),
        (["--verbose"], ProcessSettings(verbose=True)),
        (["-v"], ProcessSettings(verbose=True)),
        (["--trace"], ProcessSettings(trace=True)),
        (["-vv"], ProcessSettings(trace=True)),
        (["--pid"], ProcessSettings(pid="cotun.pid")),
        (["--pid", "-v"], ProcessSettings(verbose=True, pid="cotun.pid")),
        (["--pid=/run/a.pid"], ProcessSettings(pid="/run/a.pid")),
        (["--log-format", "json"], ProcessSettings(log_format="json")),
    ):
        call(*argv, *options)
        assert runs.pop().process == expected


@BOTH
def test_the_status_is_the_programs(argv: list[str]) -> None:
    assert call(*argv) == STATUS


# ---- what is refused


C = ["client", "example.com", "3000"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["server", "--port", "http"], "http"),
        (["server", "--port", "65536"], "65536"),
        (["server", "--port", "-1"], "-1"),
        (["server", "--port"], "port"),
        (["server", "--keepalive", "25"], "25"),
        (["server", "--keepalive", "-5s"], "keepalive"),
        (["server", "--auth", "nocolon"], "--auth (or AUTH in the environment): credentials are"),
        (["server", "--auth", ""], "user:password"),
        (["server", "--tls-cert", "a"], "--tls-cert needs --tls-key"),
        (["server", "--tls-key", "a"], "--tls-key needs --tls-cert"),
        (["server", "--tls-ca", "a"], "--tls-ca needs --tls-cert"),
        (["server", "--backend", "http://a/b"], "no path"),
        (["server", "--backend", "ftp://a"], "ftp"),
        (["server", "--backend-upgrade", "mqtt"], "--backend only"),
        (["server", "--backend", "http://a", "--backend-upgrade", "a b"], "a b"),
        (["server", "--trusted-proxy", "10.0.0.0/33"], "10.0.0.0/33"),
        (["server", "--health-listen", "a:b"], "not a port"),
        (["server", "--tls-domain", "a.example", "--tls-cert", "a"], "give one of them"),
        (["server", "--tls-domain", "localhost"], "not a full name"),
        (["server", "--tls-domain", "192.0.2.1"], "not a full name"),
        (["server", "--tls-domain", "a b.example"], "not a host name"),
        (["server", "--path", "tunnel"], "/tunnel"),
        (["server", "--path", "/a?b"], "/tunnel"),
        (["server", "--max-startups", "-1"], "--max-startups"),
        (["server", "--max-user-sessions", "-1"], "--max-user-sessions"),
        (["server", "--max-connections", "-1"], "--max-connections"),
        (["server", "--max-session-connections", "-1"], "--max-session-connections"),
        ([*C, "--max-connections", "-1"], "--max-connections"),
        ([*C, "--log-format", "xml"], "xml"),
        ([*C, "--server", "ftp://a"], "ftp"),
        ([*C, "--remote", "a:b:c:d:e"], "a:b:c:d:e"),
        (["server", "--bogus"], "--bogus"),
        (["server", "extra"], "extra"),
        (["client"], "SERVER"),
        (["client", "http://example.com"], "REMOTE"),
        (["client", "ftp://example.com", "3000"], "ftp"),
        (["client", "http://example.com:99999", "3000"], "99999"),
        (["client", "example.com", "99999"], "99999"),
        (["client", "example.com", "3000", "a:b:c:d:e"], "a:b:c:d:e"),
        ([*C, "--fingerprint", "ab:cd"], "ab:cd"),
        ([*C, "--fingerprint", ""], "fingerprint"),
        ([*C, "--auth", "nocolon"], "--auth (or AUTH in the environment): credentials are"),
        ([*C, "--auth", ""], "user:password"),
        (["client", "https://a", "1", "--tls-cert", "a"], "--tls-cert needs --tls-key"),
        (["client", "https://a", "1", "--tls-key", "a"], "--tls-key needs --tls-cert"),
        ([*C, "--proxy", "ftp://a"], "no proxy's URL"),
        ([*C, "--keepalive", "often"], "often"),
        ([*C, "--max-retry-count", "many"], "many"),
        ([*C, "--max-retry-interval", "5"], "5"),
        ([*C, "--header", "no colon"], "Name: value"),
        ([*C, "--header", "A: b\r\nHost: evil"], "control character"),
        ([*C, "--header", "Host: evil"], "Host"),
        ([*C, "--hostname", "a b"], "a b"),
        ([*C, "--protocol", "ssh"], "ssh"),
        ([*C, "--bogus", "x"], "--bogus"),
        (["serve"], "serve"),
    ],
    ids=lambda value: " ".join(value)[-30:] if isinstance(value, list) else "",
)
def test_a_bad_command_line_says_what_is_wrong_and_starts_nothing(
    argv: list[str], said: str, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*argv) not in (0, None, STATUS)
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert "Traceback" not in err
    assert all(line.isprintable() for line in err.splitlines())
    assert not runs


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("AUTH", "nocolon"), ("COTUN_WS_TIMEOUT", "5")]
)
def test_a_bad_variable_is_refused_too(
    name: str,
    value: str,
    runs: list[Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert call("server") not in (0, None, STATUS)
    assert capsys.readouterr().err
    assert not runs


def test_what_the_program_does_not_understand_is_shown_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call("client", "example.com", "3000\x1b[2J\n")
    assert r"3000\x1b[2J\n" in capsys.readouterr().err


# ---- help


OPTIONS: dict[str, Any] = {
    "server": cli.server.server,
    "client": cli.client.client,
    "doctor": cli.doctor.doctor,
    "check-auth": cli.check_auth.check_auth,
    "hash-password": cli.hash_password.hash_password,
}


def helped(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return what help says."""
    assert call(*argv) in (0, None)
    out, err = capsys.readouterr()
    assert not err
    return out


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("ask", ["--help", "-h"])
def test_help_names_every_option(
    command: str, ask: str, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    said = helped(capsys, command, ask)
    for name, parameter in inspect.signature(OPTIONS[command]).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            several = attrs.has(type(parameter.default))  # options in a class of their own
            names = [f.name for f in attrs.fields(type(parameter.default))] if several else [name]
            for each in names:
                option = "--" + each.replace("_", "-")
                assert re.search(rf"{option}(?![\w-])", said), option
    for field in attrs.fields(Timings):
        assert (f"COTUN_{field.name.upper()}" in said) == (command in ("server", "client"))
    assert not runs


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--help"],
        ["config"],
        ["config", "-h"],
        ["config", "-help"],
        ["config", "check", "-h"],
        ["forget", "--help"],
        *([name, "--help"] for name in OPTIONS),
    ],
    ids=" ".join,
)
def test_help_has_80_columns_at_the_most_whatever_the_terminal(
    argv: list[str],
    columns: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, helped(capsys, *argv).splitlines())) <= 80


@pytest.mark.parametrize("command", OPTIONS)
def test_the_notes_below_the_help_are_not_broken_again(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = cli.app.app[command].help_epilogue
    assert isinstance(notes, str)
    said = helped(capsys, command, "--help").splitlines()
    assert {line.rstrip() for line in notes.splitlines()} <= {line.rstrip() for line in said}


def test_help_fits_a_narrower_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, helped(capsys, "server", "--help").splitlines())) <= 60


SERVER = "Connection, Host key, Users, Rights of clients, Limits, Fleet, TLS, HTTP, Process, Log"


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("server", SERVER),
        ("client", "Arguments, Connection, Host key, Users, Limits, TLS, HTTP, Process, Log"),
    ],
)
def test_help_has_the_options_in_named_groups(
    command: str, groups: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.findall(
        "^╭─ (.*?) ─", helped(capsys, command, "--help"), re.MULTILINE
    ) == groups.split(", ")


def test_help_names_the_commands_and_comes_without_being_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = helped(capsys, "--help")
    for command in OPTIONS:
        assert re.search(rf"\b{command}\b", said)
    assert helped(capsys) == said


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert helped(capsys, "--version").strip() == f"cotun-trio {__version__}"


@pytest.mark.parametrize(
    "argv",
    [
        ["server", "--auth", "alice:hunter2", "--port", "http"],
        ["server", "--auth", "hunter2"],
        ["server", "--auth", "alice:hunter2", "--bogus"],
        ["server", "--help"],
        ["client", "--help"],
        ["doctor", "--help"],
        ["doctor", "http://alice:hunter2@example.com"],
        ["doctor", "http://127.0.0.1:1", "--proxy", "http://alice:hunter2@127.0.0.1:1"],
        ["doctor", "http://127.0.0.1:1", "--auth", "alice:hunter2"],
        ["client", "http://alice:hunter2@example.com", "3000"],
        ["client", "https://alice:hunter2@example.com", "3000"],
        ["client", "http://alice:hunter2@example.com:99999", "3000"],
        [*C, "--auth", "alice:hunter2", "--keepalive", "x"],
        [*C, "--header", "Authorization Basic hunter2"],
        [*C, "--header", "Cookie: hunter2\x01"],
    ],
    ids=lambda argv: " ".join(argv)[:40],
)
def test_a_password_is_never_printed(
    argv: list[str],
    runs: list[Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AUTH", "bob:hunter2")
    call(*argv)
    out, err = capsys.readouterr()
    assert out or err
    assert "hunter2" not in out + err
    assert not runs
